/* One reader per field; the table at the end is the contract's list of fields. */
#include "api/request.h"

#include "api/json.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *media_type;
} formats[] = {[BW_FORMAT_JPEG] = {"jpeg", "image/jpeg"},
               [BW_FORMAT_PNG] = {"png", "image/png"},
               [BW_FORMAT_WEBP] = {"webp", "image/webp"}};

const char *bw_format_name(enum bw_format format)
{
    return formats[format].name;
}

const char *bw_format_media_type(enum bw_format format)
{
    return formats[format].media_type;
}

bool bw_format_named(const char *name, enum bw_format *format)
{
    for (int i = BW_FORMAT_JPEG; i <= BW_FORMAT_WEBP; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *format = (enum bw_format)i;
            return true;
        }
    }
    return false;
}

const char *bw_priority_name(enum bw_priority priority)
{
    static const char *const names[] = {
        [BW_PRIORITY_LOW] = "low", [BW_PRIORITY_NORMAL] = "normal", [BW_PRIORITY_HIGH] = "high"};
    return names[priority];
}

struct bw_request bw_request_default(void)
{
    return (struct bw_request){.picture = bw_picture_default(),
                               .count = 1,
                               .quality = BW_DEFAULT_QUALITY,
                               .priority = BW_PRIORITY_NORMAL};
}

void bw_request_tidy(struct bw_request *r)
{
    if (r->format == BW_FORMAT_ANY)
        r->format = BW_FORMAT_JPEG;
    if (r->format != BW_FORMAT_JPEG)
        r->progressive = false;
    if (r->format == BW_FORMAT_PNG)
        r->quality = BW_DEFAULT_QUALITY;
}

static int read_model(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_text(value, pointer, r->model, sizeof r->model, err);
}

static int read_class(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_picture *p = &((struct bw_request *)out)->picture;
    if (json_is_null(value)) {
        p->class_index = BW_CLASS_NONE;
        return BW_OK;
    }
    if (json_is_string(value)) {
        p->class_index = BW_CLASS_NAMED;
        return bw_json_text(value, pointer, p->class_name, sizeof p->class_name, err);
    }
    if (bw_json_int(value, pointer, 0, INT32_MAX, &p->class_index, NULL))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not a class name, a class index or null");
    return BW_OK;
}

static int read_count(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_int(value, pointer, 1, BW_MAX_COUNT, &r->count, err);
}

static int read_size(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_picture *p = &((struct bw_request *)out)->picture;
    const char *text = json_string_value(value);
    if (!text || !bw_text_to_size(text, &p->width, &p->height))
        return bw_err_set_field(err, BW_ERANGE, pointer,
                                "not a size \"WxH\" of whole pixels, such as \"128x192\"");
    return BW_OK;
}

static int read_steps(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_int(value, pointer, 1, BW_MAX_STEPS, &r->picture.steps, err);
}

static int read_solver(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    const char *name = json_string_value(value);
    if (!name || !bw_solver_named(name, &r->picture.solver))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not one of dpmpp2m, heun, euler");
    return BW_OK;
}

static int read_guidance(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_number(value, pointer, 0, BW_MAX_GUIDANCE, &r->picture.guidance, err);
}

static int read_seed(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    int64_t seed;
    int code = bw_json_wide(value, pointer, 0, BW_MAX_SEED, &seed, err);
    if (code)
        return code;
    r->picture.seed = (uint64_t)seed;
    r->seeded = true;
    return BW_OK;
}

static int read_index(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    int64_t index;
    int code = bw_json_wide(value, pointer, 0, BW_MAX_INDEX - BW_MAX_COUNT, &index, err);
    if (!code)
        r->picture.index = (uint32_t)index;
    return code;
}

static int read_format(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    const char *name = json_string_value(value);
    if (!name || !bw_format_named(name, &r->format))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not one of jpeg, png, webp");
    return BW_OK;
}

static int read_quality(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_int(value, pointer, 1, 100, &r->quality, err);
}

static int read_progressive(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    if (!json_is_boolean(value))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not true or false");
    r->progressive = json_is_true(value);
    return BW_OK;
}

static int read_deadline(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_number(value, pointer, BW_MIN_DEADLINE_MS, BW_MAX_DEADLINE_MS, &r->deadline_ms,
                          err);
}

static int read_priority(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    const char *name = json_string_value(value);
    for (int i = BW_PRIORITY_LOW; name && i <= BW_PRIORITY_HIGH; i++) {
        if (strcmp(name, bw_priority_name((enum bw_priority)i)) == 0) {
            r->priority = (enum bw_priority)i;
            return BW_OK;
        }
    }
    return bw_err_set_field(err, BW_ERANGE, pointer, "not one of low, normal, high");
}

static int read_partial_images(const json_t *value, const char *pointer, void *out,
                               struct bw_err *err)
{
    struct bw_request *r = out;
    return bw_json_int(value, pointer, 0, BW_MAX_PARTIALS, &r->partial_images, err);
}

static int read_webhook(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = out;
    const char *text = json_string_value(value), *rest = NULL;
    if (text && !(rest = bw_text_after(text, "https://")))
        rest = bw_text_after(text, "http://");
    if (!rest || !*rest)
        return bw_err_set_field(err, BW_ERANGE, pointer, "does not begin with http:// or https://");
    while (*rest >= '!' && *rest <= '~')
        rest++;
    if (*rest)
        return bw_err_set_field(err, BW_ERANGE, pointer,
                                "holds a character that has no place in an address");
    return bw_json_text(value, pointer, r->webhook, sizeof r->webhook, err);
}

static int read_t_break(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip *skip = out;
    skip->kind = BW_SKIP_T_BREAK;
    return bw_json_number(value, pointer, 0, 1, &skip->t_break, err);
}

static int read_until(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip_range *range = out;
    return bw_json_number(value, pointer, 0, 1, &range->until, err);
}

static int read_resting(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip_range *range = out;
    if (!json_is_array(value))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not an array of brick numbers");
    for (size_t i = 0; i < json_array_size(value); i++) {
        int brick;
        if (bw_json_int(json_array_get(value, i), pointer, 0, BW_MAX_BRICKS - 1, &brick, NULL))
            return bw_err_set_field(err, BW_ERANGE, pointer, "holds something other than 0..%d",
                                    BW_MAX_BRICKS - 1);
        range->resting |= (uint8_t)(1 << brick);
    }
    return BW_OK;
}

static int read_range(const json_t *value, const char *pointer, struct bw_skip *skip,
                      struct bw_err *err)
{
    static const struct bw_json_field fields[] = {
        {"until", read_until}, {"skip", read_resting}, {NULL, NULL}};
    struct bw_skip_range range = {0};
    double before = skip->range_count ? skip->ranges[skip->range_count - 1].until : 0;
    int code = bw_json_read(value, pointer, fields, &range, err);
    if (code)
        return code;
    if (json_object_size(value) != 2)
        return bw_err_set_field(err, BW_ERANGE, pointer, "needs both until and skip");
    if (!(range.until > before))
        return bw_err_set_field(err, BW_ERANGE, pointer, "until does not rise above %g", before);
    skip->ranges[skip->range_count++] = range;
    return BW_OK;
}

static int read_schedule(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip *skip = out;
    size_t count = json_array_size(value);
    skip->kind = BW_SKIP_SCHEDULE;
    if (count < 1 || count > BW_MAX_STEPS)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not an array of 1 to %d ranges",
                                BW_MAX_STEPS);
    int code = BW_OK;
    for (size_t i = 0; !code && i < count; i++) {
        char at[BW_POINTER_CHARS];
        snprintf(at, sizeof at, "%.64s/%zu", pointer, i);
        code = read_range(json_array_get(value, i), at, skip, err);
    }
    return code;
}

static int read_skip(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    static const struct bw_json_field fields[] = {
        {"t_break", read_t_break}, {"schedule", read_schedule}, {NULL, NULL}};
    struct bw_skip *skip = &((struct bw_request *)out)->picture.skip;
    *skip = (struct bw_skip){.kind = BW_SKIP_NONE};
    if (json_is_string(value)) {
        int code = bw_json_text(value, pointer, skip->preset, sizeof skip->preset, err);
        skip->kind = !strcmp(skip->preset, "none")   ? BW_SKIP_NONE
                     : !strcmp(skip->preset, "auto") ? BW_SKIP_AUTO
                                                     : BW_SKIP_PRESET;
        return code;
    }
    if (json_is_object(value) && json_object_size(value) == 1)
        return bw_json_read(value, pointer, fields, skip, err);
    return bw_err_set_field(
        err, BW_ERANGE, pointer,
        "not \"none\", \"auto\", a preset, {\"t_break\": ...} or {\"schedule\": "
        "[...]}");
}

static const struct bw_json_field request_fields[] = {
    {"model", read_model},
    {"class", read_class},
    {"n", read_count},
    {"size", read_size},
    {"steps", read_steps},
    {"solver", read_solver},
    {"guidance", read_guidance},
    {"seed", read_seed},
    {"index", read_index},
    {"skip", read_skip},
    {"format", read_format},
    {"quality", read_quality},
    {"progressive", read_progressive},
    {"deadline_ms", read_deadline},
    {"priority", read_priority},
    {"partial_images", read_partial_images},
    {"webhook", read_webhook},
    {NULL, NULL},
};

int bw_request_parse(struct bw_request *request, const char *body, size_t length,
                     struct bw_err *err)
{
    json_t *root;
    struct bw_request out = bw_request_default();
    int code = bw_json_object(&root, body, length, err);
    if (code)
        return code;
    code = bw_json_read(root, "", request_fields, &out, err);
    json_decref(root);
    if (!code)
        *request = out;
    return code;
}

static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

int bw_request_set(struct bw_request *request, const char *field, const char *text,
                   struct bw_err *err)
{
    double number;
    char pointer[BW_POINTER_CHARS];
    json_error_t syntax;
    bool literal = *text == '{' || strcmp(text, "true") == 0 || strcmp(text, "false") == 0 ||
                   bw_text_to_number(text, -1e18, 1e18, &number);
    bool named = is_utf8(field);
    if (bw_json_lacked_memory())
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!named)
        return bw_err_set(err, BW_ERANGE, "a field's name is not valid UTF-8");
    json_t *value = NULL, *object;
    int code = BW_OK;
    if (literal)
        code = bw_json_load(&value, text, strlen(text), JSON_DECODE_ANY, &syntax);
    if (!value && code != BW_ENOMEM && *text != '{') // "007" is a name
        value = json_string(text);
    if (code == BW_ENOMEM || bw_json_lacked_memory()) {
        json_decref(value);
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    if (!value) {
        bw_json_pointer(pointer, "", field);
        return bw_err_set_field(err, BW_ERANGE, pointer, "%s",
                                *text == '{' ? syntax.text : "not valid UTF-8");
    }
    object = json_object();
    json_object_set_new(object, field, value);
    code = bw_json_lacked_memory() ? bw_err_set(err, BW_ENOMEM, "out of memory")
                                   : bw_json_read(object, "", request_fields, request, err);
    json_decref(object);
    return code;
}

/* One pair of a query, of which those before it are read. */
static int read_pair(struct bw_request *request, bw_query_fn *pair, const void *query, int i,
                     struct bw_err *err)
{
    const char *name, *value, *other, *ignored;
    char pointer[BW_POINTER_CHARS];
    pair(query, i, &name, &value);
    bool no_class = strcmp(name, "class") == 0 && strcmp(value, "null") == 0;
    int code = no_class ? BW_OK : bw_request_set(request, name, value, err);
    if (code)
        return code;
    bw_json_pointer(pointer, "", name);
    for (int k = 0; k < i; k++) {
        if (pair(query, k, &other, &ignored) && strcmp(other, name) == 0)
            return bw_err_set_field(err, BW_ERANGE, pointer, "given twice");
    }
    if (strcmp(name, "partial_images") == 0 || strcmp(name, "webhook") == 0)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not of a picture with an address");
    return BW_OK;
}

int bw_request_from_query(struct bw_request *request, bw_query_fn *pair, const void *query,
                          struct bw_err *err)
{
    const char *name, *value;
    struct bw_request out = bw_request_default();
    for (int i = 0; pair(query, i, &name, &value); i++) {
        int code = read_pair(&out, pair, query, i, err);
        if (code)
            return code;
    }
    if (!out.seeded)
        return bw_err_set_field(err, BW_ERANGE, "/seed", "a picture with an address needs a seed");
    if (out.count != 1)
        return bw_err_set_field(err, BW_ERANGE, "/n", "an address has one picture");
    *request = out;
    return BW_OK;
}
