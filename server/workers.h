/* Workers: the threads that turn jobs into pictures.
 *
 * Every worker has a denoiser of its own for each model, a team of threads; all share the models. A
 * worker asks the scheduler what to advance, evaluates the network once for each of those pictures,
 * and asks again: one of its teams works at a time, the others sleep. What comes out does not
 * depend on what else was in the call.
 */
#ifndef BW_SERVER_WORKERS_H
#define BW_SERVER_WORKERS_H

#include "server/job.h"
#include "server/metrics.h"
#include "server/scheduler.h"

struct bw_workers;

/* Called from a worker when bw_workers_collect() has something new; may be called too often. */
typedef void bw_workers_fn(void *context);

/* `count` workers that do not run yet. BW_ENOMEM. */
int bw_workers_new(struct bw_workers **workers, int count, struct bw_err *err);

/* Let them run. Scheduler and metrics must outlive them. BW_EIO. */
int bw_workers_start(struct bw_workers *workers, struct bw_scheduler *scheduler,
                     struct bw_metrics *metrics, bw_workers_fn *notify, void *context,
                     struct bw_err *err);

/* Jobs that are over, linked by next: done (image), failed (err), or cancelled (err BW_ECANCELLED).
 * They belong to the caller again. Any thread. */
struct bw_job *bw_workers_collect(struct bw_workers *workers);

/* Give up after the evaluation at hand, join the threads, free. Closes the scheduler; what was on
 * its board comes out of a last bw_workers_collect() between stop and free, cancelled. NULL is
 * allowed. */
void bw_workers_stop(struct bw_workers *workers);
void bw_workers_free(struct bw_workers *workers);

#endif
