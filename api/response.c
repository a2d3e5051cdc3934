/* json_pack() returns NULL once any part is missing, so each function has one place where lack of
 * memory shows. */
#include "api/response.h"

#include "api/json.h"
#include "api/parts.h"
#include "base/version.h"

#include <stdlib.h>
#include <string.h>

char *bw_request_render(const struct bw_request *request)
{
    return bw_json_render(bw_request_json(request));
}

char *bw_comment_render(const struct bw_request *request, const struct bw_picture *picture,
                        const char *model_digest)
{
    struct bw_request own = bw_request_default();
    strcpy(own.model, request->model);
    own.format = request->format;
    own.quality = request->quality;
    own.progressive = request->progressive;
    own.picture = *picture;
    return bw_json_render(json_pack("{s:s, s:s, s:o}", "brickwork", BW_VERSION, "model_digest",
                                    model_digest, "request", bw_request_json(&own)));
}

char *bw_generation_render(const struct bw_generation *g)
{
    json_t *images = json_array();
    for (int i = 0; i < g->request.count; i++) {
        json_int_t index = (json_int_t)g->request.picture.index + i;
        json_array_append_new(
            images,
            json_pack("{s:I, s:s, s:o, s:f, s:o}", "index", index, "media_type",
                      bw_format_media_type(g->request.format), "skip",
                      bw_skip_json(&g->images[i].skip), "excess_loss", g->images[i].excess_loss,
                      "b64", bw_base64_json(g->images[i].bytes, g->images[i].size_bytes)));
    }
    return bw_json_render(
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "id", g->request_id, "model_digest",
                  g->model_digest, "request", bw_request_json(&g->request), "timings",
                  bw_timings_json(&g->timings), "cost", bw_cost_json(g), "images", images));
}

char *bw_generation_render_openai(const struct bw_generation *g, int64_t created_s)
{
    json_t *data = json_array();
    for (int i = 0; i < g->request.count; i++)
        json_array_append_new(
            data, json_pack("{s:o}", "b64_json",
                            bw_base64_json(g->images[i].bytes, g->images[i].size_bytes)));
    return bw_json_render(json_pack("{s:I, s:s, s:o, s:s, s:o}", "created", (json_int_t)created_s,
                                    "output_format", bw_format_name(g->request.format), "size",
                                    bw_size_json(&g->request.picture), "background", "opaque",
                                    "data", data));
}

char *bw_quote_render(const struct bw_quote *q)
{
    json_t *root = json_pack("{s:b, s:o, s:f}", "admitted", q->admitted, "request",
                             bw_request_json(&q->request), "excess_loss", q->excess_loss);
    if (root && q->admitted)
        json_object_set_new(root, "predicted",
                            json_pack("{s:o, s:o, s:o}", "queue_ms", bw_ms_json(q->queue_ms),
                                      "compute_ms", bw_ms_json(q->compute_ms), "total_ms",
                                      bw_ms_json(q->total_ms)));
    if (root && !q->admitted) {
        json_object_set_new(root, "reason", json_string(q->refusal));
        json_object_set_new(root, "offer", bw_offer_json(&q->offer));
    }
    return bw_json_render(root);
}
