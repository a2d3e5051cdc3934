/* Files of recorded cases are input like any other: everything is bounded before the engine sees
 * it. */
#include "api/case.h"

#include "api/json.h"

#include <string.h>

struct reading {
    struct bw_case *recorded;
    int brick_count, class_count;
    bool has_kind;
};

static int read_kind(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    const char *kind = json_string_value(value);
    r->has_kind = true;
    r->recorded->sample = kind && strcmp(kind, "sample") == 0;
    if (!r->recorded->sample && !(kind && strcmp(kind, "denoise") == 0))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not denoise or sample");
    return BW_OK;
}

/* [first, second], both within. */
static int read_pair(const json_t *value, const char *pointer, int low, int high, int *first,
                     int *second, struct bw_err *err)
{
    int a, b;
    if (json_array_size(value) != 2)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not a pair");
    int code = bw_json_int(json_array_get(value, 0), pointer, low, high, &a, err);
    if (!code)
        code = bw_json_int(json_array_get(value, 1), pointer, low, high, &b, err);
    if (code)
        return code;
    *first = a;
    *second = b;
    return BW_OK;
}

static int read_size(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return read_pair(value, pointer, 1, 4096, &r->recorded->height, &r->recorded->width, err);
}

static int read_label(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return bw_json_int(value, pointer, -1, r->class_count - 1, &r->recorded->label, err);
}

static int read_sigma(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return bw_json_number(value, pointer, 1e-6, 1e6, &r->recorded->sigma, err);
}

/* An array of booleans, one per brick, not all false. */
static int read_bricks(const struct reading *r, const json_t *value, const char *pointer,
                       uint8_t *mask, struct bw_err *err)
{
    bool ok = json_array_size(value) == (size_t)r->brick_count;
    *mask = 0;
    for (int k = 0; ok && k < r->brick_count; k++) {
        const json_t *runs = json_array_get(value, (size_t)k);
        ok = json_is_boolean(runs);
        *mask |= (uint8_t)(json_is_true(runs) << k);
    }
    if (!ok || !*mask)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not true or false for each of %d bricks",
                                r->brick_count);
    return BW_OK;
}

static int read_mask(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return read_bricks(r, value, pointer, &r->recorded->mask, err);
}

static int read_masks(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    size_t count = json_array_size(value);
    if (count > BW_MAX_STEPS)
        return bw_err_set_field(err, BW_ERANGE, pointer, "more than %d masks", BW_MAX_STEPS);
    r->recorded->mask_count = (int)count;
    int code = BW_OK;
    for (size_t i = 0; !code && i < count; i++)
        code = read_bricks(r, json_array_get(value, i), pointer, &r->recorded->masks[i], err);
    return code;
}

static int read_shifts(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    int(*shifts)[2] = r->recorded->shifts, code = BW_OK;
    if (json_array_size(value) != (size_t)r->brick_count)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not one shift per brick");
    for (int k = 0; !code && k < r->brick_count; k++)
        code = read_pair(json_array_get(value, (size_t)k), pointer, -4096, 4096, &shifts[k][0],
                         &shifts[k][1], err);
    return code;
}

static int read_steps(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return bw_json_int(value, pointer, 1, BW_MAX_STEPS, &r->recorded->steps, err);
}

static int read_guidance(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return bw_json_number(value, pointer, 0, BW_MAX_GUIDANCE, &r->recorded->guidance, err);
}

static int read_solver(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    const char *name = json_string_value(value);
    if (!name || !bw_solver_named(name, &r->recorded->solver))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not a solver");
    return BW_OK;
}

/* The recorder's own random seed: the noise itself is in the file. */
static int read_nothing(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)value, (void)pointer, (void)out, (void)err;
    return BW_OK;
}

static int check_complete(const struct bw_case *c, struct bw_err *err)
{
    if (!c->width)
        return bw_err_set(err, BW_ERANGE, "case has no size");
    if (!c->sample && (!c->sigma || !c->mask))
        return bw_err_set(err, BW_ERANGE, "denoise case lacks sigma or mask");
    if (c->sample && !c->steps)
        return bw_err_set(err, BW_ERANGE, "sample case lacks steps");
    if (c->sample && c->mask_count && c->mask_count != c->steps)
        return bw_err_set(err, BW_ERANGE, "sample case has %d masks for %d steps", c->mask_count,
                          c->steps);
    return BW_OK;
}

int bw_case_read(struct bw_case *recorded, const char *text, int brick_count, int class_count,
                 struct bw_err *err)
{
    static const struct bw_json_field fields[] = {
        {"kind", read_kind},     {"size", read_size},    {"label", read_label},
        {"sigma", read_sigma},   {"mask", read_mask},    {"masks", read_masks},
        {"shifts", read_shifts}, {"steps", read_steps},  {"guidance", read_guidance},
        {"solver", read_solver}, {"seed", read_nothing}, {NULL, NULL},
    };
    struct bw_case out = {.label = -1, .guidance = 1, .solver = BW_DPMPP2M};
    json_t *root;
    int code = bw_json_object(&root, text, strlen(text), err);
    if (code)
        return code;
    struct reading reading = {&out, brick_count, class_count, false};
    code = bw_json_read(root, "", fields, &reading, err);
    json_decref(root);
    if (!code && !reading.has_kind)
        code = bw_err_set_field(err, BW_ERANGE, "/kind", "case has no kind");
    if (!code)
        code = check_complete(&out, err);
    if (!code)
        *recorded = out;
    return code;
}
