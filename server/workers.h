/* Workers: the threads that turn jobs into pictures.
 *
 * Each worker is a team of threads with a denoiser of its own; all share the model. A worker
 * advances up to `batch` pictures at once, one evaluation at a time, and looks at every boundary
 * whether a picture was cancelled and whether another may join. What comes out does not depend on
 * any of that.
 */
#ifndef BW_SERVER_WORKERS_H
#define BW_SERVER_WORKERS_H

#include "engine/model.h"
#include "server/job.h"
#include "server/metrics.h"
#include "server/queue.h"

struct bw_workers;

/* Called from a worker when bw_workers_collect() has something new; may be called too often. */
typedef void bw_workers_fn(void *context);

/* Start `count` workers of `threads` threads. The model, queue and metrics must outlive them.
 * BW_ENOMEM, BW_EIO. */
int bw_workers_new(struct bw_workers **workers, const struct bw_model *model, int count,
                   int threads, int batch, struct bw_queue *queue, struct bw_metrics *metrics,
                   bw_workers_fn *notify, void *context, struct bw_err *err);

/* Jobs that are over, linked by next: done (image), failed (err), or cancelled (err BW_ECANCELLED).
 * They belong to the caller again. Any thread. */
struct bw_job *bw_workers_collect(struct bw_workers *workers);

/* Give up at the next evaluation, join the threads, free. Closes the queue; jobs in progress come
 * out of a last bw_workers_collect() between stop and free. NULL is allowed. */
void bw_workers_stop(struct bw_workers *workers);
void bw_workers_free(struct bw_workers *workers);

#endif
