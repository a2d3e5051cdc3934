/* A job has one owner at a time: the scheduler lends it for one evaluation after the other and,
 * when it is over, leaves it to the worker, which encodes the picture and hands it to the loop. */
#include "server/workers.h"

#include "base/clock.h"
#include "engine/cost.h"
#include "image/encode.h"
#include "server/catalogue.h"

#include <stdlib.h>

struct worker {
    struct bw_workers *all;
    int number;
    pthread_t thread;
    bool running;
};

struct bw_workers {
    struct bw_scheduler *scheduler; // NULL before the start
    struct bw_metrics *metrics;
    bw_workers_fn *notify;
    void *context;
    int worker_count;
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
    const struct bw_encoding encoding = {.format = job->format,
                                         .quality = job->quality,
                                         .progressive = job->progressive,
                                         .comment = job->comment};
    int code = bw_image_encode(rgb, width, height, &encoding, &job->image, &job->err);
    free(rgb);
    return code;
}

/* What is over on the worker's side: make an image of it, or say that nobody wants one. */
static void finish(struct bw_workers *all, struct bw_job *job)
{
    job->computed_ms = bw_now_ms();
    if (atomic_load(&job->cancelled))
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
    if (!job->err.code) {
        encode(job); // a failure is in job->err
        job->encoded_ms = bw_now_ms();
        bw_scheduler_learn_finish(all->scheduler, job->encoded_ms - job->computed_ms);
    }
    deliver(all, job);
}

/* One evaluation of those that can go on. */
static void advance(struct worker *w, struct bw_job **jobs, int count)
{
    const struct bw_served *served = jobs[0]->served; // all are of one model
    const struct bw_arch *arch = &served->model->arch;
    struct bw_eval evals[BW_MAX_CALL];
    struct bw_job *going[BW_MAX_CALL];
    uint8_t masks[BW_MAX_CALL];
    double began_ms = bw_now_ms(), flops = 0;
    int going_count = 0;
    for (int i = 0; i < count; i++) {
        if (jobs[i]->err.code || atomic_load(&jobs[i]->cancelled))
            continue;
        struct bw_eval *e = &evals[going_count];
        bw_sampler_want(&jobs[i]->sampler, e);
        e->mask = jobs[i]->plan.masks[jobs[i]->task.step]; // may be chosen only now
        masks[going_count] = e->mask;
        flops += bw_eval_passes(e) * bw_cost_flops(arch, e->width, e->height, e->mask);
        going[going_count++] = jobs[i];
    }
    if (!going_count)
        return;
    bw_denoise(served->denoisers[w->number], evals, going_count);
    for (int i = 0; i < going_count; i++)
        bw_sampler_take(&going[i]->sampler);
    bw_metrics_step(w->all->metrics, masks, going_count, arch->brick_count, bw_now_ms() - began_ms,
                    flops);
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct bw_workers *all = w->all;
    struct bw_job *jobs[BW_MAX_CALL];
    int count;
    while ((count = bw_scheduler_take(all->scheduler, w->number, jobs)) > 0) {
        for (int i = 0; i < count; i++) {
            struct bw_job *job = jobs[i];
            if (job->started_ms > 0)
                continue;
            job->started_ms = bw_now_ms();
            bw_sampler_init(&job->sampler, job->task.arch, &job->plan, NULL, &job->err);
        }
        double began_ms = bw_now_ms();
        advance(w, jobs, count);
        int over = bw_scheduler_give(all->scheduler, jobs, count, began_ms);
        for (int i = count - over; i < count; i++)
            finish(all, jobs[i]);
    }
    return NULL;
}

int bw_workers_new(struct bw_workers **out, int count, struct bw_err *err)
{
    struct bw_workers *all = calloc(1, sizeof *all + (size_t)count * sizeof(struct worker));
    if (!all)
        return bw_err_set(err, BW_ENOMEM, "out of memory for %d workers", count);
    all->worker_count = count;
    pthread_mutex_init(&all->lock, NULL);
    for (int i = 0; i < count; i++)
        all->workers[i] = (struct worker){.all = all, .number = i};
    *out = all;
    return BW_OK;
}

int bw_workers_start(struct bw_workers *workers, struct bw_scheduler *scheduler,
                     struct bw_metrics *metrics, bw_workers_fn *notify, void *context,
                     struct bw_err *err)
{
    workers->scheduler = scheduler;
    workers->metrics = metrics;
    workers->notify = notify;
    workers->context = context;
    for (int i = 0; i < workers->worker_count; i++) {
        struct worker *w = &workers->workers[i];
        if (pthread_create(&w->thread, NULL, worker_main, w))
            return bw_err_set(err, BW_EIO, "the system refuses a thread for worker %d", i);
        w->running = true;
    }
    return BW_OK;
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
    if (!workers || !workers->scheduler)
        return;
    bw_scheduler_close(workers->scheduler);
    for (int i = 0; i < workers->worker_count; i++) {
        if (workers->workers[i].running)
            pthread_join(workers->workers[i].thread, NULL);
        workers->workers[i].running = false;
    }
    struct bw_job *job = bw_scheduler_clear(workers->scheduler);
    while (job) {
        struct bw_job *next = job->next;
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
        deliver(workers, job);
        job = next;
    }
}

void bw_workers_free(struct bw_workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
