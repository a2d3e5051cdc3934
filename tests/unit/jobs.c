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

static struct bw_generation two_pictures(void)
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
    return g;
}

static void jobs_with_pictures(void)
{
    const struct bw_generation g = two_pictures();
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

/* What is read back gives the same text again, once the sizes are known. */
static void results_are_read_back(void)
{
    struct bw_generation g = two_pictures(), got;
    struct bw_image read[BW_MAX_COUNT];
    struct bw_err err = {0};
    char digest[BW_JOB_DIGEST_CHARS];
    memset(read, 0xee, sizeof read);
    g.request.seeded = true;
    strcpy(g.request.picture.class_name, "\xc3\xa9");
    g.request.picture.class_index = BW_CLASS_NAMED;
    g.request.picture.width = g.request.picture.height = 128;
    char *result = bw_job_result("k", &g);
    REQUIRE(result && bw_job_parse(result, &got, read, digest, &err) == BW_OK);
    CHECK(got.images == read && got.model_digest == digest && !got.request_id);
    CHECK(!read[0].bytes && !read[0].size_bytes);
    read[0].size_bytes = 2;
    read[1].size_bytes = 3;
    char *again = bw_job_result("k", &got);
    CHECK_TEXT(again, result);
    int status = 77;
    CHECK(!bw_job_problem(result, "again", &status) && status == 0);
    free(again);
    free(result);
}

static void what_is_no_result(void)
{
    struct bw_generation g = two_pictures(), got;
    struct bw_image read[BW_MAX_COUNT];
    char digest[BW_JOB_DIGEST_CHARS];
    g.request.picture.width = g.request.picture.height = 128;
    char *result = bw_job_result("k", &g);
    REQUIRE(result != NULL);
    static const char *const texts[] = {"", "[]", "{}", "{\"request\":7}", "x"};
    for (int i = 0; i < 5; i++)
        CHECK_INT(bw_job_parse(texts[i], &got, read, digest, NULL), BW_ESYNTAX);
    static const char *const members[] = {"request", "images", "model_digest", "timings", "cost"};
    for (int i = 0; i < 5; i++) {
        struct bw_err err = {0};
        json_t *root = json_loads(result, 0, NULL);
        json_object_del(root, members[i]);
        char *text = json_dumps(root, 0);
        CHECK_OF(bw_job_parse(text, &got, read, digest, &err) == BW_ESYNTAX, "%s", members[i]);
        CHECK(*err.message);
        free(text);
        json_decref(root);
    }
    json_t *root = json_loads(result, 0, NULL);
    json_array_remove(json_object_get(root, "images"), 1); // fewer than n
    char *text = json_dumps(root, 0);
    CHECK_INT(bw_job_parse(text, &got, read, digest, NULL), BW_ESYNTAX);
    free(text);
    json_decref(root);
    free(result);
}

static void problems_are_read_back(void)
{
    const struct bw_err err = {.code = BW_EIO, .message = "why \xc3\xa9"};
    int status = 0;
    char *problem = bw_problem_render(BW_PROBLEM_TOO_LATE, &err, NULL, "r", 0);
    char *result = bw_job_failure(taken, 3, 40, problem);
    char *read = bw_job_problem(result, "again", &status);
    CHECK_INT(status, 504);
    json_t *a = json_loads(problem, 0, NULL), *b = json_loads(read ? read : "", 0, NULL);
    json_object_set_new(a, "instance", json_string("again")); // who asks now
    CHECK(a && json_equal(a, b) && !strchr(read, '\n'));
    json_decref(a);
    json_decref(b);
    free(read);
    free(result);
    free(problem);
    static const char *const without[] = {"", "{}", "{\"problem\":7}", "{\"problem\":{}}", "[]"};
    for (int i = 0; i < 5; i++)
        CHECK_OF(!bw_job_problem(without[i], "again", &status) && status == 0, "%s", without[i]);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(jobs_under_way),        TEST(jobs_with_pictures), TEST(jobs_that_failed),
        TEST(results_are_read_back), TEST(what_is_no_result),  TEST(problems_are_read_back)};
    return CHECK_RUN("jobs", tests);
}
