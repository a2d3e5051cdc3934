/* Bodies of txt2img: what is refused has a reason that can be sent; what is accepted is within the
 * promised ranges, and the answer's parameters ask for the same again. */
#include "api/problem.h"
#include "api/sdapi.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

/* The request as the server would have carried it out. */
static json_t *answer(const struct bw_txt2img *asked)
{
    struct bw_image images[BW_MAX_COUNT] = {{.bytes = "x", .size_bytes = 1}};
    struct bw_generation g = {
        .model_digest = "0123456789ab", .request = asked->request, .images = images};
    if (!*g.request.model)
        strcpy(g.request.model, "model");
    if (!g.request.picture.width)
        g.request.picture.width = 128;
    if (!g.request.picture.height)
        g.request.picture.height = 128;
    for (int i = 1; i < BW_MAX_COUNT; i++)
        images[i] = images[0];
    char *text = bw_txt2img_render(asked, &g);
    json_t *root = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    MUST(root);
    free(text);
    return root;
}

static void check_accepted(const struct bw_txt2img *asked)
{
    static struct bw_txt2img again;
    const struct bw_request *r = &asked->request;
    MUST(r->count >= 1 && r->count <= BW_MAX_COUNT &&
         r->count == asked->batch_size * asked->n_iter);
    MUST(r->format == BW_FORMAT_PNG && r->picture.steps >= 1 && r->picture.steps <= BW_MAX_STEPS);
    MUST(r->picture.guidance >= 0 && r->picture.guidance <= BW_MAX_GUIDANCE);
    MUST(r->picture.seed <= BW_MAX_SEED && strlen(asked->prompt) < sizeof asked->prompt);
    json_t *root = answer(asked);
    char *parameters = json_dumps(json_object_get(root, "parameters"), 0);
    json_t *info = json_loads(json_string_value(json_object_get(root, "info")), 0, NULL);
    MUST(info && json_array_size(json_object_get(info, "infotexts")) == (size_t)r->count);
    MUST(parameters && !bw_txt2img_parse(&again, parameters, strlen(parameters), NULL));
    MUST(again.request.count == r->count && again.batch_size == asked->batch_size);
    MUST(again.request.picture.solver == r->picture.solver && again.request.seeded);
    MUST(again.request.picture.seed == r->picture.seed && !strcmp(again.prompt, asked->prompt));
    MUST(again.request.picture.guidance == r->picture.guidance);
    json_decref(info);
    json_decref(root);
    free(parameters);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static struct bw_txt2img asked;
    struct bw_err err = {0};
    if (!bw_txt2img_parse(&asked, (const char *)bytes, count, &err)) {
        check_accepted(&asked);
        return 0;
    }
    char *body = bw_problem_render(bw_problem_of(&err), &err, NULL, "id", 0);
    MUST(err.code == BW_ESYNTAX || err.code == BW_ERANGE);
    MUST(body && *err.message);
    free(body);
    return 0;
}
