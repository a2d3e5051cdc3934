/* A result is an object with the members of a Job that only its end knows, status first. To make a
 * Job of it the frame's members are put in front, as text: pictures' schedules are long, and jobs
 * are asked for more often than they end. */
#include "api/job.h"

#include "api/json.h"
#include "api/parts.h"
#include "base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A part of a result, through the reader of requests. */
static int read_request(json_t *object, struct bw_request *out)
{
    char *text;
    int code = bw_json_object_text(object, "", &text, NULL);
    if (code)
        return code;
    code = bw_request_parse(out, text, strlen(text), NULL);
    free(text);
    return code;
}

static int read_image(json_t *json, struct bw_image *image)
{
    json_t *skip = json_object_get(json, "skip"), *wrapped = json_pack("{s:O}", "skip", skip);
    struct bw_request request;
    int code = read_request(wrapped, &request);
    json_decref(wrapped);
    *image =
        (struct bw_image){.excess_loss = json_number_value(json_object_get(json, "excess_loss"))};
    if (!code)
        image->skip = request.picture.skip;
    return code;
}

int bw_job_parse(const char *result, struct bw_generation *g, struct bw_image *images,
                 char digest[BW_JOB_DIGEST_CHARS], struct bw_err *err)
{
    struct bw_timings t;
    json_t *root, *request = NULL, *pictures = NULL;
    const char *model = "";
    int code = bw_json_object(&root, result, strlen(result), err);
    if (code)
        return code;
    *g = (struct bw_generation){.images = images, .model_digest = digest};
    bool good =
        !json_unpack(root, "{s:o, s:o, s:s, s:{s:F, s:F, s:F, s:F, s:F}, s:{s:i, s:F}}", "request",
                     &request, "images", &pictures, "model_digest", &model, "timings", "queue_ms",
                     &t.queue_ms, "compute_ms", &t.compute_ms, "encode_ms", &t.encode_ms,
                     "total_ms", &t.total_ms, "predicted_ms", &t.predicted_ms, "cost",
                     "evaluations", &g->evaluations, "gigaflops", &g->gigaflops);
    code = good ? read_request(request, &g->request) : BW_ESYNTAX;
    if (!code && json_array_size(pictures) != (size_t)g->request.count)
        code = BW_ESYNTAX;
    for (int i = 0; !code && i < g->request.count; i++)
        code = read_image(json_array_get(pictures, (size_t)i), &images[i]);
    if (!code) {
        g->timings = t;
        snprintf(digest, BW_JOB_DIGEST_CHARS, "%s", model);
    }
    json_decref(root);
    if (code && code != BW_ENOMEM)
        code = BW_ESYNTAX;
    return code ? bw_err_set(err, code,
                             code == BW_ENOMEM ? "out of memory" : "not the result of a job")
                : BW_OK;
}

char *bw_job_problem(const char *result, const char *request_id, int *status)
{
    json_t *root = NULL, *problem;
    bw_json_object(&root, result, strlen(result), NULL);
    problem = json_object_get(root, "problem");
    *status = (int)json_integer_value(json_object_get(problem, "status"));
    bool good = *status && !json_object_set_new(problem, "instance", json_string(request_id));
    char *text = good ? json_dumps(problem, JSON_COMPACT) : NULL;
    json_decref(root);
    if (bw_json_lacked_memory()) {
        free(text);
        text = NULL;
    }
    return text;
}
