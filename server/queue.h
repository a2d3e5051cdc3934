/* Queue: pictures that wait for a worker, in order of arrival, up to a bound.
 *
 * Thread: any. A job in the queue belongs to the queue.
 */
#ifndef BW_SERVER_QUEUE_H
#define BW_SERVER_QUEUE_H

#include "server/job.h"

#include <pthread.h>
#include <stdbool.h>

struct bw_queue {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct bw_job *first, **end;
    int count, bound;
    bool closed;
};

void bw_queue_init(struct bw_queue *queue, int bound);
void bw_queue_release(struct bw_queue *queue);

/* Take in `count` jobs (linked by next) or none: BW_EBUSY if they would exceed the bound. */
int bw_queue_push(struct bw_queue *queue, struct bw_job *jobs, int count, struct bw_err *err);

/* The first job. With `wait`, sleeps until there is one or the queue is closed. NULL: none. */
struct bw_job *bw_queue_pop(struct bw_queue *queue, bool wait);

/* Take every job of that owner out; returns them linked by next. */
struct bw_job *bw_queue_remove(struct bw_queue *queue, const void *owner);

/* Wake all who sleep; bw_queue_pop() returns NULL from now on. */
void bw_queue_close(struct bw_queue *queue);

int bw_queue_count(struct bw_queue *queue);

#endif
