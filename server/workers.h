/* Workers: the threads that turn jobs into pictures.
 *
 * Every worker has a denoiser of its own for each model, a team of threads; all share the models. A
 * worker asks the scheduler what to advance, evaluates the network once for each of those pictures
 * or decodes one, and asks again: one of its teams works at a time, the others sleep. What comes
 * out does not depend on what else was in the call.
 *
 * A worker is dead that has ended, or that is at one call of the network, of the decoder or at one
 * picture's file for far longer than that takes. Only a new process helps: its jobs are lost, and
 * nobody may take them away from a thread that could wake up.
 */
#ifndef BW_SERVER_WORKERS_H
#define BW_SERVER_WORKERS_H

#include "server/job.h"
#include "server/metrics.h"
#include "server/scheduler.h"

struct bw_workers;

/* A watched picture has made a step. */
struct bw_news {
    struct bw_news *next;
    struct bw_job *job;
    int step;              // done
    uint8_t mask;          // bricks that ran at it
    double decode_ms;      // what the decoder will take after the last one
    int partial;           // which of the previews this is, from 0; -1: none
    struct bw_buf preview; // JPEG of the estimate, at most BW_PREVIEW_SIDE wide and high; of a
                           // model of latents as large as those
};

enum { BW_PREVIEW_SIDE = 256 };

/* Called from a worker when bw_workers_collect() or bw_workers_news() has something new; may be
 * called too often. */
typedef void bw_workers_fn(void *context);

/* `count` workers that do not run yet. BW_ENOMEM. */
int bw_workers_new(struct bw_workers **workers, int count, struct bw_err *err);

/* Let them run. Scheduler and metrics must outlive them. BW_EIO. */
int bw_workers_start(struct bw_workers *workers, struct bw_scheduler *scheduler,
                     struct bw_metrics *metrics, bw_workers_fn *notify, void *context,
                     struct bw_err *err);

/* Look whether all of them get on; called every second or so by the loop. A worker is dead that has
 * been at one thing for `patience_ms` and for 20 times its price, or whose thread has ended; one
 * that gets on after all is not dead any more. Both are logged. Only time counts in which this is
 * called, so a process that was stopped as a whole, or whose machine slept, comes back alive. */
void bw_workers_watch(struct bw_workers *workers, double now_ms, double patience_ms);

/* How many of them are dead as of the last look. The loop's thread. */
int bw_workers_dead(const struct bw_workers *workers);

/* How many jobs those have, which never come back unless they do; never too many. */
int bw_workers_stuck(const struct bw_workers *workers);

/* Jobs that are over, linked by next: done (image), failed (err), or cancelled (err BW_ECANCELLED).
 * They belong to the caller again. Any thread. */
struct bw_job *bw_workers_collect(struct bw_workers *workers);

/* What watched pictures have done since the last call, oldest first, linked by next; the caller
 * bw_news_free()s each. News of a job are there before the job itself is collected. Any thread. */
struct bw_news *bw_workers_news(struct bw_workers *workers);
void bw_news_free(struct bw_news *news);

/* Give up after the call at hand and join the threads. Closes the scheduler; what was on its board
 * comes out of a last bw_workers_collect() between stop and free, cancelled. False if one is dead,
 * or so found meanwhile as by bw_workers_watch(): it may wake up any time, so nothing it could
 * touch may be freed, the workers among it, and all that is left is to _exit(). NULL is allowed. */
bool bw_workers_stop(struct bw_workers *workers, double patience_ms);
void bw_workers_free(struct bw_workers *workers);

#endif
