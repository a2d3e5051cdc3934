/* Fleet: the jobs of any number of replicas, in one Redis. How they share them is told in fleet.c.
 *
 * Everything is asked of Redis when it is needed; nothing is remembered here. So every function
 * sends one command, and what it calls is called exactly once, possibly before it returns, at the
 * latest by bw_fleet_close(). Thread: the loop's.
 */
#ifndef BW_SERVER_FLEET_H
#define BW_SERVER_FLEET_H

#include "server/loop.h"
#include "server/record.h"
#include "server/store.h"
#include "server/trace_context.h"

struct bw_fleet;
struct redisReply;

/* What there may be to look at; some of it is never told, so look once in a while as well. */
enum bw_news_kind {
    BW_FLEET_QUEUED, // a job waits; without a key
    BW_FLEET_MOVED,  // a job has events, or is over
    BW_FLEET_REMOVED,
};

struct bw_fleet_settings {
    const char *url; // was checked
    int lease_ms;    // a job whose holder has not renewed it for so long may be taken from it
    int keep_s;      // how long a finished job is kept, and known to have been twice as long
    int most_open;   // jobs that are not over
    void (*news)(void *context, enum bw_news_kind kind, const char *key);
    void (*state)(void *context, bool up); // Redis can be reached from now on, or cannot
    void *context;
};

/* Does not wait for Redis, which may come later. BW_ERANGE, BW_ENOMEM. */
int bw_fleet_new(struct bw_fleet **fleet, struct bw_loop *loop,
                 const struct bw_fleet_settings *settings, struct bw_err *err);
void bw_fleet_close(struct bw_fleet *fleet); // before the loop is freed
void bw_fleet_free(struct bw_fleet *fleet);  // after it. NULL is allowed in both

bool bw_fleet_is_up(const struct bw_fleet *fleet);

enum bw_fleet_said {
    BW_FLEET_AWAY,    // Redis cannot be reached, or refuses: it may have been done, or not
    BW_FLEET_DONE,    // it is done, or here it is
    BW_FLEET_KNOWN,   // to add: there is one with this id
    BW_FLEET_FULL,    // to add: there are as many as there may be
    BW_FLEET_NONE,    // to take: there is none
    BW_FLEET_LOST,    // somebody else holds the job by now
    BW_FLEET_ABSENT,  // there is no such job
    BW_FLEET_GONE,    // nor is there any more
    BW_FLEET_DAMAGED, // what is stored is not a job
};

struct bw_fleet_answer {
    enum bw_fleet_said said;
    const struct bw_record *record; // good during the call; NULL unless done or known
    int step, steps;                // of all its pictures together: done, and to do
    int takes;                      // how often it was taken, this time included
    char key[BW_SHA256_CHARS];      // of that job; "" if none was meant
    const char *trace;              // of the request that made it: a traceparent, or anything
    const struct redisReply *events;
};

typedef void bw_fleet_fn(void *context, const struct bw_fleet_answer *answer);

/* The right to run a job, to tell of it and to end it: good until another takes it. */
struct bw_lease {
    char key[BW_SHA256_CHARS];
    char token[40];
};

/* A lease of a job that is to be added by whoever runs it. */
void bw_fleet_lease(struct bw_fleet *fleet, const char *owner, const char *id,
                    struct bw_lease *lease);

/* Add an open record: whose id, owner, fingerprint, created_s and body count. It waits in the queue
 * of its `priority` (of api/request.h) for whoever takes it, or, with a lease, is taken. `trace`:
 * of the request. Done, known (with what is known) or full. */
void bw_fleet_add(struct bw_fleet *fleet, const struct bw_record *record, int priority, int steps,
                  const struct bw_trace_context *trace, const struct bw_lease *lease,
                  bw_fleet_fn *fn, void *context);

/* A job, and its events after the first `after` (-1: none are wanted), not more than
 * BW_FLEET_EVENTS of them. Done, absent, gone or damaged. */
enum { BW_FLEET_EVENTS = 256 };
void bw_fleet_find(struct bw_fleet *fleet, const char *owner, const char *id, int after,
                   bw_fleet_fn *fn, void *context);

/* Event `i` of an answer as it is to be sent, and its number; NULL: there are not so many. */
const char *bw_fleet_event(const struct bw_fleet_answer *answer, size_t i, int *number,
                           size_t *length);

/* Remove a job, whoever runs it. Done (with what it was), absent or gone. */
void bw_fleet_remove(struct bw_fleet *fleet, const char *owner, const char *id, bw_fleet_fn *fn,
                     void *context);

/* Take the job that is to be run next: one whose holder is silent, else one nobody has taken, by
 * priority. Done, none, or damaged: then it is to be discarded. */
void bw_fleet_take(struct bw_fleet *fleet, struct bw_lease *lease, bw_fleet_fn *fn, void *context);

/* Say that the holder lives. Done, lost, absent or gone. */
void bw_fleet_renew(struct bw_fleet *fleet, const struct bw_lease *lease, bw_fleet_fn *fn,
                    void *context);

/* Give a job back, to be taken at once by another. */
void bw_fleet_give_back(struct bw_fleet *fleet, const struct bw_lease *lease, bw_fleet_fn *fn,
                        void *context);

/* Remove a job that cannot be read. */
void bw_fleet_discard(struct bw_fleet *fleet, const struct bw_lease *lease, bw_fleet_fn *fn,
                      void *context);

/* Events of a job, as they are to be sent; those that are there already stay. Done or lost. */
enum { BW_FLEET_BATCH = 16 };
struct bw_fleet_event {
    int number; // from 1, rising
    const struct bw_buf *text;
};
void bw_fleet_tell(struct bw_fleet *fleet, const struct bw_lease *lease, int step,
                   const struct bw_fleet_event *events, int count, bw_fleet_fn *fn, void *context);

/* The end of a job: `record` with the end entered, and its pictures. Asked again by the same holder
 * it is done, too. Done, lost, absent or gone. */
void bw_fleet_finish(struct bw_fleet *fleet, const struct bw_lease *lease,
                     const struct bw_record *record, const struct bw_store_end *end,
                     bw_fleet_fn *fn, void *context);

/* A picture of a finished job, as bw_store_picture(); BW_EBUSY: Redis cannot be reached. */
void bw_fleet_picture(struct bw_fleet *fleet, const struct bw_record *record, int index,
                      bw_store_picture_fn *fn, void *context);

/* How many jobs are not over: `step` of the answer. */
void bw_fleet_count(struct bw_fleet *fleet, bw_fleet_fn *fn, void *context);

#endif
