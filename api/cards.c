/* As in response.c: json_pack() returns NULL once any part is missing. */
#include "api/cards.h"

#include "api/json.h"
#include "api/parts.h"
#include "api/request.h"
#include "base/version.h"

/* null of a model whose network draws pixels. */
static json_t *decoder_json(const struct bw_decoder_card *d)
{
    return d->digest ? json_pack("{s:s, s:I, s:f}", "digest", d->digest, "parameters",
                                 (json_int_t)d->parameters, "gigaflops", d->gigaflops)
                     : json_null();
}

static json_t *card_json(const struct bw_model_card *c)
{
    json_t *classes = json_array(), *bricks = json_array(), *presets = json_array();
    for (int i = 0; i < c->class_count; i++)
        json_array_append_new(classes, json_string(c->class_names[i]));
    for (int k = 0; k < c->brick_count; k++)
        json_array_append_new(bricks,
                              json_pack("{s:i, s:i, s:i, s:f}", "size", c->bricks[k].size, "patch",
                                        c->bricks[k].patch, "depth", c->bricks[k].depth,
                                        "gigaflops", c->bricks[k].gigaflops));
    for (const char *const *p = c->presets; *p; p++)
        json_array_append_new(presets, json_string(*p));
    json_t *sizes =
        json_pack("{s:i, s:i, s:i, s:i}", "default", c->image_size, "min_side", c->min_size,
                  "side_multiple", c->side_multiple, "max_area", c->max_area);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "id",
                     c->name, "object", "model", "created", (json_int_t)c->created_s, "owned_by",
                     "brickwork", "digest", c->digest, "file_bytes", (json_int_t)c->file_bytes,
                     "parameters", (json_int_t)c->parameters, "license", c->license, "source",
                     c->source, "sizes", sizes, "decoder", decoder_json(&c->decoder), "classes",
                     classes, "bricks", bricks, "presets", presets);
}

char *bw_models_render(const struct bw_model_card *cards, int count)
{
    json_t *data = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(data, card_json(&cards[i]));
    return bw_json_render(json_pack("{s:s, s:o}", "object", "list", "data", data));
}

char *bw_model_render(const struct bw_model_card *card)
{
    return bw_json_render(card_json(card));
}

/* ---- capabilities ---- */

static json_t *points_json(const struct bw_curve_point *points, int count)
{
    json_t *array = json_array();
    for (int i = 0; i < count; i++) {
        json_t *point =
            json_pack("{s:f, s:f}", "excess_loss", points[i].excess_loss, "cost", points[i].cost);
        if (points[i].preset)
            json_object_set_new(point, "name", json_string(points[i].preset));
        json_array_append_new(array, point);
    }
    return array;
}

static json_t *limits_json(const struct bw_capabilities *c)
{
    return json_pack("{s:i, s:i, s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "pictures", BW_MAX_COUNT,
                     "steps", BW_MAX_STEPS, "guidance", BW_MAX_GUIDANCE, "area", c->max_area,
                     "body_bytes", c->max_body_bytes, "deadline_ms", BW_MAX_DEADLINE_MS,
                     "partial_images", BW_MAX_PARTIALS, "queue", c->queue, "queue_ms", c->queue_ms,
                     "keep_jobs_s", c->keep_jobs_s);
}

char *bw_capabilities_render(const struct bw_capabilities *c)
{
    json_t *formats = json_array(), *solvers = json_array();
    json_t *priorities = json_array(), *models = json_array();
    for (int i = BW_FORMAT_JPEG; i <= BW_FORMAT_WEBP; i++)
        json_array_append_new(formats, json_string(bw_format_name((enum bw_format)i)));
    for (int i = BW_DPMPP2M; i <= BW_EULER; i++)
        json_array_append_new(solvers, json_string(bw_solver_name((enum bw_solver)i)));
    for (int i = BW_PRIORITY_LOW; i <= BW_PRIORITY_HIGH; i++)
        json_array_append_new(priorities, json_string(bw_priority_name((enum bw_priority)i)));
    for (int i = 0; i < c->model_count; i++) {
        const struct bw_curve *m = &c->models[i];
        json_array_append_new(models, json_pack("{s:s, s:o, s:o, s:o}", "id", m->model, "full_ms",
                                                bw_ms_json(m->full_ms), "presets",
                                                points_json(m->presets, m->preset_count), "curve",
                                                points_json(m->points, m->point_count)));
    }
    json_t *features = json_pack("{s:b, s:b, s:b}", "keys", c->features.keys, "webhooks",
                                 c->features.webhooks, "durable_jobs", c->features.durable_jobs);
    return bw_json_render(json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
                                    BW_VERSION, "kernels", c->kernels, "limits", limits_json(c),
                                    "formats", formats, "solvers", solvers, "priorities",
                                    priorities, "features", features, "models", models));
}
