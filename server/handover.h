/* Handover: a new process of this program takes the place of the running one on its sockets, with
 * no moment in which nobody listens.
 *
 * The running one starts the new one with the same arguments and environment and the listening
 * sockets; the new one gets ready, tells its predecessor to finish, and serves. Until then nothing
 * has changed: if the new one cannot start, the running one serves on. Thread: the loop's, or
 * before there is one.
 */
#ifndef BW_SERVER_HANDOVER_H
#define BW_SERVER_HANDOVER_H

#include "server/loop.h"
#include "server/supervisor.h"

#include <signal.h>

/* Start a new process of the program whose arguments (the first is its name, as main() got them)
 * these are, with the sockets there are (the main one at least), and call `gone` when it ends.
 * BW_EIO: it cannot be started; BW_ENOMEM. */
int bw_handover_begin(struct bw_loop *loop, char **arguments, const struct bw_sockets *sockets,
                      bw_loop_fn *gone, void *context, int *pid, struct bw_err *err);

/* Was this process started so? */
bool bw_handover_is_successor(void);

/* Is the process that started it so still there? */
bool bw_handover_has_predecessor(void);

/* Tell the predecessor, if there is one, to finish what it has begun: by BW_RELIEVED, which unlike
 * SIGTERM says that another process goes on. */
void bw_handover_relieve(void);

#define BW_RELIEVED SIGUSR1

#endif
