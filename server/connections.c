/* Two lists in the order of arrival, so that whoever rests longest is found at once. Shutting down
 * leaves the rest to the HTTP library, which sees the end of the stream. */
#include "server/connections.h"

#include "base/clock.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    CROWD = 64,      // so many whose memory is worth giving back
    STALL_MS = 1000, // between two sweeps: the loop stood still
};

void bw_connections_init(struct bw_connections *all, int most, int timeout_ms)
{
    *all = (struct bw_connections){.most = most, .timeout_ms = timeout_ms, .swept_ms = bw_now_ms()};
    all->resting.next = all->resting.previous = &all->resting;
    all->busy.next = all->busy.previous = &all->busy;
}

static void take_out(struct bw_connection *c)
{
    c->next->previous = c->previous;
    c->previous->next = c->next;
}

void bw_connection_set_busy(struct bw_connection *c, bool busy)
{
    struct bw_connection *head = busy ? &c->all->busy : &c->all->resting;
    if (c->next)
        take_out(c);
    c->busy = busy;
    c->deadline_ms = bw_now_ms() + c->all->timeout_ms;
    c->next = head->next;
    c->previous = head;
    c->next->previous = c->previous->next = c;
}

static void drop(struct bw_connection *c)
{
    bw_connection_set_busy(c, false); // not again at once
    shutdown(c->fd, SHUT_RDWR);
}

struct bw_connection *bw_connections_add(struct bw_connections *all, int fd)
{
    struct bw_connection *c = calloc(1, sizeof *c);
    if (!c) {
        shutdown(fd, SHUT_RDWR); // nobody would watch over it
        return NULL;
    }
    if (++all->count > all->crowd)
        all->crowd = all->count;
    if (all->count > all->most && all->resting.previous != &all->resting)
        drop(all->resting.previous);
    c->all = all;
    c->fd = fd;
    bw_connection_set_busy(c, false);
    return c;
}

void bw_connection_remove(struct bw_connection *c)
{
    c->all->count--;
    take_out(c);
    free(c);
}

/* Has the client sent what was not read yet? */
static bool has_news(const struct bw_connection *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The allocator by itself would keep it for the next crowd. */
static void give_back(struct bw_connections *all)
{
    if (all->crowd < CROWD || all->count > all->crowd / 2)
        return;
    malloc_trim(0);
    all->crowd = all->count;
}

void bw_connections_sweep(struct bw_connections *all, bool hurried)
{
    double now = bw_now_ms();
    struct bw_connection *c = all->resting.previous, *newer;
    bool stalled = now - all->swept_ms > STALL_MS;
    all->swept_ms = now;
    if (stalled) // their requests may have arrived long ago: they are read first
        return;
    for (int left = all->count; left > 0 && c != &all->resting; left--, c = newer) {
        bool late = now > c->deadline_ms;
        newer = c->previous;
        if (!late && !hurried)
            break;
        if (late || !has_news(c))
            drop(c);
    }
    give_back(all);
}
