/* One function for each form; pictures are copied, since several listeners may want them. */
#include "server/answer.h"

#include "api/accept.h"
#include "api/etag.h"
#include "api/openai.h"
#include "base/clock.h"
#include "base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLAY_HEADER_LIMIT = 4096 };

void bw_answer_no_memory(struct bw_exchange *x)
{
    struct bw_err err = {0};
    bw_err_set(&err, BW_ENOMEM, "out of memory for the answer");
    bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
}

void bw_answer_json(struct bw_exchange *x, int status, const struct bw_header *extra, char *body)
{
    struct bw_header headers[4] = {{"Content-Type", "application/json"}};
    for (int i = 0; extra && extra[i].name && i < 2; i++)
        headers[i + 1] = extra[i];
    if (body)
        bw_exchange_respond(x, status, headers, body, strlen(body));
    else
        bw_answer_no_memory(x);
}

/* ---- entity tags ---- */

void bw_answer_etag(const struct bw_service *service, const struct bw_model *model,
                    const struct bw_request *effective, char etag[BW_ETAG_CHARS])
{
    struct bw_buf all = {0};
    char digest[BW_DIGEST_CHARS], *request = bw_request_render(effective);
    *etag = '\0';
    bw_buf_addf(&all, "%s %s %s %d %s", request ? request : "", model->digest, model->kernels->name,
                service->config->comments, BW_VERSION);
    if (request && !all.failed) {
        bw_digest(all.data, all.length_bytes, digest);
        snprintf(etag, BW_ETAG_CHARS, "\"%s\"", digest);
    }
    free(request);
    bw_buf_release(&all);
}

int bw_answer_choose(struct bw_exchange *x, const char *const *offers, int count,
                     const char *reason)
{
    char accept[BW_HEADERS_LIMIT];
    bw_exchange_list(x, "Accept", accept, sizeof accept);
    int chosen = bw_accept_choose(accept, offers, count);
    if (chosen < 0) {
        struct bw_err err = {0};
        bw_err_set(&err, BW_ERANGE, "%s", reason);
        bw_exchange_refuse(x, BW_PROBLEM_NOT_ACCEPTABLE, &err, NULL);
    }
    return chosen;
}

bool bw_answer_not_modified(struct bw_exchange *x, const char *etag, const char *lasting)
{
    char known[BW_HEADERS_LIMIT];
    bw_exchange_list(x, "If-None-Match", known, sizeof known);
    if (!*etag || !bw_etag_matches(*known ? known : NULL, etag))
        return false;
    const struct bw_header headers[] = {
        {"ETag", etag}, {"Cache-Control", lasting}, {"Vary", "Accept"}, {NULL, NULL}};
    bw_exchange_respond(x, 304, headers, NULL, 0);
    return true;
}

/* ---- pictures ---- */

const char *bw_answer_lasting(const struct bw_order *o)
{
    if (o->request.picture.skip.kind == BW_SKIP_AUTO)
        return "no-cache";
    return *o->service->config->keys_file ? "private, max-age=31536000, immutable"
                                          : "public, max-age=31536000, immutable";
}

/* Say what stands for the picture and for how long; true if the client has it already and was
 * told. */
static bool say_cacheable(const struct bw_listener *l, const struct bw_request *effective)
{
    const struct bw_order *o = l->order;
    const char *lasting = bw_answer_lasting(o);
    char etag[BW_ETAG_CHARS];
    bw_answer_etag(o->service, o->served->model, effective, etag);
    if (bw_answer_not_modified(l->exchange, etag, lasting))
        return true;
    bw_exchange_add_header(l->exchange, "Cache-Control", lasting);
    if (*etag)
        bw_exchange_add_header(l->exchange, "ETag", etag);
    return false;
}

static void answer_image(struct bw_exchange *x, const struct bw_generation *result)
{
    char seed[24], excess[24], timing[200];
    const struct bw_image *image = &result->images[0];
    const struct bw_timings *t = &result->timings;
    char *bytes = malloc(image->size_bytes), *replay = bw_request_render(&result->request);
    if (!bytes) {
        free(replay);
        bw_answer_no_memory(x);
        return;
    }
    memcpy(bytes, image->bytes, image->size_bytes);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)result->request.picture.seed);
    snprintf(timing, sizeof timing,
             "queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, total;dur=%.3f, "
             "predicted;dur=%.3f",
             t->queue_ms, t->compute_ms, t->encode_ms, t->total_ms, t->predicted_ms);
    snprintf(excess, sizeof excess, "%.6g", image->excess_loss);
    bool short_enough = replay && strlen(replay) <= REPLAY_HEADER_LIMIT;
    const struct bw_header headers[] = {
        {"Content-Type", bw_format_media_type(result->request.format)},
        {"Vary", "Accept"},
        {"Server-Timing", timing},
        {"Brickwork-Seed", seed},
        {"Brickwork-Excess-Loss", excess},
        {"Brickwork-Model-Digest", result->model_digest},
        {short_enough ? "Brickwork-Request" : NULL, replay},
        {NULL, NULL},
    };
    bw_exchange_respond(x, 200, headers, bytes, image->size_bytes);
    free(replay);
}

static void note_timings(struct bw_exchange *x, const struct bw_timings *t)
{
    bw_exchange_note(x, "predicted_ms", t->predicted_ms);
    bw_exchange_note(x, "queue_ms", t->queue_ms);
    bw_exchange_note(x, "compute_ms", t->compute_ms);
    bw_exchange_note(x, "encode_ms", t->encode_ms);
}

/* ---- forms ---- */

void bw_answer_result(struct bw_exchange *x, enum bw_form form, const struct bw_generation *result)
{
    if (form == BW_FORM_JSON)
        bw_answer_json(x, 200, NULL, bw_generation_render(result));
    else if (form == BW_FORM_OPENAI)
        bw_answer_json(x, 200, NULL, bw_generation_render_openai(result, bw_unix_s()));
    else
        answer_image(x, result);
}

void bw_answer(struct bw_listener *l)
{
    static const struct bw_header soon = {"Retry-After", "1"}; // from another process
    const struct bw_order *o = l->order;
    struct bw_exchange *x = l->exchange;
    struct bw_image images[BW_MAX_COUNT];
    if (o->failed) {
        bw_exchange_refuse(x, o->problem, &o->err, o->lost ? &soon : NULL);
        return;
    }
    struct bw_generation result = bw_order_result(o, images);
    result.request_id = bw_exchange_id(x);
    note_timings(x, &result.timings);
    if (l->form == BW_FORM_SDAPI)
        bw_answer_json(x, 200, NULL, bw_txt2img_render(l->asked, &result));
    else if (l->form != BW_FORM_CACHEABLE || !say_cacheable(l, &result.request))
        bw_answer_result(x, l->form, &result);
}

struct bw_openai_stream bw_answer_openai_stream(const struct bw_order *o)
{
    const struct bw_picture *picture = &o->request.picture;
    return (struct bw_openai_stream){.created_s = bw_unix_s(),
                                     .width = picture->width,
                                     .height = picture->height,
                                     .quality = bw_openai_quality(&picture->skip)};
}

/* The last event of a stream that ends well. */
static void complete(const struct bw_listener *l, struct bw_buf *out)
{
    const struct bw_order *o = l->order;
    struct bw_image images[BW_MAX_COUNT];
    struct bw_generation result = bw_order_result(o, images);
    result.request_id = bw_exchange_id(l->exchange);
    note_timings(l->exchange, &result.timings);
    if (l->form == BW_FORM_OPENAI_EVENTS) {
        const struct bw_openai_stream stream = bw_answer_openai_stream(o);
        bw_event_complete_openai(out, &result, &stream);
        return;
    }
    char *text = l->form == BW_FORM_JOB_EVENTS ? NULL : bw_generation_render(&result);
    const char *data = l->form == BW_FORM_JOB_EVENTS ? o->job_text : text;
    if (data)
        bw_event_frame(out, bw_event_name(BW_EVENT_COMPLETED), BW_LAST_EVENT_ID, data);
    else
        out->failed = true; // the stream breaks off: better than to end as if all were said
    free(text);
}

void bw_answer_last_event(const struct bw_listener *l, struct bw_buf *out)
{
    const struct bw_order *o = l->order;
    if (!o->failed) {
        complete(l, out);
        return;
    }
    bool openai = l->form == BW_FORM_OPENAI_EVENTS;
    char *text = bw_problem_render(o->problem, &o->err, NULL, bw_exchange_id(l->exchange), openai);
    if (text)
        bw_event_frame(out, bw_event_name(BW_EVENT_ERROR), openai ? 0 : BW_LAST_EVENT_ID, text);
    else
        out->failed = true;
    free(text);
}
