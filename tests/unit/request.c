/* Request bodies: the extremes that are allowed, everything just beyond, and the field it is. */
#include "api/request.h"

#include "api/problem.h"
#include "api/response.h"
#include "base/version.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <jansson.h>

static int parse(struct bw_request *request, const char *body, struct bw_err *err)
{
    return bw_request_parse(request, body, strlen(body), err);
}

static void extremes_are_allowed(void)
{
    static const char *const bodies[] = {
        "{}",
        " { } \n",
        "{\"n\":1}",
        "{\"n\":8}",
        "{\"steps\":1}",
        "{\"steps\":256}",
        "{\"steps\":1e1,\"n\":2.0}",
        "{\"guidance\":0}",
        "{\"guidance\":20}",
        "{\"guidance\":20.0}",
        "{\"guidance\":1e-300}",
        "{\"seed\":0}",
        "{\"seed\":9007199254740991}",
        "{\"index\":0}",
        "{\"index\":4294967287}",
        "{\"size\":\"1x1\"}",
        "{\"size\":\"999999x999999\"}",
        "{\"class\":null}",
        "{\"class\":0}",
        "{\"class\":2147483647}",
        "{\"class\":\"\\u00e9\"}",
        "{\"quality\":1}",
        "{\"quality\":100}",
        "{\"format\":\"jpeg\"}",
        "{\"format\":\"png\"}",
        "{\"format\":\"webp\"}",
        "{\"progressive\":true}",
        "{\"progressive\":false}",
        "{\"solver\":\"dpmpp2m\"}",
        "{\"solver\":\"heun\"}",
        "{\"solver\":\"euler\"}",
        "{\"partial_images\":0}",
        "{\"partial_images\":8}",
        "{\"webhook\":\"http://a\"}",
        "{\"webhook\":\"https://a.example/b?c=d\"}",
        "{\"skip\":\"none\"}",
        "{\"skip\":\"any preset\"}",
        "{\"skip\":{\"t_break\":0}}",
        "{\"skip\":{\"t_break\":1}}",
        "{\"skip\":{\"schedule\":[{\"until\":1,\"skip\":[]}]}}",
        "{\"skip\":{\"schedule\":[{\"skip\":[0,7,7],\"until\":1e-9}]}}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct bw_request request;
        struct bw_err err = {0};
        CHECK_OF(parse(&request, bodies[i], &err) == BW_OK, "%s: %s", bodies[i], err.message);
    }
}

#define RANGE(text) "{\"skip\":{\"schedule\":[{\"until\":0.5,\"skip\":[0]}," text "]}}"

static const struct {
    const char *body, *field;
} refused[] = {
    {"{\"model\":\"\"}", "/model"},
    {"{\"model\":7}", "/model"},
    {"{\"model\":\"123456789012345678901234567890123456789012345678901234567890123456789012345678"
     "901234567890123456\"}",
     "/model"},
    {"{\"class\":-1}", "/class"},
    {"{\"class\":2147483648}", "/class"},
    {"{\"class\":1.5}", "/class"},
    {"{\"class\":\"\"}", "/class"},
    {"{\"class\":true}", "/class"},
    {"{\"class\":[]}", "/class"},
    {"{\"format\":\"gif\"}", "/format"},
    {"{\"progressive\":1}", "/progressive"},
    {"{\"progressive\":null}", "/progressive"},
    {"{\"progressive\":\"true\"}", "/progressive"},
    {"{\"n\":0}", "/n"},
    {"{\"n\":9}", "/n"},
    {"{\"n\":null}", "/n"},
    {"{\"n\":\"1\"}", "/n"},
    {"{\"n\":1.5}", "/n"},
    {"{\"n\":9223372036854775807}", "/n"},
    {"{\"n\":-9223372036854775808}", "/n"},
    {"{\"size\":\"128\"}", "/size"},
    {"{\"size\":\"0x0\"}", "/size"},
    {"{\"size\":128}", "/size"},
    {"{\"size\":null}", "/size"},
    {"{\"steps\":0}", "/steps"},
    {"{\"steps\":257}", "/steps"},
    {"{\"steps\":1.5e0}", "/steps"},
    {"{\"solver\":\"\"}", "/solver"},
    {"{\"solver\":\"Heun\"}", "/solver"},
    {"{\"solver\":0}", "/solver"},
    {"{\"guidance\":-0.001}", "/guidance"},
    {"{\"guidance\":20.001}", "/guidance"},
    {"{\"guidance\":1e308}", "/guidance"},
    {"{\"guidance\":\"1\"}", "/guidance"},
    {"{\"seed\":-1}", "/seed"},
    {"{\"seed\":9007199254740992}", "/seed"},
    {"{\"seed\":null}", "/seed"},
    {"{\"index\":-1}", "/index"},
    {"{\"index\":4294967288}", "/index"},
    {"{\"format\":\"WebP\"}", "/format"},
    {"{\"format\":\"\"}", "/format"},
    {"{\"format\":1}", "/format"},
    {"{\"quality\":0}", "/quality"},
    {"{\"quality\":101}", "/quality"},
    {"{\"partial_images\":-1}", "/partial_images"},
    {"{\"partial_images\":9}", "/partial_images"},
    {"{\"partial_images\":true}", "/partial_images"},
    {"{\"webhook\":\"\"}", "/webhook"},
    {"{\"webhook\":\"http://\"}", "/webhook"},
    {"{\"webhook\":\"https://\"}", "/webhook"},
    {"{\"webhook\":\"ftp://a.example\"}", "/webhook"},
    {"{\"webhook\":\" http://a\"}", "/webhook"},
    {"{\"webhook\":\"http://a b\"}", "/webhook"},
    {"{\"webhook\":\"http://a\\r\\nb\"}", "/webhook"},
    {"{\"webhook\":\"http://\\u00e9\"}", "/webhook"},
    {"{\"webhook\":\"HTTP://a\"}", "/webhook"},
    {"{\"webhook\":null}", "/webhook"},
    {"{\"skip\":\"\"}", "/skip"},
    {"{\"skip\":null}", "/skip"},
    {"{\"skip\":1}", "/skip"},
    {"{\"skip\":[]}", "/skip"},
    {"{\"skip\":{}}", "/skip"},
    {"{\"skip\":{\"t_break\":0,\"schedule\":[]}}", "/skip"},
    {"{\"skip\":{\"other\":0}}", "/skip/other"},
    {"{\"skip\":{\"t_break\":1.01}}", "/skip/t_break"},
    {"{\"skip\":{\"t_break\":-0.01}}", "/skip/t_break"},
    {"{\"skip\":{\"t_break\":\"1\"}}", "/skip/t_break"},
    {"{\"skip\":{\"schedule\":[]}}", "/skip/schedule"},
    {"{\"skip\":{\"schedule\":{}}}", "/skip/schedule"},
    {"{\"skip\":{\"schedule\":[7]}}", "/skip/schedule/0"},
    {RANGE("{\"until\":1}"), "/skip/schedule/1"},
    {RANGE("{\"skip\":[]}"), "/skip/schedule/1"},
    {RANGE("{\"until\":0.5,\"skip\":[]}"), "/skip/schedule/1"},
    {RANGE("{\"until\":0.1,\"skip\":[]}"), "/skip/schedule/1"},
    {RANGE("{\"until\":1.1,\"skip\":[]}"), "/skip/schedule/1/until"},
    {RANGE("{\"until\":\"1\",\"skip\":[]}"), "/skip/schedule/1/until"},
    {RANGE("{\"until\":1,\"skip\":1}"), "/skip/schedule/1/skip"},
    {RANGE("{\"until\":1,\"skip\":[8]}"), "/skip/schedule/1/skip"},
    {RANGE("{\"until\":1,\"skip\":[-1]}"), "/skip/schedule/1/skip"},
    {RANGE("{\"until\":1,\"skip\":[\"1\"]}"), "/skip/schedule/1/skip"},
    {RANGE("{\"until\":1,\"skip\":[],\"x\":1}"), "/skip/schedule/1/x"},
    {"{\"skip\":{\"schedule\":[{\"until\":0,\"skip\":[]}]}}", "/skip/schedule/0"},
    {"{\"Steps\":1}", "/Steps"},
    {"{\"\":1}", "/"},
};

static void fields_are_named(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct bw_request request = {.count = 77};
        struct bw_err err = {0};
        CHECK_OF(parse(&request, refused[i].body, &err) == BW_ERANGE, "%s", refused[i].body);
        CHECK_OF(strcmp(err.field, refused[i].field) == 0, "%s: %s", refused[i].body, err.field);
        CHECK(*err.message && request.count == 77);
    }
}

/* RFC 6901: in a pointer "~" is "~0" and "/" is "~1". */
static void pointers_are_escaped(void)
{
    struct bw_request request;
    struct bw_err err = {0};
    CHECK_INT(parse(&request, "{\"a/b~c\":1}", &err), BW_ERANGE);
    CHECK_TEXT(err.field, "/a~1b~0c");
}

/* A long name is cut, but never inside a character: the reason has to reach the client. */
static void long_names_stay_text(void)
{
    struct bw_request request;
    for (int lead = 0; lead < 4; lead++) {
        char body[300] = "{\"";
        memset(body + 2, 'x', (size_t)lead);
        for (int i = 0; i < 60; i++)
            strcat(body, "\xe2\x82\xac");
        strcat(body, "\":1}");
        struct bw_err err = {0};
        CHECK_INT(parse(&request, body, &err), BW_ERANGE);
        char *problem = bw_problem_render(BW_PROBLEM_INVALID, &err, NULL, "id", 0);
        CHECK_OF(problem && strstr(problem, "\"pointer\""), "%d letters before: %s", lead,
                 problem ? problem : "no body");
        free(problem);
    }
}

static void what_is_not_a_json_object(void)
{
    static const char *const bodies[] = {"",
                                         " ",
                                         "[]",
                                         "null",
                                         "7",
                                         "\"{}\"",
                                         "{",
                                         "{}x",
                                         "{}{}",
                                         "{\"n\":1,}",
                                         "{'n':1}",
                                         "{\"n\":1,\"n\":1}",
                                         "{\"n\":NaN}",
                                         "{\"guidance\":Infinity}",
                                         "{\"n\":01}",
                                         "{\"n\":+1}",
                                         "{\"seed\":9223372036854775808}",
                                         "{\"guidance\":1e999}",
                                         "{\"model\":\"\xff\"}",
                                         "{\"model\":\"\xc3\"}",
                                         "{\"model\":\"\xed\xa0\x80\"}",
                                         "{\"model\":\"a\\u0000b\"}",
                                         "{\"model\":\"\\ud800\"}",
                                         "{\"model\":\"a\nb\"}",
                                         "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct bw_request request = {.count = 77};
        struct bw_err err = {0};
        CHECK_OF(parse(&request, bodies[i], &err) == BW_ESYNTAX, "%s", bodies[i]);
        CHECK(!*err.field && *err.message && request.count == 77);
    }
    struct bw_request request;
    CHECK_INT(bw_request_parse(&request, "{}\0", 3, NULL), BW_ESYNTAX);
    CHECK_INT(bw_request_parse(&request, "{}x", 2, NULL), BW_OK);
}

static void deep_nesting(void)
{
    enum { DEPTH = 60000 };
    char *body = malloc(DEPTH + 16);
    struct bw_request request;
    strcpy(body, "{\"skip\":");
    memset(body + 8, '[', DEPTH);
    CHECK_INT(bw_request_parse(&request, body, DEPTH, NULL), BW_ESYNTAX);
    free(body);
}

static void too_many_ranges(void)
{
    static char body[40000] = "{\"skip\":{\"schedule\":[";
    for (int i = 1; i <= BW_MAX_STEPS + 1; i++)
        sprintf(body + strlen(body), "%s{\"until\":%.9f,\"skip\":[]}", i > 1 ? "," : "", i / 300.0);
    strcat(body, "]}}");
    struct bw_request request;
    struct bw_err err = {0};
    CHECK_INT(parse(&request, body, &err), BW_ERANGE);
    CHECK_TEXT(err.field, "/skip/schedule");
}

static void long_webhooks(void)
{
    for (int length = 511; length <= 512; length++) {
        char body[600];
        struct bw_request request;
        struct bw_err err = {0};
        snprintf(body, sizeof body, "{\"webhook\":\"http://%0*d\"}", length - 7, 0);
        CHECK_INT(parse(&request, body, &err), length == 511 ? BW_OK : BW_ERANGE);
        CHECK_TEXT(err.field, length == 511 ? "" : "/webhook");
    }
}

static struct bw_skip random_skip(uint64_t *random)
{
    struct bw_skip skip = {.kind = (enum bw_skip_kind)random_int(random, 0, 3)};
    if (skip.kind == BW_SKIP_PRESET)
        strcpy(skip.preset, "balanced");
    if (skip.kind == BW_SKIP_T_BREAK)
        skip.t_break = random_unit(random);
    if (skip.kind == BW_SKIP_SCHEDULE) {
        skip.range_count = random_int(random, 1, BW_MAX_STEPS);
        for (int i = 0; i < skip.range_count; i++)
            skip.ranges[i] =
                (struct bw_skip_range){(i + 1 - random_unit(random) / 2) / BW_MAX_STEPS,
                                       (uint8_t)random_int(random, 0, 255)};
    }
    return skip;
}

static struct bw_request random_request(uint64_t *random)
{
    struct bw_request r = {.model = "a \"model\" \xc3\xa9\\",
                           .count = random_int(random, 1, 8),
                           .seeded = true,
                           .format = (enum bw_format)random_int(random, 1, 3),
                           .quality = random_int(random, 1, 100),
                           .progressive = random_int(random, 0, 1),
                           .deadline_ms = random_int(random, 0, 1) * (1 + random_unit(random)),
                           .priority = (enum bw_priority)random_int(random, 0, 2),
                           .partial_images = random_int(random, 0, 8)};
    if (random_int(random, 0, 1))
        strcpy(r.webhook, "https://a.example/\"\\");
    struct bw_picture *p = &r.picture;
    p->class_index = random_int(random, -2, 5);
    if (p->class_index == BW_CLASS_NAMED)
        strcpy(p->class_name, "other fruits \xf0\x9f\x8d\x8e");
    p->width = random_int(random, 1, 999999);
    p->height = random_int(random, 1, 999999);
    p->steps = random_int(random, 1, BW_MAX_STEPS);
    p->solver = (enum bw_solver)random_int(random, 0, 2);
    p->guidance = random_int(random, 0, 1) ? 20 * random_unit(random) : random_int(random, 0, 20);
    p->seed = random_next(random) & BW_MAX_SEED;
    p->index = (uint32_t)random_next(random) % (UINT32_MAX - BW_MAX_COUNT);
    p->skip = random_skip(random);
    return r;
}

static void rendered_requests_come_back(void)
{
    uint64_t random = 10;
    for (int i = 0; i < 2000; i++) {
        struct bw_request want = random_request(&random), got;
        char *text = bw_request_render(&want);
        REQUIRE(text != NULL);
        for (const char *c = text; *c; c++)
            CHECK(*c >= ' ' && *c < 0x7f); // fit for a header field
        REQUIRE(parse(&got, text, NULL) == BW_OK);
        const struct bw_picture *a = &want.picture, *b = &got.picture;
        CHECK(strcmp(got.model, want.model) == 0 && got.count == want.count && got.seeded);
        CHECK(got.format == want.format && got.quality == want.quality);
        CHECK(got.deadline_ms == want.deadline_ms);
        CHECK(got.priority == want.priority && got.partial_images == want.partial_images);
        CHECK_TEXT(got.webhook, want.webhook);
        CHECK(got.progressive == want.progressive &&
              got.progressive == (strstr(text, "\"progressive\":true") != NULL));
        CHECK(a->class_index == b->class_index && strcmp(a->class_name, b->class_name) == 0);
        CHECK(a->width == b->width && a->height == b->height && a->steps == b->steps);
        CHECK(a->solver == b->solver && a->guidance == b->guidance);
        CHECK(a->seed == b->seed && a->index == b->index && a->skip.kind == b->skip.kind);
        CHECK(a->skip.t_break == b->skip.t_break && a->skip.range_count == b->skip.range_count);
        for (int r = 0; r < a->skip.range_count; r++)
            CHECK(a->skip.ranges[r].until == b->skip.ranges[r].until &&
                  a->skip.ranges[r].resting == b->skip.ranges[r].resting);
        free(text);
    }
}

/* A comment depends on the picture and its file, and on nothing else of the request. */
static void comments_give_the_picture_again(void)
{
    uint64_t random = 11;
    for (int i = 0; i < 200; i++) {
        struct bw_request request = random_request(&random), other = request, got;
        struct bw_picture picture = request.picture;
        picture.index = 7;
        other.count = 9 - request.count;
        other.deadline_ms = 5;
        other.priority = BW_PRIORITY_HIGH;
        other.partial_images = 3;
        other.seeded = false;
        strcpy(other.webhook, "https://b.example");
        other.picture = bw_picture_default();
        char *text = bw_comment_render(&request, &picture, "0123");
        char *same = bw_comment_render(&other, &picture, "0123");
        REQUIRE(text && same);
        CHECK_TEXT(same, text);
        for (const char *c = text; *c; c++)
            CHECK(*c >= ' ' && *c < 0x7f);
        json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        CHECK_TEXT(json_string_value(json_object_get(root, "brickwork")), BW_VERSION);
        CHECK_TEXT(json_string_value(json_object_get(root, "model_digest")), "0123");
        char *body = json_dumps(json_object_get(root, "request"), 0);
        REQUIRE(body && parse(&got, body, NULL) == BW_OK);
        char *again = bw_comment_render(&got, &got.picture, "0123");
        CHECK_TEXT(again, text);
        CHECK(got.count == 1 && got.picture.index == 7 && got.picture.seed == picture.seed);
        CHECK(got.format == request.format && got.progressive == request.progressive);
        CHECK(got.quality == request.quality && got.seeded && !*got.webhook);
        json_decref(root);
        free(again);
        free(body);
        free(same);
        free(text);
    }
}

static void fields_from_text(void)
{
    static const struct {
        const char *field, *text;
        int code;
    } settings[] = {{"steps", "12", BW_OK},
                    {"steps", "0", BW_ERANGE},
                    {"steps", "1.5", BW_ERANGE},
                    {"steps", "many", BW_ERANGE},
                    {"steps", "", BW_ERANGE},
                    {"size", "128x192", BW_OK},
                    {"size", "128", BW_ERANGE},
                    {"guidance", "2.5", BW_OK},
                    {"guidance", "inf", BW_ERANGE},
                    {"class", "lemons", BW_OK},
                    {"class", "3", BW_OK},
                    {"skip", "light", BW_OK},
                    {"skip", "{\"t_break\":0.5}", BW_OK},
                    {"skip", "{\"t_break\":2}", BW_ERANGE},
                    {"skip", "{", BW_ERANGE},
                    {"class", "\xff", BW_ERANGE},
                    {"colour", "1", BW_ERANGE},
                    {"format", "png", BW_OK},
                    {"format", "webp", BW_OK},
                    {"progressive", "true", BW_OK},
                    {"progressive", "false", BW_OK},
                    {"progressive", "yes", BW_ERANGE},
                    {"progressive", "1", BW_ERANGE},
                    {"n", "99999999999999999999", BW_ERANGE}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct bw_request request = bw_request_default();
        struct bw_err err = {0};
        CHECK_OF(bw_request_set(&request, settings[i].field, settings[i].text, &err) ==
                     settings[i].code,
                 "%s %s: %s", settings[i].field, settings[i].text, err.message);
    }
    struct bw_request request = bw_request_default();
    bw_request_set(&request, "steps", "12", NULL);
    bw_request_set(&request, "class", "3", NULL);
    bw_request_set(&request, "skip", "{\"t_break\":0.5}", NULL);
    CHECK(request.picture.steps == 12 && request.picture.class_index == 3);
    CHECK(request.picture.skip.kind == BW_SKIP_T_BREAK && request.picture.skip.t_break == 0.5);
    bw_request_set(&request, "skip", "none", NULL);
    CHECK(request.picture.skip.kind == BW_SKIP_NONE);
}

/* A query as a list of names and values that ends with NULL. */
static bool pair_of(const void *query, int i, const char **name, const char **value)
{
    const char *const *list = query;
    for (int k = 0; k <= i; k++, list += 2) {
        if (!*list)
            return false;
        *name = list[0];
        *value = list[1];
    }
    return true;
}

static int from_query(struct bw_request *request, const char *const *list, struct bw_err *err)
{
    return bw_request_from_query(request, pair_of, list, err);
}

static void queries(void)
{
    static const char *const full[] = {"model",       "m",      "class",    "apples",
                                       "n",           "1",      "size",     "128x192",
                                       "steps",       "7",      "solver",   "heun",
                                       "guidance",    "2",      "seed",     "9",
                                       "index",       "3",      "skip",     "{\"t_break\":0.5}",
                                       "format",      "png",    "quality",  "5",
                                       "deadline_ms", "1000.5", "priority", "high",
                                       "progressive", "true",   NULL};
    struct bw_request r;
    REQUIRE(from_query(&r, full, NULL) == BW_OK);
    const struct bw_picture *p = &r.picture;
    CHECK_TEXT(r.model, "m");
    CHECK_TEXT(p->class_name, "apples");
    CHECK(p->class_index == BW_CLASS_NAMED && p->width == 128 && p->height == 192);
    CHECK(r.count == 1 && p->steps == 7 && p->solver == BW_HEUN && p->guidance == 2);
    CHECK(r.seeded && p->seed == 9 && p->index == 3 && p->skip.t_break == 0.5);
    CHECK(r.format == BW_FORMAT_PNG && r.quality == 5 && r.deadline_ms == 1000.5);
    CHECK(r.priority == BW_PRIORITY_HIGH && r.progressive);
    static const char *const small[] = {"seed", "0", NULL};
    REQUIRE(from_query(&r, small, NULL) == BW_OK);
    CHECK(r.count == 1 && p->class_index == BW_CLASS_NONE && r.format == BW_FORMAT_ANY);
    static const char *const unconditional[] = {"class", "null", "seed", "0", NULL};
    REQUIRE(from_query(&r, unconditional, NULL) == BW_OK);
    CHECK_INT(p->class_index, BW_CLASS_NONE);
    static const char *const third[] = {"class", "3", "seed", "0", NULL};
    REQUIRE(from_query(&r, third, NULL) == BW_OK);
    CHECK_INT(p->class_index, 3);
}

static void queries_refused(void)
{
    static const struct {
        const char *list[7], *field;
    } table[] = {{{NULL}, "/seed"},
                 {{"class", "apples", NULL}, "/seed"},
                 {{"seed", "null", NULL}, "/seed"},
                 {{"seed", "", NULL}, "/seed"},
                 {{"seed", "-1", NULL}, "/seed"},
                 {{"seed", "1", "seed", "1", NULL}, "/seed"},
                 {{"seed", "1", "class", "null", "class", "null", NULL}, "/class"},
                 {{"class", "null", "class", "apples", "seed", "1", NULL}, "/class"},
                 {{"seed", "1", "class", "", NULL}, "/class"},
                 {{"seed", "1", "class", "\xff", NULL}, "/class"},
                 {{"seed", "1", "n", "2", NULL}, "/n"},
                 {{"seed", "1", "n", "null", NULL}, "/n"},
                 {{"seed", "1", "steps", "1.5", NULL}, "/steps"},
                 {{"seed", "1", "skip", "{\"t_break\":2}", NULL}, "/skip/t_break"},
                 {{"seed", "1", "skip", "{\"t_break\":", NULL}, "/skip"},
                 {{"seed", "1", "partial_images", "1", NULL}, "/partial_images"},
                 {{"seed", "1", "webhook", "http://a.example", NULL}, "/webhook"},
                 {{"seed", "1", "colour", "red", NULL}, "/colour"},
                 {{"seed", "1", "a/b", "\xff", NULL}, "/a~1b"},
                 {{"seed", "1", "\xff", "1", NULL}, ""},
                 {{"seed", "1", "", "1", NULL}, "/"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct bw_request r = {.count = 77};
        struct bw_err err = {0};
        CHECK_OF(from_query(&r, table[i].list, &err) == BW_ERANGE, "%zu", i);
        CHECK_OF(strcmp(err.field, table[i].field) == 0, "%zu: %s", i, err.field);
        CHECK(*err.message && r.count == 77);
    }
}

static void what_a_format_has_no_use_for(void)
{
    static const struct {
        enum bw_format format;
        int quality;
        bool progressive;
    } table[] = {{BW_FORMAT_ANY, 40, true},
                 {BW_FORMAT_JPEG, 40, true},
                 {BW_FORMAT_PNG, BW_DEFAULT_QUALITY, false},
                 {BW_FORMAT_WEBP, 40, false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct bw_request r = {.format = table[i].format, .quality = 40, .progressive = true};
        bw_request_tidy(&r);
        CHECK_INT(r.quality, table[i].quality);
        CHECK_INT(r.progressive, table[i].progressive);
        CHECK(r.format != BW_FORMAT_ANY);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(extremes_are_allowed),
                                              TEST(fields_are_named),
                                              TEST(pointers_are_escaped),
                                              TEST(long_names_stay_text),
                                              TEST(what_is_not_a_json_object),
                                              TEST(deep_nesting),
                                              TEST(too_many_ranges),
                                              TEST(rendered_requests_come_back),
                                              TEST(fields_from_text),
                                              TEST(comments_give_the_picture_again),
                                              TEST(long_webhooks),
                                              TEST(what_a_format_has_no_use_for),
                                              TEST(queries),
                                              TEST(queries_refused)};
    return CHECK_RUN("request", tests);
}
