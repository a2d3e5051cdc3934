/* Every worker repeats: bring in pictures, let go of cancelled ones, evaluate the rest in one call,
 * let each sampler take its answer. A job has one owner at a time: it comes from the queue, stays
 * in `active`, and leaves through deliver(). */
#include "server/workers.h"

#include "base/clock.h"
#include "engine/cost.h"
#include "engine/denoiser.h"
#include "image/jpeg.h"
#include "image/png.h"

#include <stdlib.h>

enum { MAX_BATCH = 64 };

struct worker {
    struct bw_workers *all;
    struct bw_denoiser *denoiser;
    pthread_t thread;
    bool running;
    struct bw_job *active[MAX_BATCH]; // pictures in progress
    int count;
};

struct bw_workers {
    const struct bw_model *model;
    struct bw_queue *queue;
    struct bw_metrics *metrics;
    bw_workers_fn *notify;
    void *context;
    int batch, worker_count;
    atomic_bool stop;
    pthread_mutex_t lock; // of `over`
    struct bw_job *over;
    struct worker workers[];
};

/* The job is over: hand it back to the loop. */
static void deliver(struct bw_workers *all, struct bw_job *job)
{
    bw_sampler_release(&job->sampler);
    pthread_mutex_lock(&all->lock);
    job->next = all->over;
    all->over = job;
    pthread_mutex_unlock(&all->lock);
    all->notify(all->context);
}

static int encode(struct bw_job *job)
{
    int width = job->plan.width, height = job->plan.height;
    unsigned char *rgb = malloc((size_t)width * (size_t)height * 3);
    if (!rgb)
        return bw_err_set(&job->err, BW_ENOMEM, "out of memory for a picture of %dx%d", width,
                          height);
    bw_sampler_bytes(&job->sampler, rgb);
    int code = job->format == BW_FORMAT_PNG
                   ? bw_png_encode(rgb, width, height, &job->image, &job->err)
                   : bw_jpeg_encode(rgb, width, height, job->quality, &job->image, &job->err);
    free(rgb);
    return code;
}

static void finish(struct bw_workers *all, struct bw_job *job)
{
    job->computed_ms = bw_now_ms();
    encode(job); // a failure is in job->err
    job->encoded_ms = bw_now_ms();
    deliver(all, job);
}

/* Bring in pictures up to the batch; sleep for one if there is nothing else to do. */
static void admit(struct worker *w)
{
    struct bw_workers *all = w->all;
    struct bw_job *job;
    while (w->count < all->batch && (job = bw_queue_pop(all->queue, w->count == 0))) {
        job->started_ms = bw_now_ms();
        if (bw_sampler_init(&job->sampler, &all->model->arch, &job->plan, NULL, &job->err))
            deliver(all, job);
        else
            w->active[w->count++] = job;
    }
}

/* Let go of pictures nobody wants any more. */
static void drop_cancelled(struct worker *w)
{
    int kept = 0;
    for (int i = 0; i < w->count; i++) {
        struct bw_job *job = w->active[i];
        if (atomic_load(&job->cancelled) || atomic_load(&w->all->stop)) {
            bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
            deliver(w->all, job);
        } else {
            w->active[kept++] = job;
        }
    }
    w->count = kept;
}

/* One evaluation of every picture in progress. */
static void advance(struct worker *w)
{
    struct bw_eval evals[MAX_BATCH];
    uint8_t masks[MAX_BATCH];
    double began_ms = bw_now_ms(), flops = 0;
    int kept = 0;
    const struct bw_arch *arch = &w->all->model->arch;
    for (int i = 0; i < w->count; i++) {
        bw_sampler_want(&w->active[i]->sampler, &evals[i]);
        masks[i] = evals[i].mask;
        int calls = bw_eval_passes(&evals[i]);
        flops += calls * bw_cost_flops(arch, evals[i].width, evals[i].height, evals[i].mask);
    }
    bw_denoise(w->denoiser, evals, w->count);
    bw_metrics_step(w->all->metrics, masks, w->count, arch->brick_count, bw_now_ms() - began_ms,
                    flops);
    for (int i = 0; i < w->count; i++) {
        struct bw_job *job = w->active[i];
        bw_sampler_take(&job->sampler);
        if (bw_sampler_steps_done(&job->sampler) == job->plan.steps)
            finish(w->all, job);
        else
            w->active[kept++] = job;
    }
    w->count = kept;
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    while (!atomic_load(&w->all->stop)) {
        admit(w);
        drop_cancelled(w);
        if (w->count)
            advance(w);
    }
    drop_cancelled(w);
    return NULL;
}

int bw_workers_new(struct bw_workers **out, const struct bw_model *model, int count, int threads,
                   int batch, struct bw_queue *queue, struct bw_metrics *metrics,
                   bw_workers_fn *notify, void *context, struct bw_err *err)
{
    struct bw_workers *all = calloc(1, sizeof *all + (size_t)count * sizeof(struct worker));
    if (!all)
        return bw_err_set(err, BW_ENOMEM, "out of memory for %d workers", count);
    all->model = model;
    all->queue = queue;
    all->metrics = metrics;
    all->notify = notify;
    all->context = context;
    all->batch = batch < MAX_BATCH ? batch : MAX_BATCH;
    all->worker_count = count;
    pthread_mutex_init(&all->lock, NULL);
    int code = BW_OK;
    for (int i = 0; !code && i < count; i++) {
        struct worker *w = &all->workers[i];
        w->all = all;
        code = bw_denoiser_new(&w->denoiser, model, threads, err);
        if (!code && pthread_create(&w->thread, NULL, worker_main, w))
            code = bw_err_set(err, BW_EIO, "the system refuses a thread for worker %d", i);
        w->running = !code;
    }
    if (code) {
        bw_workers_stop(all);
        bw_workers_free(all);
    } else {
        *out = all;
    }
    return code;
}

struct bw_job *bw_workers_collect(struct bw_workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    struct bw_job *over = workers->over;
    workers->over = NULL;
    pthread_mutex_unlock(&workers->lock);
    return over;
}

void bw_workers_stop(struct bw_workers *workers)
{
    if (!workers)
        return;
    atomic_store(&workers->stop, true);
    bw_queue_close(workers->queue);
    for (int i = 0; i < workers->worker_count; i++) {
        if (workers->workers[i].running)
            pthread_join(workers->workers[i].thread, NULL);
        workers->workers[i].running = false;
    }
}

void bw_workers_free(struct bw_workers *workers)
{
    if (!workers)
        return;
    for (int i = 0; i < workers->worker_count; i++)
        bw_denoiser_free(workers->workers[i].denoiser);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
