/* json_pack() returns NULL once any part is missing, so each function has one place where lack of
 * memory shows. */
#include "api/response.h"

#include "api/json.h"
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

static json_t *skip_json(const struct bw_skip *skip)
{
    if (skip->kind == BW_SKIP_NONE)
        return json_string("none");
    if (skip->kind == BW_SKIP_AUTO)
        return json_string("auto");
    if (skip->kind == BW_SKIP_PRESET)
        return json_string(skip->preset);
    if (skip->kind == BW_SKIP_T_BREAK)
        return json_pack("{s:f}", "t_break", skip->t_break);
    json_t *ranges = json_array();
    for (int i = 0; i < skip->range_count; i++) {
        json_t *bricks = json_array();
        for (int k = 0; k < BW_MAX_BRICKS; k++) {
            if (skip->ranges[i].resting >> k & 1)
                json_array_append_new(bricks, json_integer(k));
        }
        json_array_append_new(
            ranges, json_pack("{s:f, s:o}", "until", skip->ranges[i].until, "skip", bricks));
    }
    return json_pack("{s:o}", "schedule", ranges);
}

static json_t *class_json(const struct bw_picture *picture)
{
    if (picture->class_index == BW_CLASS_NONE)
        return json_null();
    return picture->class_index == BW_CLASS_NAMED ? json_string(picture->class_name)
                                                  : json_integer(picture->class_index);
}

static json_t *size_json(const struct bw_picture *picture)
{
    return json_sprintf("%dx%d", picture->width, picture->height);
}

/* progressive is said only if it is so: json_pack() leaves out an entry "o*" that is NULL. */
static json_t *request_json(const struct bw_request *r)
{
    const struct bw_picture *p = &r->picture;
    return json_pack("{s:s, s:o, s:i, s:o, s:i, s:s, s:f, s:I, s:I, s:o, s:s, s:i, s:o*}", "model",
                     r->model, "class", class_json(p), "n", r->count, "size", size_json(p), "steps",
                     p->steps, "solver", bw_solver_name(p->solver), "guidance", p->guidance, "seed",
                     (json_int_t)p->seed, "index", (json_int_t)p->index, "skip",
                     skip_json(&p->skip), "format", bw_format_name(r->format), "quality",
                     r->quality, "progressive", r->progressive ? json_true() : NULL);
}

char *bw_request_render(const struct bw_request *request)
{
    return bw_json_render(request_json(request));
}

static json_t *base64_json(const struct bw_image *image)
{
    struct bw_buf text = {0};
    bw_buf_add_base64(&text, image->bytes, image->size_bytes);
    json_t *value = text.failed ? NULL : json_stringn_nocheck(text.data, text.length_bytes);
    bw_buf_release(&text);
    return value;
}

/* Milliseconds to the microsecond: more digits would only claim what no clock here knows. */
static json_t *ms_json(double ms)
{
    return json_real((double)(long long)(ms * 1000 + 0.5) / 1000);
}

char *bw_generation_render(const struct bw_generation *g)
{
    json_t *images = json_array();
    for (int i = 0; i < g->request.count; i++) {
        json_int_t index = (json_int_t)g->request.picture.index + i;
        json_array_append_new(
            images, json_pack("{s:I, s:s, s:o, s:f, s:o}", "index", index, "media_type",
                              bw_format_media_type(g->request.format), "skip",
                              skip_json(&g->images[i].skip), "excess_loss",
                              g->images[i].excess_loss, "b64", base64_json(&g->images[i])));
    }
    json_t *timings = json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "queue_ms", ms_json(g->timings.queue_ms), "compute_ms",
        ms_json(g->timings.compute_ms), "encode_ms", ms_json(g->timings.encode_ms), "total_ms",
        ms_json(g->timings.total_ms), "predicted_ms", ms_json(g->timings.predicted_ms));
    return bw_json_render(
        json_pack("{s:s, s:s, s:o, s:o, s:{s:i, s:f}, s:o}", "id", g->request_id, "model_digest",
                  g->model_digest, "request", request_json(&g->request), "timings", timings, "cost",
                  "evaluations", g->evaluations, "gigaflops", g->gigaflops, "images", images));
}

char *bw_generation_render_openai(const struct bw_generation *g, int64_t created_s)
{
    json_t *data = json_array();
    for (int i = 0; i < g->request.count; i++)
        json_array_append_new(data, json_pack("{s:o}", "b64_json", base64_json(&g->images[i])));
    return bw_json_render(json_pack("{s:I, s:s, s:o, s:s, s:o}", "created", (json_int_t)created_s,
                                    "output_format", bw_format_name(g->request.format), "size",
                                    size_json(&g->request.picture), "background", "opaque", "data",
                                    data));
}

char *bw_quote_render(const struct bw_quote *q)
{
    json_t *root = json_pack("{s:b, s:o, s:f}", "admitted", q->admitted, "request",
                             request_json(&q->request), "excess_loss", q->excess_loss);
    if (root && q->admitted)
        json_object_set_new(root, "predicted",
                            json_pack("{s:o, s:o, s:o}", "queue_ms", ms_json(q->queue_ms),
                                      "compute_ms", ms_json(q->compute_ms), "total_ms",
                                      ms_json(q->total_ms)));
    if (root && !q->admitted) {
        json_object_set_new(root, "reason", json_string(q->refusal));
        json_object_set_new(root, "offer", bw_offer_json(&q->offer));
    }
    return root ? bw_json_render(root) : NULL;
}
