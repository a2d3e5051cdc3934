/* A generation owns its jobs and is owned by the loop; it lives until its exchange is answered or
 * gone and every job has come back, whichever is later. `over` counts the jobs that have. */
#include "server/generate.h"

#include "api/accept.h"
#include "api/openai.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_CHARS = 4096, REPLAY_HEADER_LIMIT = 4096 };

enum form { FORM_IMAGE, FORM_JSON, FORM_OPENAI };

/* One request. It outlives its exchange while a worker still holds one of its jobs. */
struct generation {
    struct bw_service *service;
    struct bw_exchange *exchange; // NULL once the client has left
    enum form form;
    struct bw_request request; // effective
    double job_flops;          // of each picture
    int over;                  // jobs that are not coming back
    struct bw_job jobs[];      // [request.count]
};

/* ---- the answer ---- */

static void respond_text(struct generation *g, char *body)
{
    const struct bw_header headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
    struct bw_err err = {0};
    if (body) {
        bw_exchange_respond(g->exchange, 200, headers, body, strlen(body));
    } else {
        bw_err_set(&err, BW_ENOMEM, "out of memory for the answer");
        bw_exchange_refuse(g->exchange, BW_PROBLEM_INTERNAL, &err, NULL);
    }
}

static void respond_image(struct generation *g, const struct bw_generation *result)
{
    char seed[24], timing[160];
    struct bw_buf *image = &g->jobs[0].image;
    size_t length = image->length_bytes;
    const struct bw_timings *t = &result->timings;
    char *replay = bw_request_render(&g->request);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)g->request.picture.seed);
    snprintf(timing, sizeof timing,
             "queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, total;dur=%.3f", t->queue_ms,
             t->compute_ms, t->encode_ms, t->total_ms);
    bool short_enough = replay && strlen(replay) <= REPLAY_HEADER_LIMIT;
    const struct bw_header headers[] = {
        {"Content-Type", bw_format_media_type(g->request.format)},
        {"Vary", "Accept"},
        {"Server-Timing", timing},
        {"Brickwork-Seed", seed},
        {"Brickwork-Model-Digest", result->model_digest},
        {short_enough ? "Brickwork-Request" : NULL, replay},
        {NULL, NULL},
    };
    bw_exchange_respond(g->exchange, 200, headers, bw_buf_steal(image), length);
    free(replay);
}

/* The timings of the picture that was last. */
static struct bw_timings timings_of(const struct generation *g)
{
    const struct bw_job *last = &g->jobs[0];
    for (int i = 1; i < g->request.count; i++) {
        if (g->jobs[i].encoded_ms > last->encoded_ms)
            last = &g->jobs[i];
    }
    return (struct bw_timings){.queue_ms = last->started_ms - last->admitted_ms,
                               .compute_ms = last->computed_ms - last->started_ms,
                               .encode_ms = last->encoded_ms - last->computed_ms,
                               .total_ms = bw_now_ms() - last->admitted_ms};
}

static void respond(struct generation *g)
{
    struct bw_image images[BW_MAX_COUNT];
    int calls = bw_plan_evaluations(&g->jobs[0].plan) * g->request.count;
    for (int i = 0; i < g->request.count; i++) {
        if (g->jobs[i].err.code) {
            bw_exchange_refuse(g->exchange, BW_PROBLEM_INTERNAL, &g->jobs[i].err, NULL);
            return;
        }
        images[i] = (struct bw_image){g->jobs[i].image.data, g->jobs[i].image.length_bytes};
    }
    struct bw_generation result = {
        .request_id = bw_exchange_id(g->exchange),
        .model_digest = g->service->model->digest,
        .request = g->request,
        .evaluations = calls,
        .gigaflops = g->job_flops * g->request.count / 1e9,
        .timings = timings_of(g),
        .images = images,
    };
    bw_exchange_note(g->exchange, "queue_ms", result.timings.queue_ms);
    bw_exchange_note(g->exchange, "compute_ms", result.timings.compute_ms);
    bw_exchange_note(g->exchange, "encode_ms", result.timings.encode_ms);
    if (g->form == FORM_IMAGE)
        respond_image(g, &result);
    else
        respond_text(g, g->form == FORM_JSON ? bw_generation_render(&result)
                                             : bw_generation_render_openai(&result, bw_unix_s()));
}

/* ---- the end of jobs ---- */

static void free_generation(struct generation *g)
{
    for (int i = 0; i < g->request.count; i++)
        bw_buf_release(&g->jobs[i].image);
    free(g);
}

/* One job is over; with the last one the request is. */
static void job_over(struct bw_job *job)
{
    struct generation *g = job->owner;
    struct bw_service *service = g->service;
    enum bw_outcome outcome = job->err.code == BW_ECANCELLED ? BW_CANCELLED
                              : job->err.code                ? BW_FAILED
                                                             : BW_DONE;
    double left_queue_ms = job->started_ms > 0 ? job->started_ms : bw_now_ms();
    bw_metrics_picture(&service->metrics, outcome, left_queue_ms - job->admitted_ms);
    service->in_progress--;
    service->pending_flops -= g->job_flops;
    if (service->in_progress == 0)
        service->pending_flops = 0; // no rounding error survives an idle moment
    if (++g->over < g->request.count)
        return;
    if (g->exchange)
        respond(g);
    free_generation(g);
}

void bw_generate_collect(void *context)
{
    struct bw_service *service = context;
    struct bw_job *job = bw_workers_collect(service->workers);
    while (job) {
        struct bw_job *next = job->next;
        job_over(job);
        job = next;
    }
}

static void client_left(void *context)
{
    struct generation *g = context;
    g->exchange = NULL;
    for (int i = 0; i < g->request.count; i++)
        atomic_store(&g->jobs[i].cancelled, true);
    struct bw_job *job = bw_queue_remove(&g->service->queue, g);
    while (job) {
        struct bw_job *next = job->next;
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
        job_over(job); // the last one frees g
        job = next;
    }
}

/* ---- admission ---- */

static void refuse(struct bw_exchange *x, const struct bw_err *err)
{
    bw_exchange_refuse(x, bw_problem_of(err), err, NULL);
}

/* All work admitted so far at the speed of late: when the queue will be empty. */
static void refuse_full(struct bw_service *service, struct bw_exchange *x, const struct bw_err *err)
{
    char seconds[24];
    double speed = bw_metrics_speed(&service->metrics) * service->config->workers;
    double wait_s = service->pending_flops / speed / 1e3;
    snprintf(seconds, sizeof seconds, "%.0f", wait_s > 1 ? ceil(wait_s) : 1);
    bw_exchange_refuse(x, BW_PROBLEM_QUEUE_FULL, err, &(struct bw_header){"Retry-After", seconds});
}

/* What is wrong with a request before its body is looked at; true if it was refused. */
static bool refuse_early(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_err err = {0};
    const char *type = bw_exchange_header(x, "Content-Type");
    char media[32] = "";
    if (bw_http_is_draining(service->http)) {
        bw_err_set(&err, BW_EBUSY, "no new work is taken; another replica may");
        bw_exchange_refuse(x, BW_PROBLEM_DRAINING, &err, &(struct bw_header){"Retry-After", "1"});
        return true;
    }
    if (type)
        snprintf(media, sizeof media, "%.*s", (int)strcspn(type, "; \t"), type);
    if (!bw_text_same(media, "application/json")) {
        bw_err_set(&err, BW_ESYNTAX, "Content-Type has to be application/json");
        bw_exchange_refuse(x, BW_PROBLEM_MEDIA_TYPE, &err, NULL);
        return true;
    }
    return false;
}

/* Settle what the client left open: model, seed, format. */
static int complete(struct bw_service *service, struct bw_request *r, struct bw_err *err)
{
    const char *name = service->model->arch.name;
    if (*r->model && strcmp(r->model, name))
        return bw_err_set_field(err, BW_ENOTFOUND, "/model", "there is no model \"%s\", only %s",
                                r->model, name);
    strcpy(r->model, name);
    if (!r->seeded)
        r->picture.seed = bw_random() & BW_MAX_SEED;
    return BW_OK;
}

/* Image bytes for one picture, JSON for any number, as the client prefers. -1: it takes neither. */
static int choose_form(const struct bw_exchange *x, struct bw_request *r)
{
    const char *offers[3];
    enum bw_format formats[3];
    char accept[BW_HEADERS_LIMIT];
    int count = 0;
    bw_exchange_list(x, "Accept", accept, sizeof accept);
    for (int f = BW_FORMAT_JPEG; r->count == 1 && f <= BW_FORMAT_PNG; f++) {
        if (r->format == BW_FORMAT_ANY || (int)r->format == f) {
            formats[count] = (enum bw_format)f;
            offers[count++] = bw_format_media_type((enum bw_format)f);
        }
    }
    formats[count] = r->format == BW_FORMAT_ANY ? BW_FORMAT_JPEG : r->format;
    offers[count++] = "application/json";
    int chosen = bw_accept_choose(accept, offers, count);
    if (chosen < 0)
        return -1;
    r->format = formats[chosen];
    return chosen == count - 1 ? FORM_JSON : FORM_IMAGE;
}

static struct generation *new_generation(struct bw_service *service, struct bw_exchange *x,
                                         enum form form, const struct bw_request *request,
                                         const struct bw_plan *plan)
{
    const struct bw_arch *arch = &service->model->arch;
    struct generation *g = calloc(1, sizeof *g + (size_t)request->count * sizeof(struct bw_job));
    if (!g)
        return NULL;
    g->service = service;
    g->exchange = x;
    g->form = form;
    g->request = *request;
    g->request.picture = bw_plan_picture(plan, arch);
    g->job_flops = bw_plan_flops(plan, arch);
    for (int i = 0; i < request->count; i++) {
        struct bw_job *job = &g->jobs[i];
        job->owner = g;
        job->plan = *plan;
        job->plan.index += (uint32_t)i;
        job->format = request->format;
        job->quality = request->quality;
        job->admitted_ms = bw_now_ms();
        job->next = i + 1 < request->count ? &g->jobs[i + 1] : NULL;
    }
    return g;
}

/* Plan the pictures and put them into the queue, or refuse. */
static void admit(struct bw_service *service, struct bw_exchange *x, enum form form,
                  struct bw_request *request)
{
    struct bw_plan plan;
    struct bw_err err = {0};
    if (complete(service, request, &err) ||
        bw_plan_make(&plan, &service->model->arch, &request->picture, service->config->max_area,
                     &err)) {
        refuse(x, &err);
        return;
    }
    struct generation *g = new_generation(service, x, form, request, &plan);
    if (!g) {
        bw_err_set(&err, BW_ENOMEM, "out of memory");
        refuse(x, &err);
    } else if (bw_queue_push(&service->queue, g->jobs, request->count, &err)) {
        refuse_full(service, x, &err);
        free_generation(g);
    } else {
        service->in_progress += request->count;
        service->pending_flops += g->job_flops * request->count;
        bw_exchange_on_leave(x, client_left, g);
    }
}

void bw_generate_handle(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    struct bw_err err = {0};
    size_t length;
    if (refuse_early(service, x))
        return;
    const char *body = bw_exchange_body(x, &length);
    if (bw_request_parse(&request, body, length, &err)) {
        refuse(x, &err);
        return;
    }
    int form = choose_form(x, &request);
    if (form < 0) {
        bw_err_set(&err, BW_ERANGE, "%s",
                   request.count > 1
                       ? "several pictures come as application/json only"
                       : "a picture comes as image/jpeg or image/png (field format allowing) or in "
                         "application/json");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_ACCEPTABLE, &err, NULL);
        return;
    }
    admit(service, x, (enum form)form, &request);
}

void bw_generate_handle_openai(struct bw_service *service, struct bw_exchange *x)
{
    static const char *const offer[] = {"application/json"};
    const struct bw_arch *arch = &service->model->arch;
    struct bw_request request;
    struct bw_err err = {0};
    char prompt[PROMPT_CHARS], accept[BW_HEADERS_LIMIT];
    size_t length;
    if (refuse_early(service, x))
        return;
    const char *body = bw_exchange_body(x, &length);
    if (bw_openai_parse(&request, prompt, sizeof prompt, body, length, &err)) {
        refuse(x, &err);
        return;
    }
    bw_exchange_list(x, "Accept", accept, sizeof accept);
    if (bw_accept_choose(accept, offer, 1) < 0) {
        bw_err_set(&err, BW_ERANGE, "pictures come in application/json here");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_ACCEPTABLE, &err, NULL);
        return;
    }
    if (arch->class_count) {
        int class_index = bw_openai_class(prompt, (const char(*)[BW_NAME_CHARS])arch->class_names,
                                          arch->class_count);
        if (class_index < 0) {
            bw_err_set_field(&err, BW_ERANGE, "/prompt",
                             "names no class of %s; GET /v1/models lists them", arch->name);
            refuse(x, &err);
            return;
        }
        request.picture.class_index = class_index;
    }
    admit(service, x, FORM_OPENAI, &request);
}
