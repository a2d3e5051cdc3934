/* Results of jobs, which come back from a disk: one that is accepted is rendered and accepted
 * again, and a problem is JSON. */
#include "api/job.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

static void check_result(struct bw_generation *result)
{
    static struct bw_image images[BW_MAX_COUNT];
    struct bw_generation again;
    char digest[BW_JOB_DIGEST_CHARS];
    struct bw_request *r = &result->request;
    MUST(r->count >= 1 && r->count <= BW_MAX_COUNT && strlen(result->model_digest) < sizeof digest);
    if (!*r->model)
        strcpy(r->model, "model");
    if (r->format == BW_FORMAT_ANY)
        r->format = BW_FORMAT_PNG;
    if (!r->picture.width)
        r->picture.width = r->picture.height = 128;
    char *text = bw_job_result("k", result);
    // what JSON cannot hold, such as a digest cut within a character, is not rendered
    MUST(!text || !bw_job_parse(text, &again, images, digest, NULL));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static struct bw_image images[BW_MAX_COUNT];
    struct bw_generation result;
    char digest[BW_JOB_DIGEST_CHARS], *text = fuzz_text(bytes, count);
    struct bw_err err = {0};
    int status;
    if (bw_job_parse(text, &result, images, digest, &err))
        MUST(err.code == BW_ESYNTAX && *err.message);
    else
        check_result(&result);
    char *problem = bw_job_problem(text, "again", &status);
    json_t *root = problem ? json_loads(problem, 0, NULL) : NULL;
    MUST(!problem || (root && status));
    json_decref(root);
    free(problem);
    free(text);
    return 0;
}
