/* Jobs as JSON: each stage has the members it may have, and what is kept survives as it is. */
#include "api/job.h"
#include "api/problem.h"
#include "tests/unit/check.h"

#include <jansson.h>

static const char taken[] = "{\"model\":\"m\",\"n\":2}";

/* The members of an object in order, with commas between. */
static void list_members(const json_t *object, char *list, size_t room)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    *list = '\0';
    json_object_foreach((json_t *)object, name, value) used +=
        (size_t)snprintf(list + used, room - used, "%s%s", used ? "," : "", name);
}

static json_t *render(const struct bw_job_view *view, const char *members)
{
    char list[300] = "";
    char *text = bw_job_render(view);
    json_t *job = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(text);
    list_members(job, list, sizeof list);
    CHECK_TEXT(list, members);
    return job;
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static long long integer(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : -999;
}

static void check_progress(const json_t *job, int step, int steps)
{
    const json_t *progress = json_object_get(job, "progress");
    CHECK_INT(integer(progress, "step"), step);
    CHECK_INT(integer(progress, "steps"), steps);
    CHECK_INT(json_object_size(progress), 2);
}

static void jobs_under_way(void)
{
    for (int step = 0; step < 3; step++) {
        const struct bw_job_view view = {
            .id = "a-1_.", .created_s = 1700000000, .request = taken, .step = step, .steps = 40};
        json_t *job = render(&view, "id,object,created,status,request,progress");
        CHECK_TEXT(text_of(job, "id"), "a-1_.");
        CHECK_TEXT(text_of(job, "object"), "job");
        CHECK_TEXT(text_of(job, "status"), step ? "running" : "queued");
        CHECK_INT(integer(job, "created"), 1700000000);
        CHECK_INT(integer(json_object_get(job, "request"), "n"), 2);
        check_progress(job, step, 40);
        json_decref(job);
    }
}

static const struct bw_image images[] = {
    {.bytes = "ab", .size_bytes = 2, .skip = {.kind = BW_SKIP_NONE}},
    {.bytes = "abc",
     .size_bytes = 3,
     .excess_loss = 0.25,
     .skip = {.kind = BW_SKIP_SCHEDULE, .range_count = 1, .ranges = {{0.5, 3}}}}};

static void check_images(const json_t *list)
{
    REQUIRE(json_array_size(list) == 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *image = json_array_get(list, i);
        char members[100];
        list_members(image, members, sizeof members);
        CHECK_TEXT(members, "index,media_type,skip,excess_loss,bytes,url");
        CHECK_TEXT(text_of(image, "media_type"), "image/png");
        CHECK_TEXT(text_of(image, "url"), i ? "/v1/jobs/k/images/1" : "/v1/jobs/k/images/0");
        CHECK_INT(integer(image, "index"), 5 + (long long)i);
        CHECK_INT(integer(image, "bytes"), 2 + (long long)i);
        CHECK(json_real_value(json_object_get(image, "excess_loss")) == (i ? 0.25 : 0));
        CHECK(json_is_string(json_object_get(image, "skip")) == !i);
    }
}

static void jobs_with_pictures(void)
{
    struct bw_generation g = {.request_id = "r",
                              .model_digest = "digest",
                              .evaluations = 40,
                              .gigaflops = 1.5,
                              .timings = {1, 2, 3, 6, 7},
                              .images = images};
    g.request = bw_request_default();
    strcpy(g.request.model, "m");
    g.request.count = 2;
    g.request.format = BW_FORMAT_PNG;
    g.request.picture.index = 5;
    char *result = bw_job_result("k", &g);
    REQUIRE(result != NULL);
    const struct bw_job_view view = {
        .id = "k", .created_s = 5, .finished_s = 6, .expires_s = 7, .result = result};
    json_t *job = render(&view, "id,object,created,finished,expires,status,request,progress,"
                                "model_digest,timings,cost,images");
    free(result);
    CHECK_TEXT(text_of(job, "status"), "completed");
    CHECK(integer(job, "created") == 5 && integer(job, "finished") == 6);
    CHECK_INT(integer(job, "expires"), 7);
    CHECK_INT(integer(json_object_get(job, "request"), "n"), 2);
    CHECK_TEXT(text_of(job, "model_digest"), "digest");
    CHECK_INT(integer(json_object_get(job, "cost"), "evaluations"), 40);
    CHECK_NEAR(json_real_value(json_object_get(json_object_get(job, "timings"), "total_ms")), 6, 0);
    CHECK_NEAR(json_real_value(json_object_get(json_object_get(job, "timings"), "queue_ms")), 1, 0);
    check_progress(job, 2 * BW_DEFAULT_STEPS, 2 * BW_DEFAULT_STEPS);
    check_images(json_object_get(job, "images"));
    json_decref(job);
}

static void jobs_that_failed(void)
{
    const struct bw_err err = {.code = BW_EIO, .message = "a \"quote\" and\nmore"};
    char *problem = bw_problem_render(BW_PROBLEM_INTERNAL, &err, NULL, "r", 0);
    char *result = bw_job_failure(taken, 3, 40, problem);
    REQUIRE(problem && result && !strchr(result, '\n'));
    const struct bw_job_view view = {.id = "k", .created_s = 5, .finished_s = 6, .result = result};
    json_t *job = render(&view, "id,object,created,finished,status,request,progress,problem");
    free(problem);
    free(result);
    CHECK_TEXT(text_of(job, "status"), "failed");
    CHECK_INT(integer(json_object_get(job, "problem"), "status"), 500);
    CHECK_TEXT(text_of(json_object_get(job, "problem"), "detail"), "a \"quote\" and\nmore");
    CHECK_TEXT(text_of(json_object_get(job, "request"), "model"), "m");
    check_progress(job, 3, 40);
    json_decref(job);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(jobs_under_way), TEST(jobs_with_pictures),
                                              TEST(jobs_that_failed)};
    return CHECK_RUN("jobs", tests);
}
