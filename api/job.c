/* A result is an object with the members of a Job that only its end knows, status first. To make a
 * Job of it the frame's members are put in front, as text: pictures' schedules are long, and jobs
 * are asked for more often than they end. */
#include "api/job.h"

#include "api/json.h"
#include "api/parts.h"
#include "base/buf.h"

#include <assert.h>

char *bw_job_render(const struct bw_job_view *v)
{
    struct bw_buf out = {0};
    bw_buf_addf(&out, "{\"id\":\"%s\",\"object\":\"job\",\"created\":%lld,", v->id,
                (long long)v->created_s);
    if (v->finished_s)
        bw_buf_addf(&out, "\"finished\":%lld,", (long long)v->finished_s);
    if (v->expires_s)
        bw_buf_addf(&out, "\"expires\":%lld,", (long long)v->expires_s);
    if (v->result) {
        assert(*v->result == '{');
        bw_buf_add_text(&out, v->result + 1);
    } else {
        bw_buf_addf(&out,
                    "\"status\":\"%s\",\"request\":%s,\"progress\":{\"step\":%d,\"steps\":%d}}",
                    v->step ? "running" : "queued", v->request, v->step, v->steps);
    }
    return bw_buf_steal(&out);
}

static json_t *image_json(const char *id, const struct bw_generation *g, int i)
{
    const struct bw_image *image = &g->images[i];
    return json_pack("{s:I, s:s, s:o, s:f, s:I, s:o}", "index",
                     (json_int_t)g->request.picture.index + i, "media_type",
                     bw_format_media_type(g->request.format), "skip", bw_skip_json(&image->skip),
                     "excess_loss", image->excess_loss, "bytes", (json_int_t)image->size_bytes,
                     "url", json_sprintf("/v1/jobs/%s/images/%d", id, i));
}

char *bw_job_result(const char *id, const struct bw_generation *g)
{
    json_t *images = json_array();
    int steps = g->request.count * g->request.picture.steps;
    for (int i = 0; i < g->request.count; i++)
        json_array_append_new(images, image_json(id, g, i));
    return bw_json_render(json_pack("{s:s, s:o, s:{s:i, s:i}, s:s, s:o, s:o, s:o}", "status",
                                    "completed", "request", bw_request_json(&g->request),
                                    "progress", "step", steps, "steps", steps, "model_digest",
                                    g->model_digest, "timings", bw_timings_json(&g->timings),
                                    "cost", bw_cost_json(g), "images", images));
}

char *bw_job_failure(const char *request, int step, int steps, const char *problem)
{
    struct bw_buf out = {0};
    bw_buf_addf(&out,
                "{\"status\":\"failed\",\"request\":%s,\"progress\":{\"step\":%d,\"steps\":%d},"
                "\"problem\":%s}",
                request, step, steps, problem);
    return bw_buf_steal(&out);
}
