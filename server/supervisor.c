/* Written here rather than taken from libsystemd, which brings five more libraries into the process
 * for these few lines; the protocols are promised to stay as they are, and the manual of
 * sd_notify() shows how to do without. */
#include "server/supervisor.h"

#include "base/text.h"
#include "server/listen.h"

#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_SOCKETS = 2, MESSAGE_CHARS = 512 };

/* Cut the next name off a list with colons between; false if there was none left. */
static bool next_name(const char **names, const char **name, size_t *length)
{
    if (!*names)
        return false;
    *name = *names;
    *length = strcspn(*names, ":");
    *names = (*names)[*length] ? *names + *length + 1 : NULL;
    return true;
}

int bw_sockets_parse(const char *pid, const char *fds, const char *names, int64_t self,
                     struct bw_sockets *sockets, struct bw_err *err)
{
    struct bw_sockets found = {.main = -1, .admin = -1};
    int64_t number, count = 0;
    if (pid && !bw_text_to_int(pid, 1, INT_MAX, &number))
        return bw_err_set(err, BW_ERANGE, "LISTEN_PID is \"%.40s\", not a process", pid);
    bool ours = pid && number == self;
    if (ours && fds && !bw_text_to_int(fds, 0, MOST_SOCKETS, &count))
        return bw_err_set(err, BW_ERANGE, "LISTEN_FDS is \"%.40s\", not 0..%d", fds, MOST_SOCKETS);
    for (int i = 0; i < count; i++) {
        const char *name = "";
        size_t length = 0;
        bool named = next_name(&names, &name, &length);
        bool admin = named && length == strlen(BW_ADMIN_SOCKET) &&
                     memcmp(name, BW_ADMIN_SOCKET, length) == 0;
        int *slot = admin ? &found.admin : &found.main;
        if (*slot >= 0)
            return bw_err_set(err, BW_ERANGE,
                              "of two sockets handed in exactly one has to be "
                              "named \"" BW_ADMIN_SOCKET "\"");
        *slot = BW_FIRST_SOCKET + i;
    }
    *sockets = found;
    return BW_OK;
}

int bw_supervisor_sockets(bool ours, struct bw_sockets *sockets, struct bw_err *err)
{
    struct bw_sockets found = {-1, -1};
    char own[24];
    snprintf(own, sizeof own, "%ld", (long)getpid());
    int code = bw_sockets_parse(ours ? own : getenv("LISTEN_PID"), getenv("LISTEN_FDS"),
                                getenv("LISTEN_FDNAMES"), getpid(), &found, err);
    if (!code && found.main >= 0)
        code = bw_listen_adopt(found.main, err);
    if (!code && found.admin >= 0)
        code = bw_listen_adopt(found.admin, err);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (!code)
        *sockets = found;
    return code;
}

void bw_supervisor_tell(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    char message[MESSAGE_CHARS];
    if (!length || length >= sizeof address.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = '\0'; // a name that is not in the file system
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (count > 0 && (size_t)count < sizeof message)
        sendto(fd, message, (size_t)count, MSG_NOSIGNAL | MSG_DONTWAIT,
               (const struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

int64_t bw_supervisor_watchdog_ms(void)
{
    const char *period = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    int64_t number;
    if (pid && (!bw_text_to_int(pid, 1, INT_MAX, &number) || number != getpid()))
        return 0;
    return period && bw_text_to_int(period, 1000, INT64_MAX, &number) ? number / 1000 : 0;
}
