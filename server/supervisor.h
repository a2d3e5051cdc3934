/* Supervisor: what this process is given by, and tells, whoever started it, in systemd's manner
 * (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).
 *
 * Sockets that are already listening come as descriptors from 3 on; news go as datagrams to the
 * socket that NOTIFY_SOCKET names. Whoever speaks these protocols will do: systemd,
 * systemd-socket-activate, podman, or a former process of this program (server/handover.h).
 * Thread: one at a time, before others read the environment.
 */
#ifndef BW_SERVER_SUPERVISOR_H
#define BW_SERVER_SUPERVISOR_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { BW_FIRST_SOCKET = 3 }; // the descriptor that sockets count from

#define BW_ADMIN_SOCKET "admin" // the name of the one for the admin listener

/* Descriptors of sockets that were handed in; -1: none. */
struct bw_sockets {
    int main, admin;
};

/* Which descriptors the three variables stand for: `pid` for whom they are meant, `fds` how many,
 * `names` what they are called, with colons between. One called "admin" is the admin listener,
 * whatever else it is called the other is the service's. Each may be NULL. If they are meant for
 * another process than `self`, there are none. BW_ERANGE: not numbers, or more than one socket for
 * a listener. Any thread. */
int bw_sockets_parse(const char *pid, const char *fds, const char *names, int64_t self,
                     struct bw_sockets *sockets, struct bw_err *err);

/* The sockets handed in to this process, each checked by bw_listen_adopt(), and the variables
 * removed from the environment. `ours`: they are, whatever LISTEN_PID says. The caller closes them.
 * BW_ERANGE, BW_EIO. */
int bw_supervisor_sockets(bool ours, struct bw_sockets *sockets, struct bw_err *err);

/* Tell the supervisor lines like "READY=1"; nobody is told if none listens, and what cannot be
 * delivered is dropped. */
void bw_supervisor_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How often the supervisor wants to hear "WATCHDOG=1" at least; 0: never. */
int64_t bw_supervisor_watchdog_ms(void);

#endif
