/* Cards are made when they are asked for: models come and go, and prices are learned. */
#include "server/cards.h"

#include "base/text.h"
#include "engine/cost.h"
#include "engine/ladder.h"
#include "engine/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Answer with a body that is NULL without memory. */
static void respond(struct bw_exchange *x, char *body)
{
    const struct bw_header headers[] = {
        {"Content-Type", "application/json"}, {"Cache-Control", "no-cache"}, {NULL, NULL}};
    struct bw_err err = {0};
    if (body) {
        bw_exchange_respond(x, 200, headers, body, strlen(body));
        return;
    }
    bw_err_set(&err, BW_ENOMEM, "out of memory for the answer");
    bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
}

static struct bw_model_card card_of(const struct bw_served *served, int max_area)
{
    const struct bw_model *m = served->model;
    int scale = bw_arch_scale(&m->arch), side = m->arch.image_size;
    struct bw_model_card card = {
        .name = m->arch.name,
        .digest = m->digest,
        .license = m->license,
        .source = m->source,
        .created_s = served->loaded_s,
        .file_bytes = (int64_t)m->file_bytes,
        .parameters = (int64_t)m->parameter_count,
        .image_size = side * scale,
        .min_size = m->arch.min_size * scale,
        .side_multiple = bw_arch_side_multiple(&m->arch),
        .max_area = max_area,
        .class_count = m->arch.class_count,
        .class_names = (const char(*)[BW_NAME_CHARS])m->arch.class_names,
        .brick_count = m->arch.brick_count,
        .presets = {"none", "auto"},
    };
    for (int k = 0; k < m->arch.brick_count; k++) {
        const struct bw_brick_shape *b = &m->arch.bricks[k];
        double flops = bw_cost_flops(&m->arch, side, side, (uint8_t)(1 << k));
        card.bricks[k] =
            (struct bw_brick_card){b->size * scale, b->patch * scale, b->depth, flops / 1e9};
    }
    if (served->decoder)
        card.decoder = (struct bw_decoder_card){
            .digest = bw_decoder_digest(served->decoder),
            .parameters = (int64_t)bw_decoder_parameters(served->decoder),
            .gigaflops = bw_decoder_flops(served->decoder, side, side) / 1e9};
    for (int i = 0; bw_presets[i].name; i++)
        card.presets[i + 2] = bw_presets[i].name;
    return card;
}

void bw_cards_models(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_model_card cards[BW_MAX_MODELS];
    int count = bw_catalogue_count(service->catalogue);
    for (int i = 0; i < count; i++)
        cards[i] = card_of(bw_catalogue_at(service->catalogue, i), service->config->max_area);
    respond(x, bw_models_render(cards, count));
}

void bw_cards_model(struct bw_service *service, struct bw_exchange *x)
{
    const char *name = bw_text_after(bw_exchange_path(x), "/v1/models/");
    const struct bw_served *served = bw_catalogue_find(service->catalogue, name);
    struct bw_err err = {0};
    if (served) {
        struct bw_model_card card = card_of(served, service->config->max_area);
        respond(x, bw_model_render(&card));
        return;
    }
    bw_err_set(&err, BW_ENOTFOUND, "there is no model \"%.95s\"; GET /v1/models lists them", name);
    bw_exchange_refuse(x, BW_PROBLEM_UNKNOWN_MODEL, &err, NULL);
}

/* ---- capabilities ---- */

/* The rung of a ladder as a point; what was learned by calls must not make less work look dearer
 * than all of it. */
static struct bw_curve_point point_of(const struct bw_arch *arch, const struct bw_ladder *ladder,
                                      int rung, double full_ms)
{
    const uint8_t *masks = ladder->masks + (size_t)rung * (size_t)ladder->steps;
    return (struct bw_curve_point){.excess_loss =
                                       fmax(bw_schedule_excess(arch, masks, ladder->steps), 0),
                                   .cost = fmin(bw_ladder_rest_ms(ladder, rung, 0) / full_ms, 1)};
}

/* The picture with every default, as a class if the model has any. */
static int add_curve(struct bw_curve *curve, const struct bw_price *price, struct bw_err *err)
{
    const struct bw_arch *arch = price->arch;
    struct bw_picture picture = bw_picture_default();
    struct bw_ladder ladder;
    struct bw_plan plan;
    picture.class_index = arch->class_count ? 0 : BW_CLASS_NONE;
    *curve = (struct bw_curve){.model = arch->name, .point_count = BW_LADDER_RUNGS};
    int code = bw_plan_make(&plan, arch, &picture, INT32_MAX, err);
    if (!code)
        code = bw_ladder_init(&ladder, arch, &plan, true, price, err);
    if (code)
        return code;
    curve->full_ms = bw_ladder_rest_ms(&ladder, 0, 0);
    for (int rung = 0; rung < BW_LADDER_RUNGS; rung++)
        curve->points[rung] = point_of(arch, &ladder, rung, curve->full_ms);
    bw_ladder_release(&ladder);
    picture.skip.kind = BW_SKIP_PRESET;
    for (int i = 0; !code && bw_presets[i].name; i++) {
        strcpy(picture.skip.preset, bw_presets[i].name);
        code = bw_plan_make(&plan, arch, &picture, INT32_MAX, err);
        if (!code)
            code = bw_ladder_init(&ladder, arch, &plan, false, price, err);
        if (code)
            break;
        curve->presets[i] = point_of(arch, &ladder, 0, curve->full_ms);
        curve->presets[i].preset = bw_presets[i].name;
        curve->preset_count++;
        bw_ladder_release(&ladder);
    }
    return code;
}

void bw_cards_capabilities(struct bw_service *service, struct bw_exchange *x, int keep_jobs_s,
                           struct bw_features features)
{
    _Static_assert((int)BW_LADDER_RUNGS <= (int)BW_MAX_POINTS, "a curve holds a ladder");
    struct bw_err err = {0};
    int count = bw_catalogue_count(service->catalogue), code = BW_OK;
    struct bw_curve *curves = calloc((size_t)count, sizeof *curves);
    if (!curves)
        code = bw_err_set(&err, BW_ENOMEM, "out of memory for %d curves", count);
    for (int i = 0; !code && i < count; i++) {
        const struct bw_served *served = bw_catalogue_at(service->catalogue, i);
        struct bw_price price = bw_scheduler_price(&service->scheduler, &served->price);
        code = add_curve(&curves[i], &price, &err);
    }
    const struct bw_capabilities capabilities = {
        .kernels = bw_catalogue_at(service->catalogue, 0)->model->kernels->name,
        .max_area = service->config->max_area,
        .max_body_bytes = service->config->max_body_bytes,
        .queue = service->config->queue,
        .queue_ms = service->config->queue_ms,
        .keep_jobs_s = keep_jobs_s,
        .features = features,
        .model_count = count,
        .models = curves,
    };
    if (code)
        bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
    else
        respond(x, bw_capabilities_render(&capabilities));
    free(curves);
}
