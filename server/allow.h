/* Allow: which hosts the service may call, so that no client makes it reach into its own network.
 *
 * A list holds entries with commas between: "hooks.example.com" (any port),
 * "hooks.example.com:8443",
 * "*.example.com" (any name below it, not itself), "127.0.0.1:9000", "[::1]", "localhost". A name
 * stands for its public addresses only; who means an address of the own network has to list exactly
 * that address, or localhost. Pure; any thread.
 */
#ifndef BW_SERVER_ALLOW_H
#define BW_SERVER_ALLOW_H

#include "base/err.h"

#include <stdbool.h>

struct sockaddr;

enum { BW_ALLOW_CHARS = 2048 };

enum bw_allowed {
    BW_ALLOWED_NOT,
    BW_ALLOWED_PUBLIC,   // at public addresses
    BW_ALLOWED_LOOPBACK, // it is localhost: at loopback addresses
    BW_ALLOWED_ADDRESS,  // it is an address, and listed
};

/* Is this a list? "" is one that allows nothing. BW_ERANGE names the entry that is not one. */
int bw_allow_check(const char *list, struct bw_err *err);

/* What a list that was checked says of a host (an IPv6 address in brackets) and port. */
enum bw_allowed bw_allow_find(const char *list, const char *host, int port);

/* May a host of which that was said be called at this address? */
bool bw_allow_address(enum bw_allowed allowed, const struct sockaddr *address);

#endif
