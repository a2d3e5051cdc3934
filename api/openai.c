/* Fields of that API fall into three kinds: those that mean something here, those that may only say
 * what is so anyway, and the rest, which are refused rather than silently ignored. */
#include "api/openai.h"

#include "api/json.h"
#include "base/text.h"

#include <string.h>

enum { MAX_OPENAI_PARTIALS = 3 };

static int read_model(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = &((struct bw_images_request *)out)->request;
    return bw_json_text(value, pointer, r->model, sizeof r->model, err);
}

static int read_prompt(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_images_request *r = out;
    return bw_json_text(value, pointer, r->prompt, sizeof r->prompt, err);
}

static int read_count(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = &((struct bw_images_request *)out)->request;
    return bw_json_int(value, pointer, 1, BW_MAX_COUNT, &r->count, err);
}

static int read_size(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_picture *p = &((struct bw_images_request *)out)->request.picture;
    const char *text = json_string_value(value);
    if (!text || (strcmp(text, "auto") && !bw_text_to_size(text, &p->width, &p->height)))
        return bw_err_set_field(err, BW_ERANGE, pointer,
                                "not \"auto\" or a size such as \"128x192\"");
    return BW_OK;
}

static int read_output_format(const json_t *value, const char *pointer, void *out,
                              struct bw_err *err)
{
    struct bw_request *r = &((struct bw_images_request *)out)->request;
    const char *name = json_string_value(value);
    if (!name || !bw_format_named(name, &r->format))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not one of png, jpeg, webp");
    return BW_OK;
}

static int read_output_compression(const json_t *value, const char *pointer, void *out,
                                   struct bw_err *err)
{
    struct bw_request *r = &((struct bw_images_request *)out)->request;
    int quality, code = bw_json_int(value, pointer, 0, 100, &quality, err);
    if (!code)
        r->quality = quality ? quality : 1;
    return code;
}

/* Quality is said in bricks: what "low" and "medium" save is the client's explicit choice. The
 * names of one meaning end with that API's own. */
static const struct {
    const char *name, *preset;
} qualities[] = {{"auto", NULL}, {"standard", NULL},     {"hd", NULL},
                 {"high", NULL}, {"medium", "balanced"}, {"low", "fast"}};

enum { QUALITIES = sizeof qualities / sizeof *qualities, QUALITY_HIGH = 3 };

const char *bw_openai_quality(const struct bw_skip *asked)
{
    for (int i = QUALITY_HIGH + 1; asked->kind == BW_SKIP_PRESET && i < QUALITIES; i++) {
        if (strcmp(asked->preset, qualities[i].preset) == 0)
            return qualities[i].name;
    }
    return qualities[QUALITY_HIGH].name;
}

static int read_quality(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip *skip = &((struct bw_images_request *)out)->request.picture.skip;
    const char *name = json_string_value(value);
    for (int i = 0; name && i < QUALITIES; i++) {
        if (strcmp(name, qualities[i].name))
            continue;
        if (qualities[i].preset) {
            skip->kind = BW_SKIP_PRESET;
            strcpy(skip->preset, qualities[i].preset);
        }
        return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, pointer,
                            "not one of auto, low, medium, high, standard, hd");
}

/* Fields that may only say what is so anyway. */
static int read_constant(const json_t *value, const char *pointer, struct bw_err *err,
                         const char *const *allowed)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && allowed[i]; i++) {
        if (strcmp(text, allowed[i]) == 0)
            return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, pointer, "only \"%s\" is supported", allowed[0]);
}

static int read_response_format(const json_t *value, const char *pointer, void *out,
                                struct bw_err *err)
{
    (void)out;
    return read_constant(value, pointer, err, (const char *const[]){"b64_json", NULL});
}

static int read_background(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return read_constant(value, pointer, err, (const char *const[]){"opaque", "auto", NULL});
}

static int read_stream(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    if (!json_is_boolean(value))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not true or false");
    ((struct bw_images_request *)out)->stream = json_is_true(value);
    return BW_OK;
}

static int read_partial_images(const json_t *value, const char *pointer, void *out,
                               struct bw_err *err)
{
    struct bw_request *r = &((struct bw_images_request *)out)->request;
    return bw_json_int(value, pointer, 0, MAX_OPENAI_PARTIALS, &r->partial_images, err);
}

/* Who the end user is makes no difference here. */
static int read_user(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    char ignored[512];
    (void)out;
    return bw_json_text(value, pointer, ignored, sizeof ignored, err);
}

static const struct bw_json_field images_fields[] = {
    {"model", read_model},
    {"prompt", read_prompt},
    {"n", read_count},
    {"size", read_size},
    {"quality", read_quality},
    {"output_format", read_output_format},
    {"output_compression", read_output_compression},
    {"response_format", read_response_format},
    {"background", read_background},
    {"stream", read_stream},
    {"partial_images", read_partial_images},
    {"user", read_user},
    {NULL, NULL},
};

int bw_openai_parse(struct bw_images_request *out, const char *body, size_t length,
                    struct bw_err *err)
{
    json_t *root;
    int code = bw_json_object(&root, body, length, err);
    if (code)
        return code;
    struct bw_images_request read = {.request = bw_request_default()};
    read.request.format = BW_FORMAT_PNG;
    code = bw_json_read(root, "", images_fields, &read, err);
    json_decref(root);
    if (!code && !*read.prompt)
        code = bw_err_set_field(err, BW_ERANGE, "/prompt", "a prompt is required");
    if (!code && read.request.partial_images && !read.stream)
        code = bw_err_set_field(err, BW_ERANGE, "/partial_images", "only with stream true");
    if (!code)
        *out = read;
    return code;
}
