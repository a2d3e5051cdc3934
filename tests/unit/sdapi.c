/* AUTOMATIC1111's shape: what maps, what is refused, and answers that ask for the same again. */
#include "api/sdapi.h"

#include "tests/unit/check.h"

#include <jansson.h>

static int parse(struct bw_txt2img *asked, const char *body, struct bw_err *err)
{
    return bw_txt2img_parse(asked, body, strlen(body), err);
}

static void defaults(void)
{
    static struct bw_txt2img asked;
    const struct bw_request *r = &asked.request;
    REQUIRE(parse(&asked, "{}", NULL) == BW_OK);
    CHECK_TEXT(asked.prompt, "");
    CHECK(asked.batch_size == 1 && asked.n_iter == 1 && r->count == 1 && !r->seeded && !*r->model);
    CHECK(r->format == BW_FORMAT_PNG && r->picture.skip.kind == BW_SKIP_NONE);
    CHECK(r->picture.steps == 20 && r->picture.guidance == 1.5 && r->picture.width == 0);
    CHECK(r->picture.solver == BW_DPMPP2M && r->picture.class_index == BW_CLASS_NONE);
}

static void what_maps(void)
{
    static struct bw_txt2img asked;
    const struct bw_request *r = &asked.request;
    REQUIRE(parse(&asked,
                  "{\"prompt\":\"an apple\",\"seed\":9007199254740991,\"sampler_name\":\"Heun\","
                  "\"scheduler\":\"Karras\",\"batch_size\":2,\"n_iter\":4,\"steps\":256,"
                  "\"cfg_scale\":7,\"width\":128,\"height\":192,"
                  "\"override_settings\":{\"sd_model_checkpoint\":\"m\"}}",
                  NULL) == BW_OK);
    CHECK_TEXT(asked.prompt, "an apple");
    CHECK_TEXT(r->model, "m");
    CHECK(r->seeded && r->picture.seed == BW_MAX_SEED && r->picture.solver == BW_HEUN);
    CHECK(asked.batch_size == 2 && asked.n_iter == 4 && r->count == 8 && r->picture.steps == 256);
    CHECK(r->picture.guidance == 7 && r->picture.width == 128 && r->picture.height == 192);
}

/* All that a client sends who sends every field. */
static void what_asks_for_nothing(void)
{
    static struct bw_txt2img asked;
    struct bw_err err = {0};
    parse(&asked,
          "{\"prompt\":\"\",\"negative_prompt\":\"\",\"styles\":[],\"seed\":-1,\"subseed\":-1,"
          "\"subseed_strength\":0,\"sampler_index\":\"Euler\",\"scheduler\":\"Automatic\","
          "\"restore_faces\":false,\"tiling\":false,\"enable_hr\":false,"
          "\"do_not_save_samples\":true,\"do_not_save_grid\":false,\"save_images\":false,"
          "\"send_images\":true,\"override_settings\":{},"
          "\"override_settings_restore_afterwards\":true,\"alwayson_scripts\":{},"
          "\"script_args\":[],\"script_name\":null}",
          &err);
    CHECK_TEXT(err.message, "");
    CHECK(!asked.request.seeded && asked.request.picture.solver == BW_EULER);
    CHECK(parse(&asked, "{\"subseed_strength\":0.0,\"subseed\":-1.0}", NULL) == BW_OK);
}

static void sampler_names(void)
{
    static const struct {
        const char *entry;
        enum bw_solver solver;
    } table[] = {{"\"sampler_name\":\"Euler\"", BW_EULER},
                 {"\"sampler_name\":\"EULER\"", BW_EULER},
                 {"\"sampler_name\":\"heun\"", BW_HEUN},
                 {"\"sampler_name\":\"DPM++ 2M\"", BW_DPMPP2M},
                 {"\"sampler_name\":\"dpm++ 2m karras\"", BW_DPMPP2M},
                 {"\"sampler_name\":\"dpmpp2m\"", BW_DPMPP2M},
                 {"\"sampler_index\":\"Heun\"", BW_HEUN},
                 {"\"sampler_index\":\"Heun\",\"sampler_name\":\"Euler\"", BW_EULER},
                 {"\"sampler_name\":\"Euler\",\"sampler_index\":\"Heun\"", BW_EULER}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        static struct bw_txt2img asked;
        char body[128];
        struct bw_err err = {0};
        snprintf(body, sizeof body, "{%s}", table[i].entry);
        CHECK_OF(parse(&asked, body, &err) == BW_OK, "%s: %s", body, err.message);
        CHECK_OF(asked.request.picture.solver == table[i].solver, "%s", body);
    }
}

static const struct {
    const char *entry, *field;
} refused[] = {
    {"\"prompt\":null", "/prompt"},
    {"\"negative_prompt\":\"blurry\"", "/negative_prompt"},
    {"\"negative_prompt\":null", "/negative_prompt"},
    {"\"styles\":[\"a\"]", "/styles"},
    {"\"styles\":null", "/styles"},
    {"\"seed\":-2", "/seed"},
    {"\"seed\":9007199254740992", "/seed"},
    {"\"seed\":\"1\"", "/seed"},
    {"\"subseed\":0", "/subseed"},
    {"\"subseed\":true", "/subseed"},
    {"\"subseed_strength\":0.1", "/subseed_strength"},
    {"\"subseed_strength\":false", "/subseed_strength"},
    {"\"sampler_name\":\"Euler a\"", "/sampler_name"},
    {"\"sampler_name\":\"\"", "/sampler_name"},
    {"\"sampler_name\":null", "/sampler_name"},
    {"\"sampler_index\":\"Euler a\"", "/sampler_index"},
    {"\"sampler_name\":\"Euler\",\"sampler_index\":\"DDIM\"", "/sampler_index"},
    {"\"scheduler\":\"Exponential\"", "/scheduler"},
    {"\"scheduler\":\"KARRAS\"", "/scheduler"},
    {"\"scheduler\":0", "/scheduler"},
    {"\"batch_size\":0", "/batch_size"},
    {"\"batch_size\":9", "/batch_size"},
    {"\"n_iter\":0", "/n_iter"},
    {"\"n_iter\":9", "/n_iter"},
    {"\"batch_size\":3,\"n_iter\":3", "/n_iter"},
    {"\"steps\":0", "/steps"},
    {"\"steps\":257", "/steps"},
    {"\"cfg_scale\":20.5", "/cfg_scale"},
    {"\"cfg_scale\":-1", "/cfg_scale"},
    {"\"width\":0", "/width"},
    {"\"width\":1000000", "/width"},
    {"\"height\":0", "/height"},
    {"\"height\":\"128\"", "/height"},
    {"\"restore_faces\":true", "/restore_faces"},
    {"\"restore_faces\":null", "/restore_faces"},
    {"\"tiling\":true", "/tiling"},
    {"\"enable_hr\":true", "/enable_hr"},
    {"\"do_not_save_samples\":0", "/do_not_save_samples"},
    {"\"do_not_save_grid\":null", "/do_not_save_grid"},
    {"\"save_images\":true", "/save_images"},
    {"\"send_images\":false", "/send_images"},
    {"\"override_settings\":null", "/override_settings"},
    {"\"override_settings\":{\"CLIP_stop_at_last_layers\":2}",
     "/override_settings/CLIP_stop_at_last_layers"},
    {"\"override_settings\":{\"sd_model_checkpoint\":\"\"}",
     "/override_settings/sd_model_checkpoint"},
    {"\"override_settings_restore_afterwards\":1", "/override_settings_restore_afterwards"},
    {"\"alwayson_scripts\":{\"a\":{}}", "/alwayson_scripts"},
    {"\"alwayson_scripts\":[]", "/alwayson_scripts"},
    {"\"script_args\":[1]", "/script_args"},
    {"\"script_args\":{}", "/script_args"},
    {"\"script_name\":\"x\"", "/script_name"},
    {"\"init_images\":[]", "/init_images"}};

static void what_is_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        static struct bw_txt2img asked;
        char body[128];
        struct bw_err err = {0};
        asked.n_iter = 77;
        snprintf(body, sizeof body, "{%s}", refused[i].entry);
        CHECK_OF(parse(&asked, body, &err) == BW_ERANGE, "%s: %d", body, err.code);
        CHECK_OF(strcmp(err.field, refused[i].field) == 0, "%s: %s", body, err.field);
        CHECK(*err.message && asked.n_iter == 77);
    }
    static struct bw_txt2img asked;
    CHECK_INT(parse(&asked, "[]", NULL), BW_ESYNTAX);
    struct bw_err err = {0};
    parse(&asked, "{\"sampler_name\":\"Euler a\"}", &err);
    CHECK_HOLDS(err.message, "Euler, Heun, DPM++ 2M");
}

static void long_prompts(void)
{
    for (int length = 4095; length <= 4096; length++) {
        static struct bw_txt2img asked;
        static char body[5000];
        snprintf(body, sizeof body, "{\"prompt\":\"%0*d\"}", length, 0);
        CHECK_INT(parse(&asked, body, NULL), length == 4095 ? BW_OK : BW_ERANGE);
    }
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static long long integer(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : -999;
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

/* A request of two pictures as it was carried out. */
static json_t *answer(struct bw_txt2img *asked, const char *body)
{
    static const struct bw_image images[] = {{.bytes = "a", .size_bytes = 1},
                                             {.bytes = "bc", .size_bytes = 2}};
    if (!CHECK(parse(asked, body, NULL) == BW_OK))
        return NULL;
    struct bw_generation g = {
        .model_digest = "0123456789abcdef", .request = asked->request, .images = images};
    strcpy(g.request.model, "fruit");
    g.request.picture.width = 128;
    g.request.picture.height = 192;
    g.request.picture.seed = 42;
    g.request.picture.class_index = 3;
    char *rendered = bw_txt2img_render(asked, &g);
    json_t *root = rendered ? json_loads(rendered, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(rendered);
    return root;
}

static void check_info(const char *info_text)
{
    json_t *info = json_loads(info_text, JSON_REJECT_DUPLICATES, NULL);
    REQUIRE(info != NULL);
    const json_t *seeds = json_object_get(info, "all_seeds");
    const json_t *texts = json_object_get(info, "infotexts");
    CHECK_INT(integer(info, "seed"), 42);
    CHECK(json_array_size(seeds) == 2 && json_array_size(texts) == 2);
    CHECK_INT(json_integer_value(json_array_get(seeds, 1)), 42);
    CHECK(integer(info, "steps") == 20 && number(info, "cfg_scale") == 2.5);
    CHECK(integer(info, "width") == 128 && integer(info, "height") == 192);
    CHECK_TEXT(text(info, "sampler_name"), "Euler");
    CHECK_TEXT(json_string_value(json_array_get(texts, 1)),
               "two \"apples\"\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 2.5, "
               "Seed: 42, Size: 128x192, Model hash: 0123456789, Model: fruit, Index: 1");
    const json_t *own = json_object_get(info, "brickwork_request");
    CHECK(integer(own, "class") == 3 && integer(own, "n") == 2);
    json_decref(info);
}

static void answers(void)
{
    static struct bw_txt2img asked, again;
    json_t *root = answer(&asked, "{\"prompt\":\"two \\\"apples\\\"\",\"batch_size\":2,"
                                  "\"sampler_name\":\"euler\",\"cfg_scale\":2.5}");
    REQUIRE(root && json_object_size(root) == 3);
    const json_t *images = json_object_get(root, "images");
    CHECK_INT(json_array_size(images), 2);
    CHECK_TEXT(json_string_value(json_array_get(images, 0)), "YQ==");
    CHECK_TEXT(json_string_value(json_array_get(images, 1)), "YmM=");
    char *parameters = json_dumps(json_object_get(root, "parameters"), 0);
    REQUIRE(parameters && parse(&again, parameters, NULL) == BW_OK);
    free(parameters);
    const struct bw_picture *p = &again.request.picture;
    CHECK_TEXT(again.prompt, asked.prompt);
    CHECK_TEXT(again.request.model, "fruit");
    CHECK(again.batch_size == 2 && again.n_iter == 1 && again.request.seeded && p->seed == 42);
    CHECK(p->solver == BW_EULER && p->steps == 20 && p->guidance == 2.5);
    CHECK(p->width == 128 && p->height == 192);
    check_info(text(root, "info"));
    json_decref(root);
}

/* Without a prompt the line of parameters has nothing before it. */
static void answers_without_prompt(void)
{
    static struct bw_txt2img asked;
    json_t *root = answer(&asked, "{\"sampler_name\":\"dpmpp2m\",\"n_iter\":2}");
    REQUIRE(root != NULL);
    CHECK_HOLDS(text(root, "info"), "\"infotexts\":[\"Steps: 20, Sampler: DPM++ 2M, ");
    json_decref(root);
}

static json_t *progress(const struct bw_sd_progress *p)
{
    char *rendered = bw_sd_progress_render(p);
    json_t *root = rendered ? json_loads(rendered, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(rendered);
    CHECK_INT(json_object_size(root), 5);
    CHECK_INT(json_object_size(json_object_get(root, "state")), 8);
    CHECK(json_is_null(json_object_get(root, "textinfo")));
    CHECK(json_is_false(json_object_get(json_object_get(root, "state"), "skipped")));
    CHECK(json_is_false(json_object_get(json_object_get(root, "state"), "interrupted")));
    return root;
}

static void nothing_under_way(void)
{
    json_t *root = progress(&(struct bw_sd_progress){.job = ""});
    const json_t *state = json_object_get(root, "state");
    CHECK(number(root, "progress") == 0 && number(root, "eta_relative") == 0);
    CHECK(json_is_null(json_object_get(root, "current_image")));
    CHECK(integer(state, "job_count") == 0 && integer(state, "job_no") == 0);
    CHECK(integer(state, "sampling_step") == 0 && integer(state, "sampling_steps") == 0);
    CHECK_TEXT(text(state, "job"), "");
    CHECK_TEXT(text(state, "job_timestamp"), "0");
    json_decref(root);
}

static void under_way(void)
{
    static const struct {
        int step, job_no, sampling_step;
    } table[] = {{0, 0, 0}, {19, 0, 19}, {20, 1, 0}, {45, 2, 5}, {60, 2, 20}};
    for (int i = 0; i < 5; i++) {
        json_t *root = progress(&(struct bw_sd_progress){.job = "id-1",
                                                         .started_s = 1700000000,
                                                         .pictures = 3,
                                                         .step = table[i].step,
                                                         .steps = 60,
                                                         .eta_ms = 1500,
                                                         .jpeg = "a",
                                                         .jpeg_bytes = 1});
        const json_t *state = json_object_get(root, "state");
        CHECK_NEAR(number(root, "progress"), table[i].step / 60., 1e-9);
        CHECK(number(root, "eta_relative") == 1.5);
        CHECK_TEXT(text(root, "current_image"), "YQ==");
        CHECK_TEXT(text(state, "job"), "id-1");
        CHECK_TEXT(text(state, "job_timestamp"), "20231114221320");
        CHECK(integer(state, "job_count") == 3 && integer(state, "sampling_steps") == 20);
        CHECK_INT(integer(state, "job_no"), table[i].job_no);
        CHECK_INT(integer(state, "sampling_step"), table[i].sampling_step);
        json_decref(root);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(defaults),
                                              TEST(what_maps),
                                              TEST(what_asks_for_nothing),
                                              TEST(sampler_names),
                                              TEST(what_is_refused),
                                              TEST(long_prompts),
                                              TEST(answers),
                                              TEST(answers_without_prompt),
                                              TEST(nothing_under_way),
                                              TEST(under_way)};
    return CHECK_RUN("sdapi", tests);
}
