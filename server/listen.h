/* Listen: the socket the service takes connections on. */
#ifndef BW_SERVER_LISTEN_H
#define BW_SERVER_LISTEN_H

#include "base/err.h"

#include <stdbool.h>

enum { BW_ADDRESS_CHARS = 128 };

/* A listening, non-blocking TCP socket on "host:port" with a numeric host: "127.0.0.1:8080",
 * "[::1]:8080", "0.0.0.0:0" (port 0: any free one), ":8080" (every address, IPv4 and IPv6). The
 * caller closes *fd. BW_ERANGE: not such an address; BW_EIO: the system refuses it. */
int bw_listen(const char *address, int *fd, struct bw_err *err);

/* Take over a descriptor that is said to be such a socket: make it non-blocking and keep it from
 * programs that are started. BW_ERANGE: it is not a listening TCP socket. */
int bw_listen_adopt(int fd, struct bw_err *err);

/* Only the check of the address. */
int bw_listen_check(const char *address, struct bw_err *err);

/* The address a socket really listens on, port included. */
void bw_listen_address(int fd, char text[BW_ADDRESS_CHARS]);

/* Can only this machine reach it? */
bool bw_listen_is_local(int fd);

/* A peer's address without its port. */
struct sockaddr;
void bw_peer_address(const struct sockaddr *peer, char text[BW_ADDRESS_CHARS]);

#endif
