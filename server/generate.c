/* A generation owns its jobs and is owned by the loop; it lives until its exchange is answered or
 * gone and every job has come back, whichever is later. `over` counts the jobs that have. */
#include "server/generate.h"

#include "api/accept.h"
#include "api/openai.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_CHARS = 4096, REPLAY_HEADER_LIMIT = 4096 };

enum form { FORM_IMAGE, FORM_JSON, FORM_OPENAI, FORM_QUOTE };

/* One request. It outlives its exchange while a worker still holds one of its jobs. */
struct generation {
    struct bw_service *service;
    struct bw_exchange *exchange; // NULL once the client has left
    enum form form;
    struct bw_served *served;
    struct bw_request request; // effective, but for what the scheduler still decides
    double arrived_ms;
    int over;             // jobs that are not coming back
    struct bw_job jobs[]; // [request.count]
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
    char seed[24], excess[24], timing[200];
    struct bw_buf *image = &g->jobs[0].image;
    size_t length = image->length_bytes;
    const struct bw_timings *t = &result->timings;
    char *replay = bw_request_render(&result->request);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)g->request.picture.seed);
    snprintf(timing, sizeof timing,
             "queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, total;dur=%.3f, "
             "predicted;dur=%.3f",
             t->queue_ms, t->compute_ms, t->encode_ms, t->total_ms, t->predicted_ms);
    snprintf(excess, sizeof excess, "%.6g", result->images[0].excess_loss);
    bool short_enough = replay && strlen(replay) <= REPLAY_HEADER_LIMIT;
    const struct bw_header headers[] = {
        {"Content-Type", bw_format_media_type(g->request.format)},
        {"Vary", "Accept"},
        {"Server-Timing", timing},
        {"Brickwork-Seed", seed},
        {"Brickwork-Excess-Loss", excess},
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
                               .total_ms = bw_now_ms() - g->arrived_ms,
                               .predicted_ms = last->predicted_ms - g->arrived_ms};
}

/* The request as it was carried out; asked for again it gives the same pictures, at leisure. */
static struct bw_request effective_request(const struct bw_request *asked,
                                           const struct bw_plan *plan, const struct bw_arch *arch)
{
    struct bw_request request = *asked;
    request.picture = bw_plan_picture(plan, arch);
    request.deadline_ms = 0;
    request.priority = BW_PRIORITY_NORMAL;
    return request;
}

static void respond(struct generation *g)
{
    const struct bw_arch *arch = &g->served->model->arch;
    struct bw_image images[BW_MAX_COUNT];
    struct bw_generation result = {
        .request_id = bw_exchange_id(g->exchange),
        .model_digest = g->served->model->digest,
        .request = effective_request(&g->request, &g->jobs[0].plan, arch),
        .timings = timings_of(g),
        .images = images,
    };
    for (int i = 0; i < g->request.count; i++) {
        const struct bw_job *job = &g->jobs[i];
        const struct bw_plan *plan = &job->plan;
        if (job->err.code) {
            bw_exchange_refuse(g->exchange, BW_PROBLEM_INTERNAL, &job->err, NULL);
            return;
        }
        images[i] = (struct bw_image){
            .bytes = job->image.data,
            .size_bytes = job->image.length_bytes,
            .skip = bw_schedule_describe(arch, plan->masks, plan->steps),
            .excess_loss = bw_schedule_excess(arch, plan->masks, plan->steps),
        };
        result.evaluations += bw_plan_evaluations(plan);
        result.gigaflops += bw_plan_flops(plan, arch) / 1e9;
    }
    bool met = result.timings.total_ms <= g->request.deadline_ms;
    bw_metrics_prediction(&g->service->metrics, result.timings.predicted_ms,
                          result.timings.total_ms, g->request.deadline_ms > 0, met);
    bw_exchange_note(g->exchange, "predicted_ms", result.timings.predicted_ms);
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
    for (int i = 0; i < g->request.count; i++) {
        bw_buf_release(&g->jobs[i].image);
        free(g->jobs[i].comment);
        bw_ladder_release(&g->jobs[i].ladder);
        bw_sampler_release(&g->jobs[i].sampler); // if it left in the middle
    }
    bw_catalogue_release(g->served);
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
    struct bw_job *job = bw_scheduler_remove(&g->service->scheduler, g);
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

/* Settle what the client left open: model, seed. NULL if there is no such model. */
static struct bw_served *complete(struct bw_service *service, struct bw_request *r,
                                  struct bw_err *err)
{
    struct bw_served *served = bw_catalogue_find(service->catalogue, r->model);
    if (!served) {
        bw_err_set_field(err, BW_ENOTFOUND, "/model",
                         "there is no model \"%s\"; GET /v1/models lists them", r->model);
        return NULL;
    }
    strcpy(r->model, served->model->arch.name);
    if (!r->seeded)
        r->picture.seed = bw_random() & BW_MAX_SEED;
    r->seeded = true;
    return served;
}

/* Image bytes for one picture, JSON for any number, as the client prefers. -1: it takes neither. */
static int choose_form(const struct bw_exchange *x, struct bw_request *r)
{
    const char *offers[BW_FORMAT_WEBP + 1];
    enum bw_format formats[BW_FORMAT_WEBP + 1];
    char accept[BW_HEADERS_LIMIT];
    int count = 0;
    bw_exchange_list(x, "Accept", accept, sizeof accept);
    for (int f = BW_FORMAT_JPEG; r->count == 1 && f <= BW_FORMAT_WEBP; f++) {
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
                                         enum form form, struct bw_served *served,
                                         const struct bw_request *request,
                                         const struct bw_plan *plan)
{
    struct generation *g = calloc(1, sizeof *g + (size_t)request->count * sizeof(struct bw_job));
    if (!g)
        return NULL;
    g->service = service;
    g->exchange = x;
    g->form = form;
    g->served = served;
    bw_catalogue_retain(served);
    g->request = *request;
    g->arrived_ms = bw_now_ms();
    for (int i = 0; i < request->count; i++) {
        bw_job_init(&g->jobs[i], request, plan, &served->price, i, g->arrived_ms, g);
        g->jobs[i].served = served;
    }
    return g;
}

static struct bw_offer offer_of(const struct generation *g, const struct bw_answer *answer)
{
    const struct bw_verdict *v = &answer->verdict;
    double best_ms = v->best_ms - g->arrived_ms;
    return (struct bw_offer){
        .retry_after_ms = isfinite(v->retry_ms) ? ceil(fmax(v->retry_ms - bw_now_ms(), 0)) : -1,
        .deadline_ms = v->refusal == BW_REFUSED_DEADLINE && best_ms <= BW_MAX_DEADLINE_MS
                           ? ceil(best_ms) + 1 /* asking again takes a moment */
                           : 0,
        .steps = answer->steps,
    };
}

/* Why, in a sentence. */
static void explain(const struct generation *g, const struct bw_answer *answer, struct bw_err *err)
{
    *err = (struct bw_err){0};
    if (answer->verdict.refusal == BW_REFUSED_DEADLINE)
        bw_err_set_field(err, BW_EBUSY, "/deadline_ms",
                         "%.0f ms are not enough; %.0f ms could be promised now",
                         g->request.deadline_ms, ceil(answer->verdict.best_ms - g->arrived_ms) + 1);
    else
        bw_err_set(err, BW_EBUSY, "the work that may wait is bounded, and %d more picture%s",
                   g->request.count, g->request.count == 1 ? " does not fit" : "s do not fit");
}

static void refuse_for_now(struct generation *g, const struct bw_answer *answer)
{
    char seconds[24];
    struct bw_err err;
    struct bw_offer offer = offer_of(g, answer);
    bool full = answer->verdict.refusal == BW_REFUSED_FULL;
    const struct bw_header retry = {offer.retry_after_ms >= 0 ? "Retry-After" : NULL, seconds};
    snprintf(seconds, sizeof seconds, "%.0f", fmax(ceil(offer.retry_after_ms / 1e3), 1));
    explain(g, answer, &err);
    bw_metrics_admission(&g->service->metrics,
                         full ? BW_TURNED_AWAY_FULL : BW_TURNED_AWAY_DEADLINE);
    bw_exchange_refuse_offering(g->exchange, full ? BW_PROBLEM_QUEUE_FULL : BW_PROBLEM_DEADLINE,
                                &err, &retry, &offer);
}

/* The answer to "what if", from jobs that were weighed but not admitted. */
static void respond_quote(struct generation *g, const struct bw_answer *answer)
{
    const struct bw_arch *arch = &g->served->model->arch;
    const struct bw_job *job = &g->jobs[0];
    struct bw_plan plan = job->plan;
    struct bw_err err;
    bool admitted = answer->verdict.refusal == BW_ADMITTED;
    for (int i = 0; admitted && i < plan.steps; i++)
        plan.masks[i] = bw_ladder_mask(&job->ladder, job->task.rung, i);
    explain(g, answer, &err);
    double total_ms = fmax(answer->verdict.end_ms - g->arrived_ms, 0);
    double compute_ms =
        admitted ? fmin(bw_ladder_rest_ms(&job->ladder, job->task.rung, 0), total_ms) : 0;
    struct bw_quote quote = {
        .request = effective_request(&g->request, &plan, arch),
        .excess_loss = bw_schedule_excess(arch, plan.masks, plan.steps),
        .admitted = admitted,
        .refusal = err.message,
        .offer = offer_of(g, answer),
        .queue_ms = total_ms - compute_ms,
        .compute_ms = compute_ms,
        .total_ms = total_ms,
    };
    respond_text(g, bw_quote_render(&quote));
}

/* Plan the pictures and put them on the board, or refuse; for a quote say what would happen. */
static void admit(struct bw_service *service, struct bw_exchange *x, enum form form,
                  struct bw_request *request)
{
    struct bw_plan plan;
    struct bw_err err = {0};
    struct bw_answer answer = {0};
    struct bw_served *served = complete(service, request, &err);
    if (!served || bw_plan_make(&plan, &served->model->arch, &request->picture,
                                service->config->max_area, &err)) {
        refuse(x, &err);
        return;
    }
    struct generation *g = new_generation(service, x, form, served, request, &plan);
    if (!g) {
        bw_err_set(&err, BW_ENOMEM, "out of memory");
        refuse(x, &err);
        return;
    }
    int code = bw_scheduler_offer(&service->scheduler, bw_exchange_client(x), g->jobs,
                                  request->count, form == FORM_QUOTE, &answer, &err);
    if (!code && form != FORM_QUOTE) {
        bw_metrics_admission(&service->metrics, BW_TAKEN);
        service->in_progress += request->count;
        bw_exchange_on_leave(x, client_left, g);
        return;
    }
    if (form == FORM_QUOTE && (!code || code == BW_EBUSY))
        respond_quote(g, &answer);
    else if (answer.verdict.refusal)
        refuse_for_now(g, &answer);
    else
        refuse(x, &err);
    free_generation(g);
}

/* False if it was refused. */
static bool read_body(struct bw_service *service, struct bw_exchange *x, struct bw_request *request)
{
    struct bw_err err = {0};
    size_t length;
    if (refuse_early(service, x))
        return false;
    const char *body = bw_exchange_body(x, &length);
    if (!bw_request_parse(request, body, length, &err))
        return true;
    refuse(x, &err);
    return false;
}

void bw_generate_handle(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    struct bw_err err = {0};
    if (!read_body(service, x, &request))
        return;
    int form = choose_form(x, &request);
    if (form < 0) {
        bw_err_set(&err, BW_ERANGE, "%s",
                   request.count > 1
                       ? "several pictures come as application/json only"
                       : "a picture comes as image/jpeg, image/png or image/webp (field format "
                         "allowing) or in application/json");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_ACCEPTABLE, &err, NULL);
        return;
    }
    admit(service, x, (enum form)form, &request);
}

void bw_generate_quote(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    if (!read_body(service, x, &request))
        return;
    if (request.format == BW_FORMAT_ANY)
        request.format = BW_FORMAT_JPEG;
    admit(service, x, FORM_QUOTE, &request);
}

void bw_generate_handle_openai(struct bw_service *service, struct bw_exchange *x)
{
    static const char *const offer[] = {"application/json"};
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
    const struct bw_served *served = complete(service, &request, &err);
    if (!served) {
        refuse(x, &err);
        return;
    }
    const struct bw_arch *arch = &served->model->arch;
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
