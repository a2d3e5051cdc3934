/* Request bodies: what is refused has a reason that can be sent; what is accepted is within the
 * promised ranges and survives being rendered. */
#include "api/problem.h"
#include "api/request.h"
#include "api/response.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

static void check_refused(const struct bw_err *err)
{
    char *body = bw_problem_render(bw_problem_of(err), err, NULL, "id", 1);
    json_t *root = body ? json_loads(body, 0, NULL) : NULL;
    MUST(err->code == BW_ESYNTAX || err->code == BW_ERANGE);
    MUST(*err->message && root);
    MUST(!*err->field || json_object_get(root, "errors"));
    json_decref(root);
    free(body);
}

static void check_ranges(const struct bw_request *r)
{
    const struct bw_picture *p = &r->picture;
    MUST(r->count >= 1 && r->count <= BW_MAX_COUNT && r->quality >= 1 && r->quality <= 100);
    MUST(r->format >= BW_FORMAT_ANY && r->format <= BW_FORMAT_WEBP);
    MUST(p->steps >= 1 && p->steps <= BW_MAX_STEPS && p->seed <= BW_MAX_SEED);
    MUST(p->guidance >= 0 && p->guidance <= BW_MAX_GUIDANCE && p->class_index >= BW_CLASS_NAMED);
    MUST(p->width >= 0 && p->width <= 999999 && p->height >= 0 && p->height <= 999999);
    MUST(r->partial_images >= 0 && r->partial_images <= BW_MAX_PARTIALS);
    MUST(!*r->webhook || strncmp(r->webhook, "http", 4) == 0);
    MUST(p->skip.t_break >= 0 && p->skip.t_break <= 1);
    MUST(p->skip.kind != BW_SKIP_SCHEDULE || p->skip.range_count >= 1);
    for (int i = 0; i < p->skip.range_count; i++)
        MUST(p->skip.ranges[i].until > (i ? p->skip.ranges[i - 1].until : 0) &&
             p->skip.ranges[i].until <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_request request, again;
    struct bw_err err = {0};
    if (bw_request_parse(&request, (const char *)bytes, count, &err)) {
        check_refused(&err);
        return 0;
    }
    check_ranges(&request);
    // the server fills these in before it renders a request
    if (!*request.model)
        strcpy(request.model, "model");
    if (!request.picture.width)
        request.picture.width = request.picture.height = 128;
    if (request.format == BW_FORMAT_ANY)
        request.format = BW_FORMAT_PNG;
    char *text = bw_request_render(&request);
    MUST(text && bw_request_parse(&again, text, strlen(text), &err) == 0);
    char *second = bw_request_render(&again);
    MUST(second && strcmp(text, second) == 0);
    MUST(again.picture.skip.kind == request.picture.skip.kind);
    free(text);
    free(second);
    return 0;
}
