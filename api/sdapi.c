/* What the fields mean is in the readers; the larger part of them only makes sure that nothing is
 * asked for. */
#include "api/sdapi.h"

#include "api/json.h"
#include "api/parts.h"
#include "base/buf.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* That API's names; the last one of a solver is what it is called in answers. */
static const struct {
    const char *name;
    enum bw_solver solver;
} samplers[] = {{"dpmpp2m", BW_DPMPP2M},
                {"DPM++ 2M Karras", BW_DPMPP2M},
                {"DPM++ 2M", BW_DPMPP2M},
                {"Heun", BW_HEUN},
                {"Euler", BW_EULER}};

enum { SAMPLERS = sizeof samplers / sizeof *samplers };

static const char *sampler_name(enum bw_solver solver)
{
    int i = SAMPLERS - 1;
    while (samplers[i].solver != solver)
        i--;
    return samplers[i].name;
}

struct reading {
    struct bw_txt2img *out;
    bool named; // by sampler_name, which outweighs sampler_index
};

static struct bw_request *request_of(void *reading)
{
    return &((struct reading *)reading)->out->request;
}

/* ---- fields that mean something ---- */

static int read_prompt(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_txt2img *asked = ((struct reading *)out)->out;
    if (json_is_string(value) && !json_string_length(value))
        return BW_OK;
    return bw_json_text(value, pointer, asked->prompt, sizeof asked->prompt, err);
}

static int read_seed(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = request_of(out);
    int64_t seed;
    int code = bw_json_wide(value, pointer, -1, BW_MAX_SEED, &seed, err);
    if (code)
        return code;
    r->seeded = seed >= 0;
    r->picture.seed = r->seeded ? (uint64_t)seed : 0;
    return BW_OK;
}

static int read_sampler(const json_t *value, const char *pointer, enum bw_solver *solver,
                        struct bw_err *err)
{
    const char *name = json_string_value(value);
    for (int i = 0; name && i < SAMPLERS; i++) {
        if (bw_text_same(name, samplers[i].name)) {
            *solver = samplers[i].solver;
            return BW_OK;
        }
    }
    return bw_err_set_field(err, BW_ERANGE, pointer,
                            "not one of Euler, Heun, DPM++ 2M; samplers that add noise on the way, "
                            "as Euler a does, are not supported");
}

static int read_sampler_name(const json_t *value, const char *pointer, void *out,
                             struct bw_err *err)
{
    ((struct reading *)out)->named = true;
    return read_sampler(value, pointer, &request_of(out)->picture.solver, err);
}

static int read_sampler_index(const json_t *value, const char *pointer, void *out,
                              struct bw_err *err)
{
    enum bw_solver solver = BW_DPMPP2M;
    int code = read_sampler(value, pointer, &solver, err);
    if (!code && !((struct reading *)out)->named)
        request_of(out)->picture.solver = solver;
    return code;
}

static int read_scheduler(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    static const char *const names[] = {"automatic", "Automatic", "karras", "Karras"};
    const char *name = json_string_value(value);
    (void)out;
    for (int i = 0; name && i < 4; i++) {
        if (strcmp(name, names[i]) == 0)
            return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, pointer, "not one of Automatic, Karras");
}

static int read_batch_size(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_txt2img *asked = ((struct reading *)out)->out;
    return bw_json_int(value, pointer, 1, BW_MAX_COUNT, &asked->batch_size, err);
}

static int read_n_iter(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_txt2img *asked = ((struct reading *)out)->out;
    return bw_json_int(value, pointer, 1, BW_MAX_COUNT, &asked->n_iter, err);
}

static int read_steps(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_int(value, pointer, 1, BW_MAX_STEPS, &request_of(out)->picture.steps, err);
}

static int read_cfg_scale(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_number(value, pointer, 0, BW_MAX_GUIDANCE, &request_of(out)->picture.guidance,
                          err);
}

enum { MAX_SIDE = 999999 };

static int read_width(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_int(value, pointer, 1, MAX_SIDE, &request_of(out)->picture.width, err);
}

static int read_height(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_int(value, pointer, 1, MAX_SIDE, &request_of(out)->picture.height, err);
}

static int read_checkpoint(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = request_of(out);
    return bw_json_text(value, pointer, r->model, sizeof r->model, err);
}

static int read_override(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    static const struct bw_json_field fields[] = {{"sd_model_checkpoint", read_checkpoint},
                                                  {NULL, NULL}};
    return bw_json_read(value, pointer, fields, out, err);
}

/* ---- fields that may only ask for nothing ---- */

static int only(bool holds, const char *pointer, const char *what, struct bw_err *err)
{
    return holds ? BW_OK : bw_err_set_field(err, BW_ERANGE, pointer, "only %s is supported", what);
}

static int read_no_text(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_string(value) && !json_string_length(value), pointer, "\"\"", err);
}

static int read_no_list(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_array(value) && !json_array_size(value), pointer, "[]", err);
}

static int read_no_object(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_object(value) && !json_object_size(value), pointer, "{}", err);
}

static int read_null(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_null(value), pointer, "null", err);
}

static int read_false(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_false(value), pointer, "false", err);
}

static int read_true(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_true(value), pointer, "true", err);
}

/* It makes no difference. */
static int read_either(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_boolean(value), pointer, "true or false", err);
}

static int read_zero(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_number(value) && json_number_value(value) == 0, pointer, "0", err);
}

static int read_minus_one(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return only(json_is_number(value) && json_number_value(value) == -1, pointer, "-1", err);
}

static const struct bw_json_field txt2img_fields[] = {
    {"prompt", read_prompt},
    {"negative_prompt", read_no_text},
    {"styles", read_no_list},
    {"seed", read_seed},
    {"subseed", read_minus_one},
    {"subseed_strength", read_zero},
    {"sampler_name", read_sampler_name},
    {"sampler_index", read_sampler_index},
    {"scheduler", read_scheduler},
    {"batch_size", read_batch_size},
    {"n_iter", read_n_iter},
    {"steps", read_steps},
    {"cfg_scale", read_cfg_scale},
    {"width", read_width},
    {"height", read_height},
    {"restore_faces", read_false},
    {"tiling", read_false},
    {"enable_hr", read_false},
    {"do_not_save_samples", read_either},
    {"do_not_save_grid", read_either},
    {"save_images", read_false},
    {"send_images", read_true},
    {"override_settings", read_override},
    {"override_settings_restore_afterwards", read_either},
    {"alwayson_scripts", read_no_object},
    {"script_args", read_no_list},
    {"script_name", read_null},
    {NULL, NULL},
};

int bw_txt2img_parse(struct bw_txt2img *out, const char *body, size_t length, struct bw_err *err)
{
    json_t *root;
    int code = bw_json_object(&root, body, length, err);
    if (code)
        return code;
    struct bw_txt2img read = {.request = bw_request_default(), .batch_size = 1, .n_iter = 1};
    code = bw_json_read(root, "", txt2img_fields, &(struct reading){&read, false}, err);
    json_decref(root);
    read.request.format = BW_FORMAT_PNG;
    read.request.count = read.batch_size * read.n_iter;
    if (!code && read.request.count > BW_MAX_COUNT)
        code = bw_err_set_field(err, BW_ERANGE, "/n_iter", "%d times batch_size is more than %d",
                                read.n_iter, BW_MAX_COUNT);
    if (!code)
        *out = read;
    return code;
}

void bw_txt2img_point(struct bw_err *err)
{
    static const char *const fields[][2] = {{"/size", "/width"},
                                            {"/model", "/override_settings/sd_model_checkpoint"}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(err->field, fields[i][0]) == 0) {
            strcpy(err->field, fields[i][1]);
            return;
        }
    }
}

/* ---- answers ---- */

/* The line of parameters that tools read out of pictures of that API. Which picture of the seed it
 * is has no name there. */
static json_t *infotext_json(const struct bw_txt2img *asked, const struct bw_generation *g, int i)
{
    const struct bw_picture *p = &g->request.picture;
    return json_sprintf("%s%sSteps: %d, Sampler: %s, Schedule type: Karras, CFG scale: %g, "
                        "Seed: %lld, Size: %dx%d, Model hash: %.10s, Model: %s, Index: %lld",
                        asked->prompt, *asked->prompt ? "\n" : "", p->steps,
                        sampler_name(p->solver), p->guidance, (long long)p->seed, p->width,
                        p->height, g->model_digest, g->request.model, (long long)p->index + i);
}

static json_t *info_json(const struct bw_txt2img *asked, const struct bw_generation *g)
{
    const struct bw_picture *p = &g->request.picture;
    json_t *seeds = json_array(), *texts = json_array();
    for (int i = 0; i < g->request.count; i++) {
        json_array_append_new(seeds, json_integer((json_int_t)p->seed));
        json_array_append_new(texts, infotext_json(asked, g, i));
    }
    return json_pack("{s:s, s:I, s:o, s:i, s:f, s:s, s:i, s:i, s:i, s:s, s:s, s:o, s:i, s:o}",
                     "prompt", asked->prompt, "seed", (json_int_t)p->seed, "all_seeds", seeds,
                     "steps", p->steps, "cfg_scale", p->guidance, "sampler_name",
                     sampler_name(p->solver), "width", p->width, "height", p->height, "batch_size",
                     asked->batch_size, "sd_model_name", g->request.model, "sd_model_hash",
                     g->model_digest, "infotexts", texts, "index_of_first_image", 0,
                     "brickwork_request", bw_request_json(&g->request));
}

static json_t *parameters_json(const struct bw_txt2img *asked, const struct bw_generation *g)
{
    const struct bw_picture *p = &g->request.picture;
    return json_pack("{s:s, s:I, s:s, s:s, s:i, s:i, s:i, s:f, s:i, s:i, s:{s:s}}", "prompt",
                     asked->prompt, "seed", (json_int_t)p->seed, "sampler_name",
                     sampler_name(p->solver), "scheduler", "Karras", "batch_size",
                     asked->batch_size, "n_iter", asked->n_iter, "steps", p->steps, "cfg_scale",
                     p->guidance, "width", p->width, "height", p->height, "override_settings",
                     "sd_model_checkpoint", g->request.model);
}

char *bw_txt2img_render(const struct bw_txt2img *asked, const struct bw_generation *g)
{
    json_t *images = json_array();
    for (int i = 0; i < g->request.count; i++)
        json_array_append_new(images, bw_base64_json(g->images[i].bytes, g->images[i].size_bytes));
    char *info = bw_json_render(info_json(asked, g));
    json_t *root = json_pack("{s:o, s:o, s:s}", "images", images, "parameters",
                             parameters_json(asked, g), "info", info);
    free(info);
    return bw_json_render(root);
}

/* That API's pictures come one after the other, ours beside each other: as many count as finished
 * as the steps done would be enough for. */
char *bw_sd_progress_render(const struct bw_sd_progress *p)
{
    char timestamp[24] = "0";
    struct tm utc;
    time_t started = (time_t)p->started_s;
    bool busy = *p->job;
    int each = busy ? p->steps / p->pictures : 0;
    int finished = !busy ? 0 : p->step / each < p->pictures ? p->step / each : p->pictures - 1;
    if (busy && gmtime_r(&started, &utc))
        strftime(timestamp, sizeof timestamp, "%Y%m%d%H%M%S", &utc);
    return bw_json_render(json_pack(
        "{s:f, s:f, s:{s:b, s:b, s:s, s:i, s:s, s:i, s:i, s:i}, s:o, s:n}", "progress",
        busy ? fmin((double)p->step / p->steps, 1) : 0, "eta_relative", fmax(p->eta_ms, 0) / 1e3,
        "state", "skipped", 0, "interrupted", 0, "job", p->job, "job_count", p->pictures,
        "job_timestamp", timestamp, "job_no", finished, "sampling_step",
        busy ? p->step - finished * each : 0, "sampling_steps", each, "current_image",
        p->jpeg ? bw_base64_json(p->jpeg, p->jpeg_bytes) : json_null(), "textinfo"));
}
