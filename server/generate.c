/* Each handler reads a request in its own shape. prepare() makes an order of it, admit() has it
 * admitted; who is answered from it, and how, is said last. */
#include "server/generate.h"

#include "api/openai.h"
#include "api/response.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/schedule.h"
#include "image/encode.h"
#include "server/answer.h"
#include "server/catalogue.h"
#include "server/jobs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SD_PREVIEWS = 4 };

/* ---- reading ---- */

static void refuse(struct bw_exchange *x, const struct bw_err *err)
{
    bw_exchange_refuse(x, bw_problem_of(err), err, NULL);
}

bool bw_generate_refuse_draining(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_err err = {0};
    if (!bw_http_is_draining(service->http) || service->outlived)
        return false;
    bw_err_set(&err, BW_EBUSY, "no new work is taken; another replica may");
    bw_exchange_refuse(x, BW_PROBLEM_DRAINING, &err, &(struct bw_header){"Retry-After", "1"});
    return true;
}

/* What is wrong with a request before its body is looked at; true if it was refused. */
static bool refuse_early(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_err err = {0};
    const char *type = bw_exchange_header(x, "Content-Type");
    char media[32] = "";
    if (bw_generate_refuse_draining(service, x))
        return true;
    if (type)
        snprintf(media, sizeof media, "%.*s", (int)strcspn(type, "; \t"), type);
    if (!bw_text_same(media, "application/json")) {
        bw_err_set(&err, BW_ESYNTAX, "Content-Type has to be application/json");
        bw_exchange_refuse(x, BW_PROBLEM_MEDIA_TYPE, &err, NULL);
        return true;
    }
    return false;
}

bool bw_generate_read(struct bw_service *service, struct bw_exchange *x, struct bw_request *request)
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

/* The image formats that the request leaves open, as offers. */
static int offer_images(const struct bw_request *r, const char **offers, enum bw_format *formats)
{
    int count = 0;
    for (int f = BW_FORMAT_JPEG; r->count == 1 && f <= BW_FORMAT_WEBP; f++) {
        if (r->format == BW_FORMAT_ANY || (int)r->format == f) {
            formats[count] = (enum bw_format)f;
            offers[count++] = bw_format_media_type((enum bw_format)f);
        }
    }
    return count;
}

int bw_generate_form(struct bw_exchange *x, struct bw_request *r)
{
    const char *offers[5];
    enum bw_format formats[5], other = r->format == BW_FORMAT_ANY ? BW_FORMAT_JPEG : r->format;
    int images = offer_images(r, offers, formats);
    offers[images] = "application/json";
    offers[images + 1] = "text/event-stream";
    int chosen = bw_answer_choose(
        x, offers, images + 2,
        r->count > 1 ? "several pictures come as application/json or text/event-stream only"
                     : "a picture comes as image/jpeg, image/png or image/webp (field format "
                       "allowing), as application/json or as text/event-stream");
    if (chosen < 0)
        return -1;
    r->format = chosen < images ? formats[chosen] : other;
    return chosen < images ? BW_FORM_IMAGE : chosen == images ? BW_FORM_JSON : BW_FORM_EVENTS;
}

/* ---- admission ---- */

static struct bw_offer offer_of(const struct bw_order *o, const struct bw_answer *answer)
{
    const struct bw_verdict *v = &answer->verdict;
    double best_ms = v->best_ms - o->arrived_ms;
    return (struct bw_offer){
        .retry_after_ms = isfinite(v->retry_ms) ? ceil(fmax(v->retry_ms - bw_now_ms(), 0)) : -1,
        .deadline_ms = v->refusal == BW_REFUSED_DEADLINE && best_ms <= BW_MAX_DEADLINE_MS
                           ? ceil(best_ms) + 1 /* asking again takes a moment */
                           : 0,
        .steps = answer->steps,
    };
}

/* Why, in a sentence. */
static void explain(const struct bw_order *o, const struct bw_answer *answer, struct bw_err *err)
{
    *err = (struct bw_err){0};
    if (answer->verdict.refusal == BW_REFUSED_DEADLINE)
        bw_err_set_field(err, BW_EBUSY, "/deadline_ms",
                         "%.0f ms are not enough; %.0f ms could be promised now",
                         o->request.deadline_ms, ceil(answer->verdict.best_ms - o->arrived_ms) + 1);
    else
        bw_err_set(err, BW_EBUSY, "the work that may wait is bounded, and %d more picture%s",
                   o->request.count, o->request.count == 1 ? " does not fit" : "s do not fit");
}

static void refuse_for_now(struct bw_exchange *x, const struct bw_order *o,
                           const struct bw_answer *answer)
{
    char seconds[24];
    struct bw_err err;
    struct bw_offer offer = offer_of(o, answer);
    bool full = answer->verdict.refusal == BW_REFUSED_FULL;
    const struct bw_header retry = {offer.retry_after_ms >= 0 ? "Retry-After" : NULL, seconds};
    snprintf(seconds, sizeof seconds, "%.0f", fmax(ceil(offer.retry_after_ms / 1e3), 1));
    explain(o, answer, &err);
    bw_metrics_admission(&o->service->metrics,
                         full ? BW_TURNED_AWAY_FULL : BW_TURNED_AWAY_DEADLINE);
    bw_exchange_refuse_offering(x, full ? BW_PROBLEM_QUEUE_FULL : BW_PROBLEM_DEADLINE, &err, &retry,
                                &offer);
}

/* The answer to "what if", from jobs that were weighed but not admitted. */
static void respond_quote(struct bw_exchange *x, const struct bw_order *o,
                          const struct bw_answer *answer)
{
    const struct bw_arch *arch = &o->served->model->arch;
    const struct bw_job *job = &o->jobs[0];
    struct bw_plan plan = job->plan;
    struct bw_err err;
    bool admitted = answer->verdict.refusal == BW_ADMITTED;
    for (int i = 0; admitted && i < plan.steps; i++)
        plan.masks[i] = bw_ladder_mask(&job->ladder, job->task.rung, i);
    explain(o, answer, &err);
    double total_ms = fmax(answer->verdict.end_ms - o->arrived_ms, 0);
    double compute_ms =
        admitted ? fmin(bw_ladder_rest_ms(&job->ladder, job->task.rung, 0), total_ms) : 0;
    struct bw_quote quote = {
        .request = bw_effective_request(&o->request, &plan, arch),
        .excess_loss = bw_schedule_excess(arch, plan.masks, plan.steps),
        .admitted = admitted,
        .refusal = err.message,
        .offer = offer_of(o, answer),
        .queue_ms = total_ms - compute_ms,
        .compute_ms = compute_ms,
        .total_ms = total_ms,
    };
    bw_answer_json(x, 200, NULL, bw_quote_render(&quote));
}

/* Settle what the client left open, and no negotiation has settled: model, seed and format. */
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
    bw_request_tidy(r);
    return served;
}

/* An order for the request that nobody was asked about yet. */
static struct bw_order *prepare_for(struct bw_service *service, const char *client,
                                    double arrived_ms, struct bw_request *request, bool watched,
                                    struct bw_err *err)
{
    struct bw_plan plan;
    struct bw_served *served = complete(service, request, err);
    if (!served || bw_plan_make(&plan, &served->model->arch, &request->picture,
                                service->config->max_area, err))
        return NULL;
    const struct bw_picture picture = bw_plan_picture(&plan, &served->model->arch);
    request->picture.width = picture.width;
    request->picture.height = picture.height;
    if (bw_image_check_size(request->format, picture.width, picture.height, err))
        return NULL;
    struct bw_order *o = bw_order_new(service, served, client, arrived_ms, request, &plan, watched);
    if (!o)
        bw_err_set(err, BW_ENOMEM, "out of memory");
    return o;
}

static struct bw_order *prepare(struct bw_service *service, const struct bw_exchange *x,
                                struct bw_request *request, bool watched, struct bw_err *err)
{
    return prepare_for(service, bw_exchange_client(x), bw_exchange_arrived_ms(x), request, watched,
                       err);
}

struct bw_order *bw_generate_order_unasked(struct bw_service *service, const char *client,
                                           struct bw_request *request, struct bw_err *err)
{
    struct bw_answer answer = {0};
    struct bw_order *o = prepare_for(service, client, bw_now_ms(), request, true, err);
    for (int i = 0; o && i < request->count; i++)
        o->jobs[i].task.owed = true;
    if (!o || !bw_order_admit(o, false, &answer, err))
        return o;
    bw_order_discard(o);
    return NULL;
}

/* Have an order admitted; NULL, and the order gone, if it was refused. */
static struct bw_order *admit(struct bw_exchange *x, struct bw_order *o)
{
    struct bw_err err = {0};
    struct bw_answer answer = {0};
    if (!bw_order_admit(o, false, &answer, &err)) {
        bw_metrics_admission(&o->service->metrics, BW_TAKEN);
        return o;
    }
    if (answer.verdict.refusal)
        refuse_for_now(x, o, &answer);
    else
        refuse(x, &err);
    bw_order_discard(o);
    return NULL;
}

struct bw_order *bw_generate_order(struct bw_service *service, struct bw_exchange *x,
                                   struct bw_request *request, bool watched)
{
    struct bw_err err = {0};
    struct bw_order *o = prepare(service, x, request, watched, &err);
    if (o)
        return admit(x, o);
    refuse(x, &err);
    return NULL;
}

int bw_generate_settle(struct bw_service *service, struct bw_exchange *x,
                       struct bw_request *request)
{
    struct bw_err err = {0};
    struct bw_order *o = prepare(service, x, request, false, &err);
    if (!o) {
        refuse(x, &err);
        return 0;
    }
    int steps = o->request.count * o->jobs[0].plan.steps;
    bw_order_discard(o);
    return steps;
}

/* ---- handlers ---- */

/* A webhook is for jobs; true if the request was refused for having one. */
static bool refuse_webhook(struct bw_exchange *x, const struct bw_request *request)
{
    struct bw_err err = {0};
    if (!*request->webhook)
        return false;
    bw_err_set_field(&err, BW_ERANGE, "/webhook", "only jobs report their end");
    refuse(x, &err);
    return true;
}

void bw_generate_handle(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    if (!bw_generate_read(service, x, &request))
        return;
    if (bw_jobs_take(service, x, &request) || refuse_webhook(x, &request))
        return;
    int form = bw_generate_form(x, &request);
    if (form < 0)
        return;
    struct bw_order *o = bw_generate_order(service, x, &request, form == BW_FORM_EVENTS);
    if (o)
        bw_order_listen(o, x, (enum bw_form)form, 0, NULL);
}

static bool query_pair(const void *x, int i, const char **name, const char **value)
{
    return bw_exchange_query(x, i, name, value);
}

/* Where nothing is left to the service the tag is known before the picture; true if that was
 * answer enough. */
static bool known_already(struct bw_service *service, struct bw_exchange *x,
                          const struct bw_order *o)
{
    char etag[BW_ETAG_CHARS];
    const struct bw_model *model = o->served->model;
    if (o->request.picture.skip.kind == BW_SKIP_AUTO)
        return false;
    struct bw_request effective = bw_effective_request(&o->request, &o->jobs[0].plan, &model->arch);
    bw_answer_etag(service, model, &effective, etag);
    return bw_answer_not_modified(x, etag, bw_answer_lasting(o));
}

void bw_generate_handle_get(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    struct bw_err err = {0};
    const char *offers[5];
    enum bw_format formats[5];
    if (bw_generate_refuse_draining(service, x))
        return;
    if (bw_request_from_query(&request, query_pair, x, &err)) {
        refuse(x, &err);
        return;
    }
    int chosen =
        bw_answer_choose(x, offers, offer_images(&request, offers, formats),
                         "a picture with an address comes as image/jpeg, image/png or image/webp");
    if (chosen < 0)
        return;
    request.format = formats[chosen];
    struct bw_order *o = prepare(service, x, &request, false, &err);
    if (!o)
        refuse(x, &err);
    else if (known_already(service, x, o))
        bw_order_discard(o);
    else if (admit(x, o))
        bw_order_listen(o, x, BW_FORM_CACHEABLE, 0, NULL);
}

void bw_generate_quote(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_request request;
    struct bw_err err = {0};
    struct bw_answer answer = {0};
    if (!bw_generate_read(service, x, &request))
        return;
    struct bw_order *o = prepare(service, x, &request, false, &err);
    if (!o) {
        refuse(x, &err);
        return;
    }
    int code = bw_order_admit(o, true, &answer, &err);
    if (code && code != BW_EBUSY)
        refuse(x, &err);
    else
        respond_quote(x, o, &answer);
    bw_order_discard(o);
}

/* Find the class that the prompt asks for in the model of the request; false if it was refused. An
 * empty prompt asks for none. */
static bool find_class(struct bw_service *service, struct bw_exchange *x,
                       struct bw_request *request, const char *prompt)
{
    struct bw_err err = {0};
    const struct bw_served *served = bw_catalogue_find(service->catalogue, request->model);
    const struct bw_arch *arch = served ? &served->model->arch : NULL;
    if (!arch || !arch->class_count || !*prompt)
        return true; // an unknown model is refused where every model is
    request->picture.class_index =
        bw_prompt_class(prompt, (const char(*)[BW_NAME_CHARS])arch->class_names, arch->class_count);
    if (request->picture.class_index >= 0)
        return true;
    bw_err_set_field(&err, BW_ERANGE, "/prompt", "names no class of %s; GET /v1/models lists them",
                     arch->name);
    refuse(x, &err);
    return false;
}

void bw_generate_handle_openai(struct bw_service *service, struct bw_exchange *x)
{
    // that API's own clients say they accept JSON also when they want a stream
    static const char *const offers[] = {"application/json", "text/event-stream"};
    struct bw_images_request asked;
    struct bw_err err = {0};
    size_t length;
    if (refuse_early(service, x))
        return;
    const char *body = bw_exchange_body(x, &length);
    if (bw_openai_parse(&asked, body, length, &err)) {
        refuse(x, &err);
        return;
    }
    bool stream = asked.stream;
    if (bw_answer_choose(x, offers, stream ? 2 : 1,
                         stream ? "with \"stream\" pictures come as text/event-stream"
                                : "pictures come in application/json here") < 0 ||
        !find_class(service, x, &asked.request, asked.prompt))
        return;
    struct bw_order *o = bw_generate_order(service, x, &asked.request, stream);
    if (o)
        bw_order_listen(o, x, stream ? BW_FORM_OPENAI_EVENTS : BW_FORM_OPENAI, 0, NULL);
}

void bw_generate_handle_sdapi(struct bw_service *service, struct bw_exchange *x)
{
    static const char *const offer[] = {"application/json"};
    struct bw_err err = {0};
    size_t length;
    if (refuse_early(service, x))
        return;
    const char *body = bw_exchange_body(x, &length);
    struct bw_txt2img *asked = malloc(sizeof *asked);
    struct bw_order *o = NULL;
    if (!asked)
        bw_err_set(&err, BW_ENOMEM, "out of memory");
    if (!asked || bw_txt2img_parse(asked, body, length, &err)) {
        refuse(x, &err);
    } else if (!bw_answer_choose(x, offer, 1, "pictures come in application/json here") &&
               find_class(service, x, &asked->request, asked->prompt)) {
        asked->request.partial_images = SD_PREVIEWS;
        o = prepare(service, x, &asked->request, true, &err);
        if (o) {
            o = admit(x, o);
        } else {
            bw_txt2img_point(&err);
            refuse(x, &err);
        }
    }
    if (o)
        bw_order_listen(o, x, BW_FORM_SDAPI, 0, asked);
    else
        free(asked);
}

/* The oldest order of that client that came in this shape, or NULL. */
static const struct bw_order *oldest_sdapi(const struct bw_service *service, const char *client)
{
    for (const struct bw_order *o = service->oldest; o; o = o->next) {
        bool same = strcmp(o->client, client) == 0;
        if (same && o->listeners && o->listeners->form == BW_FORM_SDAPI)
            return o;
    }
    return NULL;
}

/* `without_image`: leave out the preview. False: the query is not one of ours, and was refused. */
static bool read_progress_query(struct bw_exchange *x, bool *without_image)
{
    const char *name, *value;
    struct bw_err err = {0};
    for (int i = 0; bw_exchange_query(x, i, &name, &value); i++) {
        *without_image = bw_text_same(value, "true");
        if (strcmp(name, "skip_current_image") == 0 &&
            (*without_image || bw_text_same(value, "false")))
            continue;
        bw_err_set(&err, BW_ESYNTAX, "the query is skip_current_image=true or =false, or nothing");
        refuse(x, &err);
        return false;
    }
    return true;
}

void bw_generate_sd_progress(struct bw_service *service, struct bw_exchange *x)
{
    bool without_image = false;
    if (!read_progress_query(x, &without_image))
        return;
    struct bw_sd_progress progress = {.job = "", .pictures = 1, .steps = 1};
    const struct bw_order *o = oldest_sdapi(service, bw_exchange_client(x));
    if (o) {
        double since_ms = bw_now_ms() - o->arrived_ms;
        progress = (struct bw_sd_progress){
            .job = bw_exchange_id(o->listeners->exchange),
            .started_s = bw_unix_s() - (int64_t)(since_ms / 1e3),
            .pictures = o->request.count,
            .step = o->steps_done,
            .steps = o->request.count * o->jobs[0].plan.steps,
            .eta_ms = fmax(o->predicted_ms - since_ms, 0),
        };
    }
    for (int i = o && !without_image ? o->event_count - 1 : -1; i >= 0 && !progress.jpeg; i--) {
        progress.jpeg = o->events[i].jpeg;
        progress.jpeg_bytes = o->events[i].jpeg_bytes;
    }
    bw_answer_json(x, 200, NULL, bw_sd_progress_render(&progress));
}
