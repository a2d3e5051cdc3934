/* Model files that differ from a good one in a single tensor, and what loading makes of good ones.
 */
#include "engine/model.h"

#include "tests/unit/check.h"
#include "tests/unit/weights.h"

/* A file taken apart. */
struct parts {
    json_t *header;
    unsigned char *body; // [body_bytes]
    size_t body_bytes;
};

static struct parts take_apart(const char *path)
{
    struct bw_buf file = {0};
    struct parts parts = {0};
    if (bw_buf_add_file(&file, path, NULL))
        abort();
    uint64_t length;
    memcpy(&length, file.data, sizeof length);
    parts.header = json_loadb(file.data + 8, length, 0, NULL);
    parts.body_bytes = file.length_bytes - 8 - length;
    parts.body = malloc(parts.body_bytes + 64); // room for a tensor more
    memcpy(parts.body, file.data + 8 + length, parts.body_bytes);
    memset(parts.body + parts.body_bytes, 0, 64);
    bw_buf_release(&file);
    return parts;
}

/* Read the parts as a model; releases them. */
static int read_parts(struct parts *parts, struct bw_model **model, struct bw_err *err)
{
    char *text = json_dumps(parts->header, 0);
    struct bw_buf file = weights_file(text, parts->body, parts->body_bytes);
    struct bw_safetensors st;
    int code = bw_safetensors_parse(&st, file.data, file.length_bytes, err);
    if (!code) {
        code = bw_model_read(model, &st, &bw_kernels_portable, err);
        bw_safetensors_release(&st);
    }
    free(text);
    free(parts->body);
    json_decref(parts->header);
    bw_buf_release(&file);
    return code;
}

static void check_refused(struct parts *parts, const char *tensor, const char *reason)
{
    struct bw_model *model = NULL;
    struct bw_err err = {0};
    CHECK_INT(read_parts(parts, &model, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, tensor);
    CHECK_HOLDS(err.message, reason);
    CHECK(!model);
    bw_model_free(model);
}

/* Under another name a tensor is missing, and what has the name is not looked for. */
static void rename_tensor(struct parts *parts, const char *from, const char *to)
{
    json_object_set(parts->header, to, json_object_get(parts->header, from));
    json_object_del(parts->header, from);
}

static void missing_tensors(void)
{
    static const char *const names[] = {
        "t_embedder.mlp.0.weight", "y_embedder.embedding_table.bias",
        "model.0.x_embedder.proj.weight", "model.2.final_layer.linear.bias",
        "model.1.blocks.0.attn.qkv.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct parts parts = take_apart(TINY_PG);
        rename_tensor(&parts, names[i], "other");
        check_refused(&parts, names[i], "missing");
    }
}

static void extra_tensor(void)
{
    struct parts parts = take_apart(TINY_PG);
    json_object_set_new(parts.header, "model.3.x",
                        json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "F32", "shape", 1,
                                  "data_offsets", (json_int_t)parts.body_bytes,
                                  (json_int_t)parts.body_bytes + 4));
    parts.body_bytes += 4;
    check_refused(&parts, "\"model.3.x\"", "not part of the network");
}

static void wrong_shapes(void)
{
    static const char name[] = "model.1.blocks.0.attn.proj.weight"; // [64, 64]
    static const char *const shapes[] = {"[4096]", "[32,128]", "[64,64,1]", "[1,1,1,1,1,1,64,64]"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct parts parts = take_apart(TINY_PG);
        json_object_set_new(json_object_get(parts.header, name), "shape",
                            json_loads(shapes[i], 0, NULL));
        check_refused(&parts, name, "the network wants [64,64]");
    }
}

static void wrong_dtype(void)
{
    static const char name[] = "t_embedder.mlp.2.bias"; // 64 floats
    struct parts parts = take_apart(TINY_PG);
    json_t *entry = json_object_get(parts.header, name);
    json_object_set_new(entry, "dtype", json_string("U8"));
    json_object_set_new(entry, "shape", json_pack("[i]", 256));
    check_refused(&parts, name, "dtype is not a float");
}

static void weights_that_are_no_numbers(void)
{
    static const char name[] = "model.2.blocks.0.mlp.fc1.bias";
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct parts parts = take_apart(TINY_PG);
        const json_t *offsets =
            json_object_get(json_object_get(parts.header, name), "data_offsets");
        json_int_t at = json_integer_value(json_array_get(offsets, 0));
        memcpy(parts.body + at + 4 * 17, &values[i], sizeof values[i]);
        check_refused(&parts, name, "element 17 is not finite");
    }
}

static void metadata_is_checked(void)
{
    struct parts parts = take_apart(TINY_PG);
    json_object_del(json_object_get(parts.header, "__metadata__"), "lego");
    check_refused(&parts, "lego", "missing");
}

static void paths_are_named(void)
{
    struct bw_model *model = NULL;
    struct bw_err err = {0};
    CHECK_INT(bw_model_load(&model, "Makefile", &bw_kernels_portable, &err), BW_ESYNTAX);
    CHECK(strncmp(err.message, "Makefile: ", 10) == 0);
    err = (struct bw_err){0};
    CHECK_INT(bw_model_load(&model, "tests/golden/tiny-pg-32/denoise-full.safetensors",
                            &bw_kernels_portable, &err),
              BW_ESYNTAX);
    CHECK_HOLDS(err.message, "denoise-full.safetensors: ");
    CHECK_HOLDS(err.message, "not a LEGO model");
    CHECK(!model);
}

static void what_is_loaded(void)
{
    struct bw_model *model = weights_model_of(TINY_PR);
    CHECK_TEXT(model->arch.name, "tiny-pr-32");
    CHECK_INT((long long)model->file_bytes, 1592408);
    CHECK_INT((long long)strlen(model->digest), 64);
    CHECK(!model->classes.w && model->time1.inputs == 256 && model->time2.outputs == 96);
    CHECK_INT(model->bricks[0].inputs, 5);
    CHECK_INT(model->bricks[1].inputs, 8);
    CHECK_INT(model->bricks[0].side_tokens, 8);
    CHECK_INT((long long)model->parameter_count * 2 + 8 + 6456, 1592408);
    CHECK_INT((long long)model->modulation_width, (4 * 6 + 3 * 2) * 96);
    CHECK_TEXT(model->license, "");
    bw_model_free(model);
    bw_model_free(NULL);
}

static void positions_are_sines(void)
{
    struct bw_model *model = weights_model_of(TINY_PG);
    const float *p = model->bricks[2].positions + (size_t)(3 * 16 + 5) * 64; // row 3, column 5
    for (int i = 0; i < 16; i++) {
        double rate = pow(10000, -i / 16.0);
        CHECK_NEAR(p[i], sin(5 * rate), 1e-6);
        CHECK_NEAR(p[16 + i], cos(5 * rate), 1e-6);
        CHECK_NEAR(p[32 + i], sin(3 * rate), 1e-6);
        CHECK_NEAR(p[48 + i], cos(3 * rate), 1e-6);
    }
    bw_model_free(model);
}

#define SMALL                                                                               \
    "{\"format\":1,\"name\":\"small\",\"image_size\":4,\"channels\":3,\"num_classes\":0,"   \
    "\"classes\":[],\"hidden_size\":32,\"num_heads\":1,\"mlp_ratio\":1,\"sigma_data\":0.5," \
    "\"bricks\":[{\"size\":4,\"patch\":2,\"depth\":1}]}"

/* What is too long for its field must still be text that a response can carry. */
static void long_metadata_stays_text(void)
{
    char source[402] = ""; // characters of two bytes, so that the cut falls into one
    for (int i = 0; i < 200; i++)
        strcat(source, "\xc3\xa9");
    struct bw_model *model = weights_made(SMALL, source);
    json_t *text = json_string(model->source);
    CHECK_OF(text != NULL, "%zu bytes, the last %02x", strlen(model->source),
             (unsigned char)model->source[strlen(model->source) - 1]);
    json_decref(text);
    bw_model_free(model);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(missing_tensors),
        TEST(extra_tensor),
        TEST(wrong_shapes),
        TEST(wrong_dtype),
        TEST(weights_that_are_no_numbers),
        TEST(metadata_is_checked),
        TEST(paths_are_named),
        TEST(what_is_loaded),
        TEST(positions_are_sines),
        TEST(long_metadata_stays_text),
    };
    return CHECK_RUN("model", tests);
}
