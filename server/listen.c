/* The socket is opened here rather than by the HTTP library for the sake of its error messages, and
 * because it may come from elsewhere. */
#include "server/listen.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

/* Split at the last colon; an IPv6 host stands in brackets. */
static int resolve(const char *address, struct addrinfo **found, struct bw_err *err)
{
    char host[BW_ADDRESS_CHARS];
    int64_t number;
    const char *colon = strrchr(address, ':');
    size_t length = colon ? (size_t)(colon - address) : 0;
    if (!colon || length >= sizeof host || !bw_text_to_int(colon + 1, 0, 65535, &number))
        return bw_err_set(err, BW_ERANGE, "\"%s\" is not host:port", address);
    memcpy(host, address, length);
    host[length] = '\0';
    bool bracketed = length > 2 && host[0] == '[' && host[length - 1] == ']';
    if (bracketed)
        host[length - 1] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_family = length ? AF_UNSPEC : AF_INET6};
    int failed = getaddrinfo(length ? host + bracketed : NULL, colon + 1, &hints, found);
    if (failed == EAI_MEMORY)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    if (failed)
        return bw_err_set(err, BW_ERANGE, "\"%s\" has no numeric host before its port", address);
    return BW_OK;
}

int bw_listen_check(const char *address, struct bw_err *err)
{
    struct addrinfo *found;
    int code = resolve(address, &found, err);
    if (!code)
        freeaddrinfo(found);
    return code;
}

int bw_listen(const char *address, int *fd, struct bw_err *err)
{
    struct addrinfo *found;
    int code = resolve(address, &found, err);
    if (code)
        return code;
    const int on = 1, off = 0;
    int s = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s >= 0) {
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (found->ai_family == AF_INET6)
            setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, address[0] == ':' ? &off : &on, sizeof on);
    }
    if (s < 0 || bind(s, found->ai_addr, found->ai_addrlen) || listen(s, BACKLOG)) {
        code = bw_err_set(err, BW_EIO, "cannot listen on %s: %s", address, strerror(errno));
        if (s >= 0)
            close(s);
    } else {
        *fd = s;
    }
    freeaddrinfo(found);
    return code;
}

static int option_of(int fd, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) ? -1 : value;
}

int bw_listen_adopt(int fd, struct bw_err *err)
{
    int family = option_of(fd, SO_DOMAIN), flags = fcntl(fd, F_GETFL);
    if ((family != AF_INET && family != AF_INET6) || option_of(fd, SO_PROTOCOL) != IPPROTO_TCP ||
        option_of(fd, SO_ACCEPTCONN) != 1)
        return bw_err_set(err, BW_ERANGE, "descriptor %d, handed in, is not a listening TCP socket",
                          fd);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
        return bw_err_set(err, BW_EIO, "descriptor %d: %s", fd, strerror(errno));
    return BW_OK;
}

void bw_listen_address(int fd, char text[BW_ADDRESS_CHARS])
{
    struct sockaddr_storage own = {0};
    socklen_t length = sizeof own;
    char host[64] = "?", port[8] = "?";
    getsockname(fd, (struct sockaddr *)&own, &length);
    getnameinfo((struct sockaddr *)&own, length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, BW_ADDRESS_CHARS, own.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

bool bw_listen_is_local(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } own = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof own;
    if (getsockname(fd, &own.any, &length))
        return false;
    if (own.any.sa_family == AF_INET)
        return ntohl(own.four.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return own.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&own.six.sin6_addr);
}

void bw_peer_address(const struct sockaddr *peer, char text[BW_ADDRESS_CHARS])
{
    socklen_t length =
        peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(peer, length, text, BW_ADDRESS_CHARS, NULL, 0, NI_NUMERICHOST))
        snprintf(text, BW_ADDRESS_CHARS, "?");
}
