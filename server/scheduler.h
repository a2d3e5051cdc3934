/* Scheduler: the dispatch behind a lock, between the loop that admits pictures and the workers that
 * advance them.
 *
 * A worker takes what the policy chooses, evaluates the network once for each, and gives it back:
 * between any two evaluations a picture may be overtaken, cancelled, or go on with other bricks.
 * Thread: any.
 */
#ifndef BW_SERVER_SCHEDULER_H
#define BW_SERVER_SCHEDULER_H

#include "server/dispatch.h"

#include <pthread.h>

struct bw_scheduler {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct bw_dispatch dispatch;
    bool closed;
};

/* BW_ENOMEM. */
int bw_scheduler_init(struct bw_scheduler *scheduler, const struct bw_rules *rules,
                      struct bw_err *err);
void bw_scheduler_release(struct bw_scheduler *scheduler);

/* What a price has learned by now; those of tasks that were offered are written under the lock. */
struct bw_price bw_scheduler_price(struct bw_scheduler *scheduler, const struct bw_price *price);

/* bw_dispatch_offer(); who waits for work is woken. */
int bw_scheduler_offer(struct bw_scheduler *scheduler, const char *client, struct bw_job *jobs,
                       int count, bool only_ask, struct bw_answer *answer, struct bw_err *err);

/* What `team` is to advance, in jobs [BW_MAX_CALL]; sleeps until there is something. 0: closed. */
int bw_scheduler_take(struct bw_scheduler *scheduler, int team, struct bw_job **jobs);

/* bw_dispatch_give(); the jobs at the end of the array belong to the worker. */
int bw_scheduler_give(struct bw_scheduler *scheduler, struct bw_job **jobs, int count,
                      double began_ms);

/* bw_dispatch_learn_finish() */
void bw_scheduler_learn_finish(struct bw_scheduler *scheduler, double ms);

/* Take every job of that owner off the board that no team has; returns them linked by next. */
struct bw_job *bw_scheduler_remove(struct bw_scheduler *scheduler, const void *owner);

/* The loop is stopping: wake all who sleep; bw_scheduler_take() returns 0 from now on. Jobs on the
 * board stay there. */
void bw_scheduler_close(struct bw_scheduler *scheduler);

/* Take all jobs off the board of a closed scheduler whose workers are gone; linked by next. */
struct bw_job *bw_scheduler_clear(struct bw_scheduler *scheduler);

/* Pictures on the board that no team has had yet. */
int bw_scheduler_fresh(struct bw_scheduler *scheduler);

#endif
