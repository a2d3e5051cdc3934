/* What surrounds a request: Accept, OpenAI's shape, problems, recorded cases. */
#include "api/accept.h"
#include "api/case.h"
#include "api/openai.h"
#include "api/problem.h"
#include "base/text.h"
#include "tests/unit/check.h"

#include <jansson.h>

static void accept_table(void)
{
    static const char *const offers[] = {"image/jpeg", "image/png", "application/json"};
    static const struct {
        const char *accept;
        int choice;
    } table[] = {
        {NULL, 0},
        {"", 0},
        {" \t", 0},
        {"*/*", 0},
        {"image/*", 0},
        {"image/png", 1},
        {"IMAGE/PNG", 1},
        {"application/json", 2},
        {"application/*", 2},
        {"text/html", -1},
        {"image/webp, image/png", 1},
        {"image/jpeg;q=0.5, image/png", 1},
        {"image/jpeg;q=0.5,image/png;q=0.6,application/json;q=0.55", 1},
        {"image/png;q=0.001,image/jpeg;q=0", 1},
        {"image/png;q=0", -1},
        {"*/*;q=0", -1},
        {"*/*, image/jpeg;q=0", 1},
        {"image/*;q=0, */*", 2},
        {"image/*;q=0.2, image/png;q=0.1", 0},
        {"*/*;q=0.9, application/json", 2},
        {"image/png;level=1;q=0.2, image/jpeg;q=0.1", 1},
        {"image/png;Q=0.2, image/jpeg;q=0.1", 1},
        {"image/png ; q=0.2 , image/jpeg ; q=0.3", 0},
        {",,image/png,,", 1},
        {"image/", -1},
        {"/", -1},
        {"*", -1},
        {"*/png", -1},
        {"image", -1},
        {"image/pngx", -1},
        {"image/pn", -1},
        {"xmage/png", -1},
        {";q=1", -1},
        {"image/png;q=1.000", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int choice = bw_accept_choose(table[i].accept, offers, 3);
        CHECK_OF(choice == table[i].choice, "\"%s\" chooses %d", table[i].accept, choice);
    }
    CHECK_INT(bw_accept_choose("*/*", offers, 0), -1);
}

/* A range that does not parse counts for nothing: what is left is the other one. */
static void accept_malformed_ranges(void)
{
    static const char *const offers[] = {"image/jpeg", "image/png"};
    static const char *const malformed[] = {
        "q=2", "q=1.001", "q=0.1234", "q=-1", "q=", "q", "q=a", "q=.5", "q=1e0"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        char accept[80];
        snprintf(accept, sizeof accept, "image/jpeg;%s, image/png;q=0.1", malformed[i]);
        CHECK_OF(bw_accept_choose(accept, offers, 2) == 1, "%s", accept);
    }
}

static void accept_quoted_parameters(void)
{
    static const char *const offers[] = {"image/jpeg", "image/png"};
    CHECK_INT(
        bw_accept_choose("image/jpeg;x=\",image/png;q=0.9,\";q=0.1, image/png;q=0.5", offers, 2),
        1);
    CHECK_INT(bw_accept_choose("image/jpeg;x=\"a;b\";q=0.1, image/png;q=0.5", offers, 2), 1);
}

static const char classes[][BW_NAME_CHARS] = {"apples",      "peaches",
                                              "pears",       "plums",
                                              "grapes",      "strawberries",
                                              "oranges",     "cherries",
                                              "grapefruits", "avocados",
                                              "persimmons",  "lemons",
                                              "mangoes",     "other fruits and nuts"};

static void prompts_pick_classes(void)
{
    static const struct {
        const char *prompt;
        int class;
    } table[] = {{"a watercolour of two lemons", 11},
                 {"an apple", 0},
                 {"cherry", 7},
                 {"Grapefruit", 8},
                 {"nothing here", -1},
                 {"", -1},
                 {"...", -1},
                 {"grape", 4},
                 {"grapes and a grapefruit", 8},
                 {"MANGO!", 12},
                 {"mangos", 12},
                 {"mangoes", 12},
                 {"a peach", 1},
                 {"strawberry-jam", 5},
                 {"pineapple", -1},
                 {"apple,pear", 0},
                 {"nuts and other fruits", 13},
                 {"other fruits", -1},
                 {"\xc3\xa9"
                  "apple",
                  -1},
                 {"avocado", 9},
                 {"persimmon", 10},
                 {"plum", 3},
                 {"orange", 6},
                 {"lemonade", -1},
                 {"\xe2\x80\x9c"
                  "apple\xe2\x80\x9d", // in typographic quotes
                  0},
                 {"pear\xe2\x80\x94ripe", 2},
                 {"a\xc2\xa0plum", 3}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK_OF(bw_prompt_class(table[i].prompt, classes, 14) == table[i].class, "%s gives %d",
                 table[i].prompt, bw_prompt_class(table[i].prompt, classes, 14));
    CHECK_INT(bw_prompt_class("apple", classes, 0), -1);
    static const char letters[][BW_NAME_CHARS] = {"x", "y"};
    CHECK_INT(bw_prompt_class("the letter Y, please", letters, 2), 1);
}

static int parse(struct bw_images_request *asked, const char *body, struct bw_err *err)
{
    return bw_openai_parse(asked, body, strlen(body), err);
}

static void openai_bodies(void)
{
    static struct bw_images_request asked;
    const struct bw_request *r = &asked.request;
    REQUIRE(parse(&asked, "{\"prompt\":\"x\"}", NULL) == BW_OK);
    CHECK_TEXT(asked.prompt, "x");
    CHECK(!asked.stream && !r->partial_images);
    CHECK(r->format == BW_FORMAT_PNG && r->count == 1 && r->picture.skip.kind == BW_SKIP_NONE);
    CHECK(!*r->model && r->picture.width == 0 && r->quality == BW_DEFAULT_QUALITY);
    REQUIRE(
        parse(&asked,
              "{\"prompt\":\"x\",\"model\":\"m\",\"n\":8,\"size\":\"128x192\",\"quality\":\"low\","
              "\"output_format\":\"jpeg\",\"output_compression\":0,\"response_format\":"
              "\"b64_json\",\"background\":\"auto\",\"stream\":true,\"partial_images\":3,\"user\":"
              "\"u\"}",
              NULL) == BW_OK);
    CHECK(r->count == 8 && r->picture.width == 128 && r->picture.height == 192 && r->quality == 1);
    CHECK(r->format == BW_FORMAT_JPEG && r->picture.skip.kind == BW_SKIP_PRESET);
    CHECK_TEXT(r->picture.skip.preset, "fast");
    CHECK_TEXT(r->model, "m");
    CHECK(asked.stream && r->partial_images == 3);
    REQUIRE(parse(&asked, "{\"prompt\":\"x\",\"stream\":false,\"partial_images\":0}", NULL) ==
            BW_OK);
    CHECK(!asked.stream && !r->partial_images);
    REQUIRE(parse(&asked, "{\"prompt\":\"x\",\"output_format\":\"webp\",\"output_compression\":70}",
                  NULL) == BW_OK);
    CHECK(r->format == BW_FORMAT_WEBP && r->quality == 70);
}

static void formats_have_names(void)
{
    for (int f = BW_FORMAT_JPEG; f <= BW_FORMAT_WEBP; f++) {
        enum bw_format found = BW_FORMAT_ANY;
        const char *name = bw_format_name((enum bw_format)f);
        CHECK(bw_format_named(name, &found) && (int)found == f);
        CHECK_TEXT(bw_text_after(bw_format_media_type((enum bw_format)f), "image/"), name);
    }
    enum bw_format untouched = BW_FORMAT_PNG;
    CHECK(!bw_format_name(BW_FORMAT_ANY) && !bw_format_media_type(BW_FORMAT_ANY));
    CHECK(!bw_format_named("", &untouched) && !bw_format_named("WEBP", &untouched));
    CHECK(untouched == BW_FORMAT_PNG);
}

static void openai_fields_are_named(void)
{
    static const struct {
        const char *entry, *field;
    } table[] = {{"\"n\":0", "/n"},
                 {"\"n\":9", "/n"},
                 {"\"size\":\"x\"", "/size"},
                 {"\"size\":7", "/size"},
                 {"\"size\":\"128\"", "/size"},
                 {"\"size\":\"{\"", "/size"},
                 {"\"size\":\".5\"", "/size"},
                 {"\"size\":\"{}\"", "/size"},
                 {"\"quality\":\"best\"", "/quality"},
                 {"\"quality\":1", "/quality"},
                 {"\"output_format\":\"gif\"", "/output_format"},
                 {"\"output_format\":7", "/output_format"},
                 {"\"output_compression\":101", "/output_compression"},
                 {"\"response_format\":\"url\"", "/response_format"},
                 {"\"background\":\"transparent\"", "/background"},
                 {"\"stream\":null", "/stream"},
                 {"\"partial_images\":1", "/partial_images"},
                 {"\"partial_images\":1,\"stream\":false", "/partial_images"},
                 {"\"partial_images\":4,\"stream\":true", "/partial_images"},
                 {"\"partial_images\":-1,\"stream\":true", "/partial_images"},
                 {"\"stream\":0", "/stream"},
                 {"\"user\":7", "/user"},
                 {"\"model\":\"\"", "/model"},
                 {"\"style\":\"vivid\"", "/style"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char body[128];
        static struct bw_images_request asked;
        asked.request.count = 77;
        struct bw_err err = {0};
        snprintf(body, sizeof body, "{\"prompt\":\"x\",%s}", table[i].entry);
        CHECK_OF(parse(&asked, body, &err) == BW_ERANGE, "%s: %d", body, err.code);
        CHECK_OF(strcmp(err.field, table[i].field) == 0, "%s: %s", body, err.field);
        CHECK_INT(asked.request.count, 77);
    }
    static const char *const promptless[] = {"{}", "{\"prompt\":\"\"}", "{\"prompt\":7}"};
    for (int i = 0; i < 3; i++) {
        static struct bw_images_request asked;
        struct bw_err err = {0};
        CHECK_INT(parse(&asked, promptless[i], &err), BW_ERANGE);
        CHECK_TEXT(err.field, "/prompt");
    }
}

static void problems_parse(void)
{
    static const int statuses[] = {400, 401, 404, 404, 404, 405, 406, 409, 409, 409, 410, 413,
                                   414, 415, 422, 429, 429, 431, 500, 503, 503, 503, 503, 504};
    CHECK_INT(sizeof statuses / sizeof *statuses, BW_PROBLEM_TOO_LATE + 1);
    for (int i = 0; i <= BW_PROBLEM_TOO_LATE; i++) {
        for (int form = 0; form < 4; form++) {
            struct bw_err err = {0};
            bw_err_set_field(&err, BW_ERANGE, form & 1 ? "/a\"b" : "", "quote \" and \\");
            char *text = bw_problem_render((enum bw_problem)i, &err, NULL, "id-1", form >> 1);
            json_t *root = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
            free(text);
            REQUIRE(root != NULL);
            CHECK_INT(json_integer_value(json_object_get(root, "status")), statuses[i]);
            CHECK_INT(bw_problem_status((enum bw_problem)i), statuses[i]);
            CHECK_HOLDS(json_string_value(json_object_get(root, "type")), "urn:brickwork:problem:");
            CHECK(*json_string_value(json_object_get(root, "title")));
            CHECK_TEXT(json_string_value(json_object_get(root, "detail")), "quote \" and \\");
            CHECK_TEXT(json_string_value(json_object_get(root, "instance")), "id-1");
            const json_t *first = json_array_get(json_object_get(root, "errors"), 0);
            CHECK(!first == !(form & 1));
            if (first)
                CHECK_TEXT(json_string_value(json_object_get(first, "pointer")), "/a\"b");
            const json_t *error = json_object_get(root, "error");
            CHECK(!error == !(form >> 1));
            if (error)
                CHECK(json_is_null(json_object_get(error, "param")) == !(form & 1));
            json_decref(root);
        }
    }
}

/* Text a client sent may be cut where a message ends; the answer must be JSON all the same. */
static void cut_messages_still_render(void)
{
    char text[600] = "";
    for (int i = 0; i < 250; i++)
        strcat(text, "\xc3\xa9");
    for (int lead = 0; lead < 2; lead++) {
        struct bw_err err = {0};
        bw_err_set_field(&err, BW_ERANGE, "/class", "%s%s", lead ? "x" : "", text);
        char *body = bw_problem_render(BW_PROBLEM_INVALID, &err, NULL, "id", 1);
        CHECK_OF(body != NULL, "%d before", lead);
        free(body);
    }
}

static void errors_become_problems(void)
{
    static const int codes[][2] = {{BW_ESYNTAX, 400}, {BW_ERANGE, 422}, {BW_ENOTFOUND, 404},
                                   {BW_EBUSY, 429},   {BW_EIO, 500},    {BW_ENOMEM, 500}};
    for (int i = 0; i < 6; i++) {
        const struct bw_err err = {.code = codes[i][0]};
        CHECK_INT(bw_problem_status(bw_problem_of(&err)), codes[i][1]);
    }
}

#define DENOISE "\"kind\":\"denoise\",\"size\":[16,32],\"sigma\":0.5,\"mask\":[true,false,true]"

static void cases_are_read(void)
{
    struct bw_case c;
    REQUIRE(bw_case_read(&c, "{" DENOISE ",\"label\":9,\"shifts\":[[1,2],[-3,4],[0,0]],\"seed\":1}",
                         3, 10, NULL) == BW_OK);
    CHECK(!c.sample && c.height == 16 && c.width == 32 && c.mask == 5 && c.label == 9);
    CHECK(c.shifts[0][1] == 2 && c.shifts[1][0] == -3 && c.sigma == 0.5);
    REQUIRE(bw_case_read(&c,
                         "{\"kind\":\"sample\",\"size\":[8,8],\"steps\":2,\"solver\":\"heun\","
                         "\"guidance\":3,\"masks\":[[true,false],[false,true]]}",
                         2, 0, NULL) == BW_OK);
    CHECK(c.sample && c.steps == 2 && c.solver == BW_HEUN && c.mask_count == 2 && c.label == -1);
    CHECK(c.masks[0] == 1 && c.masks[1] == 2 && c.guidance == 3);
}

static void bad_cases(void)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"kind\":\"denoise\"}",
        "{" DENOISE ",\"x\":1}",
        "{" DENOISE ",\"label\":10}",
        "{" DENOISE ",\"label\":-2}",
        "{" DENOISE ",\"kind\":1}",
        "{" DENOISE ",\"shifts\":[[0,0]]}",
        "{" DENOISE ",\"shifts\":[[0,0],[0,0],[0,9999]]}",
        "{\"kind\":\"other\",\"size\":[8,8],\"steps\":1}",
        "{\"kind\":\"denoise\",\"size\":[8,8],\"sigma\":1,\"mask\":[false,false,false]}",
        "{\"kind\":\"denoise\",\"size\":[8,8],\"sigma\":1,\"mask\":[true,true]}",
        "{\"kind\":\"denoise\",\"size\":[8,8],\"sigma\":1,\"mask\":[1,1,1]}",
        "{\"kind\":\"denoise\",\"size\":[8,8],\"sigma\":0,\"mask\":[true,true,true]}",
        "{\"kind\":\"denoise\",\"size\":[0,8],\"sigma\":1,\"mask\":[true,true,true]}",
        "{\"kind\":\"denoise\",\"size\":[8],\"sigma\":1,\"mask\":[true,true,true]}",
        "{\"kind\":\"denoise\",\"size\":[8,8],\"sigma\":1}",
        "{\"kind\":\"sample\",\"size\":[8,8]}",
        "{\"kind\":\"sample\",\"size\":[8,8],\"steps\":257}",
        "{\"kind\":\"sample\",\"size\":[8,8],\"steps\":1,\"solver\":\"x\"}",
        "{\"kind\":\"sample\",\"size\":[8,8],\"steps\":2,\"masks\":[[true,true,true]]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct bw_case c = {.steps = 77};
        struct bw_err err = {0};
        CHECK_OF(bw_case_read(&c, texts[i], 3, 10, &err) < 0 && *err.message, "%s", texts[i]);
        CHECK_INT(c.steps, 77);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(accept_table),
                                              TEST(accept_malformed_ranges),
                                              TEST(accept_quoted_parameters),
                                              TEST(prompts_pick_classes),
                                              TEST(openai_bodies),
                                              TEST(formats_have_names),
                                              TEST(openai_fields_are_named),
                                              TEST(problems_parse),
                                              TEST(cut_messages_still_render),
                                              TEST(errors_become_problems),
                                              TEST(cases_are_read),
                                              TEST(bad_cases)};
    return CHECK_RUN("api", tests);
}
