/* The predecessor is the parent, by whose number the new process is told whom to relieve: a number
 * that has come to mean another process is not its parent's. */
#include "server/handover.h"

#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREDECESSOR "BRICKWORK_PREDECESSOR"

/* What is said to one process only. */
static const char *const own[] = {"LISTEN_", "WATCHDOG_PID=", PREDECESSOR "="};

static bool is_own(const char *variable)
{
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (bw_text_after(variable, own[i]))
            return true;
    }
    return false;
}

int bw_handover_begin(struct bw_loop *loop, char **arguments, const struct bw_sockets *sockets,
                      bw_loop_fn *gone, void *context, int *pid, struct bw_err *err)
{
    const int fds[] = {sockets->main, sockets->admin};
    bool both = sockets->admin >= 0;
    char predecessor[48];
    size_t count = 0, used = 0;
    if (getpid() == 1)
        return bw_err_set(err, BW_EIO, "a container ends with its first process");
    while (environ[count])
        count++;
    char **environment = calloc(count + 4, sizeof *environment);
    if (!environment)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        if (!is_own(environ[i]))
            environment[used++] = environ[i];
    }
    snprintf(predecessor, sizeof predecessor, PREDECESSOR "=%ld", (long)getpid());
    environment[used++] = predecessor;
    environment[used++] = both ? "LISTEN_FDS=2" : "LISTEN_FDS=1";
    environment[used++] = "LISTEN_FDNAMES=main:" BW_ADMIN_SOCKET;
    int code =
        bw_loop_spawn(loop, arguments, environment, fds, both ? 2 : 1, gone, context, pid, err);
    free(environment);
    return code;
}

bool bw_handover_is_successor(void)
{
    return getenv(PREDECESSOR) != NULL;
}

bool bw_handover_has_predecessor(void)
{
    const char *text = getenv(PREDECESSOR);
    int64_t pid;
    return text && bw_text_to_int(text, 2, INT_MAX, &pid) && pid == getppid();
}

void bw_handover_relieve(void)
{
    if (bw_handover_has_predecessor())
        kill(getppid(), BW_RELIEVED);
}
