/* Connections: who is connected, and for how long each may still be without a complete request.
 *
 * A connection rests until its request has arrived and is busy until the answer is away. One that
 * rests too long is shut down, and when every place is taken the one that has rested longest, so
 * idle clients keep nobody out. Thread: the loop's.
 */
#ifndef BW_SERVER_CONNECTIONS_H
#define BW_SERVER_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct bw_connection {
    struct bw_connection *next, *previous; // in one of the lists below
    struct bw_connections *all;
    int fd;             // the caller's
    bool busy;          // the request has arrived and is being answered
    double deadline_ms; // for the next request to be complete; meaningless while busy

    void *exchange;      // the caller's: the request under way, or NULL
    size_t target_bytes; // the caller's: of the request's line as it was sent
    bool target_ok;
};

struct bw_connections {
    struct bw_connection resting, busy; // list heads; who is there longest is the last
    int count, most;
    int crowd; // the highest count since memory was last given back
    int timeout_ms;
    double swept_ms; // when the last sweep was
};

/* At most `most` connections, each of which may rest `timeout_ms`. */
void bw_connections_init(struct bw_connections *all, int most, int timeout_ms);

/* A new one, at rest; NULL if there is no memory: it is shut down then. One too many has another
 * one shut down. */
struct bw_connection *bw_connections_add(struct bw_connections *all, int fd);

/* It is closed, and this its last mention. */
void bw_connection_remove(struct bw_connection *c);

/* Its time begins anew. */
void bw_connection_set_busy(struct bw_connection *c, bool busy);

/* To be called several times a second. Shut down whose time to rest is over and, if they are
 * `hurried`, all others that rest and have sent nothing that was not read yet. When most of a crowd
 * has left, what it needed goes back to the system. */
void bw_connections_sweep(struct bw_connections *all, bool hurried);

#endif
