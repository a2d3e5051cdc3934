/* Peers: the address a request comes from when proxies stand in between.
 *
 * A proxy appends the address it was called from to X-Forwarded-For, so the list is worth as much
 * as the proxies that wrote it. Only what a trusted one says is believed: from the connection
 * backwards, the first address that is not itself a trusted proxy is the client. Forwarded (RFC
 * 7239) is not read: a proxy that appends to the one field passes the other on untouched, so
 * whoever believes both believes the client. Any thread.
 */
#ifndef BW_SERVER_PEERS_H
#define BW_SERVER_PEERS_H

#include "base/err.h"
#include "server/listen.h"

#include <stdbool.h>
#include <stdint.h>

enum { BW_MOST_NETWORKS = 64, BW_PEERS_CHARS = 2048 };

struct bw_peers {
    struct bw_network {
        uint8_t address[16]; // IPv4 as ::ffff:a.b.c.d
        int bits;            // of the prefix, 0..128
    } networks[BW_MOST_NETWORKS];
    int count;
};

/* Read a comma-separated list of addresses and networks: "10.0.0.0/8, ::1". BW_ERANGE; `peers` is
 * then undefined. */
int bw_peers_parse(struct bw_peers *peers, const char *list, struct bw_err *err);

/* bw_peers_parse() for its error alone. */
int bw_peers_check(const char *list, struct bw_err *err);

/* The client's numeric address: of a connection from `peer` with this X-Forwarded-For (several
 * fields joined to one list; "" if there is none). An entry that is no address ends what is
 * believed. */
void bw_peers_client(const struct bw_peers *peers, const char *peer, const char *forwarded,
                     char client[BW_ADDRESS_CHARS]);

#endif
