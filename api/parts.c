/* A NULL among the parts of json_pack() makes the whole NULL, so nothing is checked on the way. */
#include "api/parts.h"

#include "api/json.h"
#include "base/buf.h"

#include <math.h>

json_t *bw_skip_json(const struct bw_skip *skip)
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

json_t *bw_size_json(const struct bw_picture *picture)
{
    return json_sprintf("%dx%d", picture->width, picture->height);
}

/* json_pack() leaves out an entry whose format ends with a star and whose value is NULL. */
json_t *bw_request_json(const struct bw_request *r)
{
    const struct bw_picture *p = &r->picture;
    bool normal = r->priority == BW_PRIORITY_NORMAL;
    return json_pack(
        "{s:s, s:o, s:i, s:o, s:i, s:s, s:f, s:I, s:I, s:o, s:s, s:i, s:o*, s:o*, s:s*, s:o*, "
        "s:s*}",
        "model", r->model, "class", class_json(p), "n", r->count, "size", bw_size_json(p), "steps",
        p->steps, "solver", bw_solver_name(p->solver), "guidance", p->guidance, "seed",
        (json_int_t)p->seed, "index", (json_int_t)p->index, "skip", bw_skip_json(&p->skip),
        "format", bw_format_name(r->format), "quality", r->quality, "progressive",
        r->progressive ? json_true() : NULL, "deadline_ms",
        r->deadline_ms > 0 ? json_real(r->deadline_ms) : NULL, "priority",
        normal ? NULL : bw_priority_name(r->priority), "partial_images",
        r->partial_images ? json_integer(r->partial_images) : NULL, "webhook",
        *r->webhook ? r->webhook : NULL);
}

json_t *bw_base64_json(const void *bytes, size_t count)
{
    struct bw_buf text = {0};
    bw_buf_add_base64(&text, bytes, count);
    json_t *value = text.failed ? NULL : json_stringn_nocheck(text.data, text.length_bytes);
    if (text.failed)
        bw_json_lack_memory();
    bw_buf_release(&text);
    return value;
}

json_t *bw_ms_json(double ms)
{
    return json_real(floor(ms * 1000 + 0.5) / 1000);
}

json_t *bw_timings_json(const struct bw_timings *t)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "queue_ms", bw_ms_json(t->queue_ms), "compute_ms",
                     bw_ms_json(t->compute_ms), "encode_ms", bw_ms_json(t->encode_ms), "total_ms",
                     bw_ms_json(t->total_ms), "predicted_ms", bw_ms_json(t->predicted_ms));
}

json_t *bw_cost_json(const struct bw_generation *g)
{
    return json_pack("{s:i, s:f}", "evaluations", g->evaluations, "gigaflops", g->gigaflops);
}

json_t *bw_offer_json(const struct bw_offer *offer)
{
    json_t *json = json_object();
    if (offer->retry_after_ms >= 0)
        json_object_set_new(json, "retry_after_ms",
                            json_integer((json_int_t)offer->retry_after_ms));
    if (offer->deadline_ms > 0)
        json_object_set_new(json, "deadline_ms", json_integer((json_int_t)offer->deadline_ms));
    if (offer->steps)
        json_object_set_new(json, "settings",
                            json_pack("{s:s, s:i}", "skip", "auto", "steps", offer->steps));
    return json;
}
