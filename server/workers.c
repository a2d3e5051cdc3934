/* A job has one owner at a time: the scheduler lends it for one evaluation after the other, then
 * for decoding if the network draws latents, and when it is over leaves it to the worker, which
 * encodes the picture and hands it to the loop. */
#include "server/workers.h"

#include "api/response.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/companion.h"
#include "engine/cost.h"
#include "image/encode.h"
#include "server/catalogue.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { JOIN_TICK_MS = 5 };

static const double most_ms_between_looks = 2000, most_times_price = 20;

struct worker {
    struct bw_workers *all;
    int number;
    pthread_t thread;
    bool running;
    atomic_uint moves;           // what it has begun so far: odd while it is at something
    _Atomic double predicted_ms; // how long that takes
    atomic_int has;              // jobs; rather too few of them than one that it has let go
    unsigned seen;               // the rest is the watch's: `moves` at the last look,
    double still_ms;             // for how long that has been the same,
    bool dead;                   // and what follows from it
};

struct bw_workers {
    struct bw_scheduler *scheduler; // NULL before the start
    struct bw_metrics *metrics;
    bw_workers_fn *notify;
    void *context;
    int worker_count, dead_count;
    double looked_ms;
    pthread_mutex_t lock; // of `over` and the news
    struct bw_job *over;
    struct bw_news *news, **news_end;
    struct worker workers[];
};

/* The job is over: hand it back to the loop. */
static void deliver(struct bw_workers *all, struct bw_job *job)
{
    bw_sampler_release(&job->sampler);
    free(job->rgb);
    job->rgb = NULL;
    pthread_mutex_lock(&all->lock);
    job->next = all->over;
    all->over = job;
    pthread_mutex_unlock(&all->lock);
    all->notify(all->context);
}

static struct bw_picture picture_of(const struct bw_job *job)
{
    return bw_plan_picture(&job->plan, &job->served->model->arch);
}

/* Have the finished picture's pixels in job->rgb; a failure is in job->err. */
static int draw(struct worker *w, struct bw_job *job)
{
    const struct bw_served *served = job->served;
    const struct bw_picture picture = picture_of(job);
    job->rgb = malloc((size_t)picture.width * (size_t)picture.height * 3);
    if (!job->rgb)
        return bw_err_set(&job->err, BW_ENOMEM, "out of memory for a picture of %dx%d",
                          picture.width, picture.height);
    return bw_companion_picture(served->decoder, bw_denoiser_team(served->denoisers[w->number]),
                                &job->sampler, job->rgb, &job->err);
}

static int encode(struct bw_job *job)
{
    const struct bw_picture picture = picture_of(job);
    char *comment = job->commented
                        ? bw_comment_render(job->request, &picture, job->served->model->digest)
                        : NULL;
    const struct bw_encoding encoding = {.format = job->request->format,
                                         .quality = job->request->quality,
                                         .progressive = job->request->progressive,
                                         .comment = comment};
    int code = job->commented && !comment
                   ? bw_err_set(&job->err, BW_ENOMEM, "out of memory for a comment")
                   : bw_image_encode(job->rgb, picture.width, picture.height, &encoding,
                                     &job->image, &job->err);
    free(comment);
    return code;
}

/* What is over on the worker's side: make an image of it, or say that nobody wants one. */
static void finish(struct worker *w, struct bw_job *job)
{
    struct bw_workers *all = w->all;
    job->computed_ms = bw_now_ms();
    if (atomic_load(&job->cancelled))
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
    if (!job->err.code) {
        if (job->rgb || !draw(w, job)) // what is decoded has its pixels
            encode(job);
        job->encoded_ms = bw_now_ms();
        bw_scheduler_learn_finish(all->scheduler, job->encoded_ms - job->computed_ms);
    }
    atomic_fetch_sub(&w->has, 1);
    deliver(all, job);
}

/* Which of so many previews is due after that step; -1: none. They are spread evenly, one for each
 * step but the last at most. */
static int preview_due(int step, int steps, int previews)
{
    if (previews > steps - 1)
        previews = steps - 1;
    int due = step * (previews + 1) / steps;
    bool crossed = step < steps && due > (step - 1) * (previews + 1) / steps;
    return crossed ? due - 1 : -1;
}

/* Leave out rows and columns until rgb[height, width, 3] fits a preview; in place. */
static void shrink(unsigned char *rgb, int *width, int *height)
{
    int longest = *width > *height ? *width : *height;
    int factor = (longest + BW_PREVIEW_SIDE - 1) / BW_PREVIEW_SIDE;
    int small_width = (*width + factor - 1) / factor,
        small_height = (*height + factor - 1) / factor;
    for (int y = 0; y < small_height; y++) {
        for (int x = 0; x < small_width; x++)
            memmove(rgb + ((size_t)y * (size_t)small_width + (size_t)x) * 3,
                    rgb + ((size_t)y * (size_t)*width + (size_t)x) * (size_t)factor * 3, 3);
    }
    *width = small_width;
    *height = small_height;
}

/* A preview that fails is left out: the picture itself does not need it. Of latents it shows one
 * pixel each. */
static int add_preview(struct bw_job *job, struct bw_buf *out)
{
    static const struct bw_encoding encoding = {.format = BW_FORMAT_JPEG, .quality = 75};
    int width = job->plan.width, height = job->plan.height;
    unsigned char *rgb = malloc((size_t)width * (size_t)height * 3);
    if (!rgb)
        return BW_ENOMEM;
    bw_sampler_estimate(&job->sampler, rgb);
    shrink(rgb, &width, &height);
    int code = bw_image_encode(rgb, width, height, &encoding, out, NULL);
    free(rgb);
    return code;
}

/* Tell the loop of a step of a watched picture. */
static void report(struct bw_workers *all, struct bw_job *job, uint8_t mask)
{
    struct bw_news *news = calloc(1, sizeof *news);
    if (!news)
        return;
    news->job = job;
    news->step = bw_sampler_steps_done(&job->sampler);
    news->mask = mask;
    news->decode_ms = job->task.decode_ms;
    news->partial = preview_due(news->step, job->plan.steps, job->previews);
    if (news->partial >= 0 && add_preview(job, &news->preview))
        news->partial = -1;
    pthread_mutex_lock(&all->lock);
    *all->news_end = news;
    all->news_end = &news->next;
    pthread_mutex_unlock(&all->lock);
    all->notify(all->context);
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
    for (int i = 0; i < going_count; i++) {
        int done = bw_sampler_steps_done(&going[i]->sampler);
        bw_sampler_take(&going[i]->sampler);
        if (going[i]->watched && bw_sampler_steps_done(&going[i]->sampler) > done)
            report(w->all, going[i], masks[i]);
    }
    bw_metrics_step(w->all->metrics, masks, going_count, arch->brick_count, bw_now_ms() - began_ms,
                    flops);
}

/* The picture, whose network is done with it. */
static void decode(struct worker *w, struct bw_job *job)
{
    double began_ms = bw_now_ms();
    if (!job->err.code && !atomic_load(&job->cancelled) && !draw(w, job))
        bw_metrics_decode(w->all->metrics, bw_now_ms() - began_ms);
}

static void begin(struct worker *w, double predicted_ms)
{
    atomic_store(&w->predicted_ms, predicted_ms);
    atomic_fetch_add(&w->moves, 1);
}

static void end(struct worker *w)
{
    atomic_fetch_add(&w->moves, 1);
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
        atomic_store(&w->has, count);
        begin(w, jobs[0]->task.free_ms - began_ms);
        if (bw_task_decodes(&jobs[0]->task))
            decode(w, jobs[0]);
        else
            advance(w, jobs, count);
        end(w);
        atomic_store(&w->has, 0);
        int over = bw_scheduler_give(all->scheduler, jobs, count, began_ms);
        atomic_store(&w->has, over);
        for (int i = count - over; i < count; i++) {
            begin(w, 0);
            finish(w, jobs[i]);
            end(w);
        }
    }
    return NULL;
}

int bw_workers_new(struct bw_workers **out, int count, struct bw_err *err)
{
    struct bw_workers *all = calloc(1, sizeof *all + (size_t)count * sizeof(struct worker));
    if (!all)
        return bw_err_set(err, BW_ENOMEM, "out of memory for %d workers", count);
    all->worker_count = count;
    all->news_end = &all->news;
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

struct bw_news *bw_workers_news(struct bw_workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    struct bw_news *news = workers->news;
    workers->news = NULL;
    workers->news_end = &workers->news;
    pthread_mutex_unlock(&workers->lock);
    return news;
}

void bw_news_free(struct bw_news *news)
{
    bw_buf_release(&news->preview);
    free(news);
}

/* ---- the watch ---- */

static void note(struct worker *w, bool dead, const char *reason)
{
    struct bw_log_line line;
    if (dead == w->dead)
        return;
    w->dead = dead;
    w->all->dead_count += dead ? 1 : -1;
    bw_log_begin(&line, dead ? BW_LOG_ERROR : BW_LOG_WARN, dead ? "worker-dead" : "worker-back");
    bw_log_int(&line, "worker", w->number);
    bw_log_text(&line, "reason", reason);
    bw_log_ms(&line, "still_ms", w->still_ms);
    bw_log_end(&line);
}

static void look(struct worker *w, double since_ms, double patience_ms)
{
    unsigned moves = atomic_load(&w->moves);
    bool still = moves == w->seen && moves % 2;
    w->seen = moves;
    w->still_ms = still ? w->still_ms + fmin(since_ms, most_ms_between_looks) : 0;
    double most_ms = fmax(patience_ms, most_times_price * atomic_load(&w->predicted_ms));
    note(w, w->still_ms > most_ms, still ? "it makes no progress" : "it goes on");
}

/* Look at all of them; how many get on? One whose thread has ended is dead unless it was to end. */
static int look_at_all(struct bw_workers *workers, double now_ms, double patience_ms, bool closed)
{
    double since_ms = workers->looked_ms > 0 ? now_ms - workers->looked_ms : 0;
    int going = 0;
    workers->looked_ms = now_ms;
    for (int i = 0; i < workers->worker_count; i++) {
        struct worker *w = &workers->workers[i];
        if (w->running && pthread_tryjoin_np(w->thread, NULL) == 0) {
            w->running = false;
            if (!closed)
                note(w, true, "its thread has ended");
        }
        if (w->running)
            look(w, since_ms, patience_ms);
        going += w->running && !w->dead;
    }
    return going;
}

void bw_workers_watch(struct bw_workers *workers, double now_ms, double patience_ms)
{
    look_at_all(workers, now_ms, patience_ms, false);
}

int bw_workers_dead(const struct bw_workers *workers)
{
    return workers->dead_count;
}

int bw_workers_stuck(const struct bw_workers *workers)
{
    int stuck = 0;
    for (int i = 0; i < workers->worker_count; i++)
        stuck += workers->workers[i].dead ? atomic_load(&workers->workers[i].has) : 0;
    return stuck;
}

bool bw_workers_stop(struct bw_workers *workers, double patience_ms)
{
    if (!workers || !workers->scheduler)
        return true;
    bw_scheduler_close(workers->scheduler);
    while (look_at_all(workers, bw_now_ms(), patience_ms, true) > 0)
        nanosleep(&(struct timespec){.tv_nsec = JOIN_TICK_MS * 1000000}, NULL);
    if (workers->dead_count)
        return false;
    struct bw_job *job = bw_scheduler_clear(workers->scheduler);
    while (job) {
        struct bw_job *next = job->next;
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
        deliver(workers, job);
        job = next;
    }
    return true;
}

void bw_workers_free(struct bw_workers *workers)
{
    if (!workers)
        return;
    for (struct bw_news *news = workers->news, *next; news; news = next) {
        next = news->next;
        bw_news_free(news);
    }
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
