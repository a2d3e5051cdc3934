/* What is said of models and of the service, read back. */
#include "api/cards.h"

#include "base/version.h"
#include "tests/unit/check.h"

#include <jansson.h>

/* The value of a rendered text, which is freed. */
static json_t *read_back(char *text)
{
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    if (!value)
        abort();
    free(text);
    return value;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "(none)";
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value ? json_number_value(value) : -1;
}

static struct bw_model_card card_of(const char *name)
{
    static const char classes[2][BW_NAME_CHARS] = {"figs", "\"q\xc3\xa4\""};
    return (struct bw_model_card){.name = name,
                                  .digest = "d",
                                  .license = "CC0",
                                  .source = "",
                                  .created_s = 5000000000,
                                  .file_bytes = 6000000000,
                                  .parameters = 7000000000,
                                  .image_size = 128,
                                  .min_size = 64,
                                  .side_multiple = 32,
                                  .max_area = 65536,
                                  .class_count = 2,
                                  .class_names = classes,
                                  .brick_count = 1,
                                  .bricks = {{16, 4, 2, 1.5}},
                                  .presets = {"none", "light"}};
}

static void check_card(const json_t *card, const char *name)
{
    CHECK_TEXT(text_of(card, "id"), name);
    CHECK_TEXT(text_of(card, "object"), "model");
    CHECK_TEXT(text_of(card, "license"), "CC0");
    CHECK_TEXT(text_of(card, "source"), "");
    CHECK_NEAR(number_of(card, "created"), 5e9, 0);
    CHECK_NEAR(number_of(card, "file_bytes"), 6e9, 0);
    CHECK_NEAR(number_of(card, "parameters"), 7e9, 0);
    const json_t *sizes = json_object_get(card, "sizes");
    CHECK(number_of(sizes, "default") == 128 && number_of(sizes, "min_side") == 64);
    CHECK(number_of(sizes, "side_multiple") == 32 && number_of(sizes, "max_area") == 65536);
    const json_t *classes = json_object_get(card, "classes");
    CHECK_INT((long long)json_array_size(classes), 2);
    CHECK_TEXT(json_string_value(json_array_get(classes, 1)), "\"q\xc3\xa4\"");
    const json_t *brick = json_array_get(json_object_get(card, "bricks"), 0);
    CHECK(number_of(brick, "size") == 16 && number_of(brick, "patch") == 4);
    CHECK(number_of(brick, "depth") == 2 && number_of(brick, "gigaflops") == 1.5);
    CHECK_INT((long long)json_array_size(json_object_get(card, "presets")), 2);
}

static void models(void)
{
    const struct bw_model_card cards[] = {card_of("first"), card_of("second")};
    json_t *list = read_back(bw_models_render(cards, 2)), *one = read_back(bw_model_render(cards));
    CHECK_TEXT(text_of(list, "object"), "list");
    const json_t *data = json_object_get(list, "data");
    REQUIRE(json_array_size(data) == 2);
    check_card(json_array_get(data, 0), "first");
    check_card(json_array_get(data, 1), "second");
    check_card(one, "first");
    json_decref(list);
    json_decref(one);
}

static void capabilities(void)
{
    const struct bw_curve curves[] = {{.model = "first",
                                       .full_ms = 250.1236,
                                       .preset_count = 1,
                                       .point_count = 2,
                                       .presets = {{"light", 0.01, 0.7}},
                                       .points = {{NULL, 0, 1}, {NULL, 0.02, 0.6}}},
                                      {.model = "second", .full_ms = 1}};
    const struct bw_capabilities c = {.kernels = "k",
                                      .max_area = 1,
                                      .max_body_bytes = 2,
                                      .queue = 3,
                                      .queue_ms = 4,
                                      .keep_jobs_s = 5,
                                      .features = {.webhooks = true},
                                      .model_count = 2,
                                      .models = curves};
    static const struct {
        const char *key;
        double value;
    } limits[] = {{"pictures", 8},    {"steps", 256},           {"guidance", 20}, {"area", 1},
                  {"body_bytes", 2},  {"deadline_ms", 3600000}, {"queue", 3},     {"queue_ms", 4},
                  {"keep_jobs_s", 5}, {"partial_images", 8}};
    json_t *body = read_back(bw_capabilities_render(&c));
    CHECK_TEXT(text_of(body, "version"), BW_VERSION);
    CHECK_TEXT(text_of(body, "kernels"), "k");
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        CHECK_NEAR(number_of(json_object_get(body, "limits"), limits[i].key), limits[i].value, 0);
    const json_t *features = json_object_get(body, "features");
    CHECK(json_is_true(json_object_get(features, "webhooks")));
    CHECK(json_is_false(json_object_get(features, "keys")));
    CHECK(json_is_false(json_object_get(features, "durable_jobs")));
    CHECK_INT((long long)json_array_size(json_object_get(body, "formats")), 3);
    CHECK_INT((long long)json_array_size(json_object_get(body, "solvers")), 3);
    const json_t *priorities = json_object_get(body, "priorities");
    CHECK_TEXT(json_string_value(json_array_get(priorities, 2)), "high");
    const json_t *list = json_object_get(body, "models"), *first = json_array_get(list, 0);
    CHECK_INT((long long)json_array_size(list), 2);
    CHECK_NEAR(number_of(first, "full_ms"), 250.124, 1e-9);
    const json_t *preset = json_array_get(json_object_get(first, "presets"), 0);
    CHECK_TEXT(text_of(preset, "name"), "light");
    CHECK_NEAR(number_of(preset, "cost"), 0.7, 0);
    const json_t *last = json_array_get(json_object_get(first, "curve"), 1);
    CHECK_NEAR(number_of(last, "excess_loss"), 0.02, 0);
    CHECK_TEXT(text_of(last, "name"), "(none)");
    CHECK_INT((long long)json_array_size(json_object_get(json_array_get(list, 1), "curve")), 0);
    json_decref(body);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(models), TEST(capabilities)};
    return CHECK_RUN("cards", tests);
}
