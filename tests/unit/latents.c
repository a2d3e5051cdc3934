/* Models of latents: what their files say, sizes in pixels, and the decoder beside them. */
#include "tests/unit/latents.h"
#include "engine/companion.h"
#include "engine/plan.h"

#include <unistd.h>

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Read the metadata of such a network with these entries; NULL: there is no such entry. */
static int read_arch(struct bw_arch *arch, const char *channels, const char *decoder,
                     const char *digest, struct bw_err *err)
{
    const char *lego = strcmp(channels, "4") ? LATENTS_LEGO("three", "3") : LATENTS_LEGO("l", "4");
    return weights_arch_from(
        arch,
        json_pack("{s:s, s:s*, s:s*}", "lego", lego, "decoder", decoder, "decoder_sha256", digest),
        err);
}

static void what_names_a_decoder(void)
{
    static const struct {
        const char *channels, *decoder, *digest, *reason;
    } refused[] = {
        {"3", "d.safetensors", DIGEST, "4 channels"},
        {"3", NULL, DIGEST, "4 channels"},
        {"4", NULL, DIGEST, "\"decoder\": not the name"},
        {"4", "", DIGEST, "\"decoder\": not the name"},
        {"4", "..", DIGEST, "\"decoder\": not the name"},
        {"4", ".d", DIGEST, "\"decoder\": not the name"},
        {"4", "../d", DIGEST, "\"decoder\": not the name"},
        {"4", "/d", DIGEST, "\"decoder\": not the name"},
        {"4", DIGEST DIGEST, DIGEST, "\"decoder\": not the name"},
        {"4", "d", NULL, "\"decoder_sha256\": not 64"},
        {"4", "d", "", "\"decoder_sha256\": not 64"},
        {"4", "d", "123", "\"decoder_sha256\": not 64"},
        {"4", "d", DIGEST "0", "\"decoder_sha256\": not 64"},
        {"4", "d", "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
         "\"decoder_sha256\": not 64"},
    };
    struct bw_arch arch = {.hidden = 77};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct bw_err err = {0};
        CHECK_INT(
            read_arch(&arch, refused[i].channels, refused[i].decoder, refused[i].digest, &err),
            BW_ESYNTAX);
        CHECK_HOLDS(err.message, refused[i].reason);
        CHECK(arch.hidden == 77 && !arch.class_names);
    }
    REQUIRE(read_arch(&arch, "4", "d.safetensors", DIGEST, NULL) == BW_OK);
    CHECK_TEXT(arch.decoder, "d.safetensors");
    CHECK_TEXT(arch.decoder_digest, DIGEST);
    CHECK_INT(bw_arch_scale(&arch), 8);
    bw_arch_release(&arch);
    REQUIRE(read_arch(&arch, "4", NULL, NULL, NULL) == BW_OK);
    CHECK_INT(bw_arch_scale(&arch), 1);
    CHECK_TEXT(arch.decoder, "");
    bw_arch_release(&arch);
}

static void sizes_are_pixels(void)
{
    static const int good[][2] = {{64, 64}, {96, 64}, {128, 256}, {64, 1024}};
    static const int bad[][2] = {{8, 8}, {32, 64}, {72, 64}, {100, 96}, {64, 2048}, {65, 65}};
    struct bw_arch arch;
    REQUIRE(read_arch(&arch, "4", "d", DIGEST, NULL) == BW_OK);
    CHECK_INT(bw_arch_side_multiple(&arch), 32);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(!bw_arch_check_size(&arch, good[i][0], good[i][1], 1 << 16, NULL), "%dx%d",
                 good[i][0], good[i][1]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        int width = 0, height = 0;
        CHECK_INT(bw_arch_check_size(&arch, bad[i][0], bad[i][1], 1 << 16, &err), BW_ERANGE);
        CHECK_TEXT(err.field, "/size");
        CHECK_HOLDS(err.message, "sides are at least 64 and multiples of 32");
        const char *nearest = strstr(err.message, "nearest is ");
        REQUIRE(nearest && sscanf(nearest, "nearest is %dx%d", &width, &height) == 2);
        CHECK_OF(!bw_arch_check_size(&arch, width, height, 1 << 16, NULL), "%s", err.message);
    }
    bw_arch_release(&arch);
}

/* The network works on an eighth of what is asked for and told. */
static void plans_are_latents(void)
{
    struct bw_arch arch;
    struct bw_plan plan, again;
    struct bw_picture asked = bw_picture_default();
    REQUIRE(read_arch(&arch, "4", "d", DIGEST, NULL) == BW_OK);
    REQUIRE(bw_plan_make(&plan, &arch, &asked, 64 * 64, NULL) == BW_OK);
    CHECK(plan.width == 8 && plan.height == 8);
    asked.width = 128;
    asked.height = 96;
    CHECK_INT(bw_plan_make(&plan, &arch, &asked, 64 * 64, NULL), BW_ERANGE);
    REQUIRE(bw_plan_make(&plan, &arch, &asked, 128 * 96, NULL) == BW_OK);
    CHECK(plan.width == 16 && plan.height == 12);
    struct bw_picture told = bw_plan_picture(&plan, &arch);
    CHECK(told.width == 128 && told.height == 96);
    REQUIRE(bw_plan_make(&again, &arch, &told, 128 * 96, NULL) == BW_OK);
    CHECK(again.width == 16 && again.height == 12);
    bw_arch_release(&arch);
}

/* ---- files ---- */

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void begin_folder(void)
{
    strcpy(folder, "/tmp/brickwork-XXXXXX");
    if (!mkdtemp(folder))
        abort();
}

static void end_folder(void)
{
    unlink(path_of("m"));
    unlink(path_of("d"));
    if (rmdir(folder))
        abort();
}

static void put(const char *name, const struct bw_buf *bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    if (!file || fwrite(bytes->data, 1, bytes->length_bytes, file) != bytes->length_bytes ||
        fclose(file))
        abort();
}

static void where_a_decoder_lies(void)
{
    struct bw_arch arch = {.decoder = "d.safetensors"};
    struct bw_err err = {0};
    char path[BW_PATH_CHARS], long_path[BW_PATH_CHARS];
    CHECK_INT(bw_companion_path(path, "a/b/m.safetensors", &arch, NULL), BW_OK);
    CHECK_TEXT(path, "a/b/d.safetensors");
    CHECK_INT(bw_companion_path(path, "/m", &arch, NULL), BW_OK);
    CHECK_TEXT(path, "/d.safetensors");
    CHECK_INT(bw_companion_path(path, "m", &arch, NULL), BW_OK);
    CHECK_TEXT(path, "d.safetensors");
    memset(long_path, 'a', sizeof long_path);
    long_path[sizeof long_path - 1] = '\0';
    long_path[sizeof long_path - 10] = '/';
    CHECK_INT(bw_companion_path(path, long_path, &arch, &err), BW_ERANGE);
    CHECK_HOLDS(err.message, "too long");
    CHECK_TEXT(path, "d.safetensors");
}

static int load(struct bw_decoder **decoder, const struct bw_arch *arch, struct bw_err *err)
{
    char path[BW_PATH_CHARS], model[200];
    strcpy(model, path_of("m"));
    *err = (struct bw_err){0};
    int code = bw_companion_path(path, model, arch, err);
    return code ? code : bw_companion_load(decoder, path, arch, weights_kernels(), err);
}

static void the_decoder_that_was_named(void)
{
    struct bw_buf one = latents_decoder_file(1), other = latents_decoder_file(2);
    struct bw_buf bytes = latents_model_file(LATENTS_LEGO("l", "4"), "d", &one);
    struct bw_model *model;
    struct bw_decoder *decoder = NULL;
    struct bw_err err;
    begin_folder();
    put("m", &bytes);
    REQUIRE(bw_model_load(&model, path_of("m"), weights_kernels(), NULL) == BW_OK);
    CHECK_INT(load(&decoder, &model->arch, &err), BW_EIO); // it is not there
    CHECK_HOLDS(err.message, path_of("d"));
    CHECK(!bw_companion_is_decoder(path_of("d")));
    put("d", &other);
    CHECK_INT(load(&decoder, &model->arch, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, path_of("d"));
    CHECK_HOLDS(err.message, model->arch.decoder_digest);
    put("d", &bytes); // a model
    CHECK_INT(load(&decoder, &model->arch, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, path_of("d"));
    CHECK(!bw_companion_is_decoder(path_of("d")) && !decoder);
    put("d", &one);
    CHECK(bw_companion_is_decoder(path_of("d")));
    REQUIRE(load(&decoder, &model->arch, &err) == BW_OK);
    CHECK_TEXT(bw_decoder_digest(decoder), model->arch.decoder_digest);
    bw_decoder_free(decoder);
    bw_model_free(model);
    bw_buf_release(&one);
    bw_buf_release(&other);
    bw_buf_release(&bytes);
    end_folder();
}

static void what_can_be_encoded(void)
{
    struct bw_arch arch = {.channels = 3};
    struct bw_err err = {0}, other = {0};
    CHECK_INT(bw_companion_check(&arch, "m", NULL), BW_OK);
    arch.channels = 4;
    CHECK_INT(bw_companion_check(&arch, "m", &err), BW_ERANGE);
    CHECK_TEXT(err.message, "m: pictures of 4 channels need a decoder, and metadata \"decoder\" "
                            "names none");
    strcpy(arch.decoder, "d");
    CHECK_INT(bw_companion_check(&arch, "m", NULL), BW_OK);
    arch = (struct bw_arch){.channels = 1};
    CHECK_INT(bw_companion_check(&arch, "m", &other), BW_ERANGE);
    CHECK_TEXT(other.message, "m: pictures of 1 channels cannot be encoded");
}

/* ---- pictures ---- */

/* Draw a picture of 8x12 latents with so many threads; its bytes by way of the decoder, and, of the
 * estimate before the last step, those of a preview. */
static void draw(const struct bw_model *model, const struct bw_decoder *decoder, int threads,
                 unsigned char rgb[64 * 96 * 3], unsigned char preview[8 * 12 * 3])
{
    struct bw_plan plan = {.width = 8, .height = 12, .label = -1, .steps = 3, .guidance = 1};
    struct bw_denoiser *denoiser;
    struct bw_sampler sampler;
    struct bw_eval eval;
    memset(plan.masks, bw_arch_full_mask(&model->arch), sizeof plan.masks);
    if (bw_denoiser_new(&denoiser, model, threads, NULL) ||
        bw_sampler_init(&sampler, &model->arch, &plan, NULL, NULL))
        abort();
    while (bw_sampler_want(&sampler, &eval)) {
        bw_denoise(denoiser, &eval, 1);
        bw_sampler_take(&sampler);
    }
    bw_sampler_estimate(&sampler, preview);
    CHECK_INT(bw_companion_picture(decoder, bw_denoiser_team(denoiser), &sampler, rgb, NULL),
              BW_OK);
    const float *latent = bw_sampler_result(&sampler);
    for (int i = 0; i < 4 * 8 * 12; i++)
        CHECK(latent[i] == (float)sampler.x[i]);
    bw_sampler_release(&sampler);
    bw_denoiser_free(denoiser);
}

static void pictures_are_decoded(void)
{
    struct bw_model *model = weights_made(LATENTS_LEGO("l", "4"), NULL);
    struct bw_decoder *decoder = latents_decoder();
    static unsigned char one[64 * 96 * 3], two[64 * 96 * 3], preview[8 * 12 * 3], same[8 * 12 * 3];
    int different = 0;
    draw(model, decoder, 1, one, preview);
    draw(model, decoder, 3, two, same);
    CHECK(memcmp(one, two, sizeof one) == 0 && memcmp(preview, same, sizeof preview) == 0);
    for (size_t i = 1; i < sizeof one; i++)
        different += one[i] != one[i - 1];
    CHECK_OF(different > 1000, "%d", different);
    bw_decoder_free(decoder);
    bw_model_free(model);
}

/* What the published weights make of a latent that is all one channel. */
static void previews_are_weighted(void)
{
    struct bw_arch arch = {.channels = 4};
    float out[4] = {0, 0, 0, 1};
    struct bw_sampler sampler = {.arch = &arch, .plan = {.width = 1, .height = 1}, .out = out};
    unsigned char rgb[3];
    bw_sampler_estimate(&sampler, rgb);
    CHECK(rgb[0] == 104 && rgb[1] == 93 && rgb[2] == 67);
    out[3] = NAN;
    bw_sampler_estimate(&sampler, rgb);
    CHECK(rgb[0] == 0 && rgb[1] == 0 && rgb[2] == 0);
    arch.channels = 3;
    memcpy(out, (float[]){-1, 0, 1}, 3 * sizeof *out);
    bw_sampler_estimate(&sampler, rgb);
    CHECK(rgb[0] == 0 && rgb[1] == 128 && rgb[2] == 255);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(what_names_a_decoder),       TEST(sizes_are_pixels),     TEST(plans_are_latents),
        TEST(where_a_decoder_lies),       TEST(what_can_be_encoded),  TEST(pictures_are_decoded),
        TEST(the_decoder_that_was_named), TEST(previews_are_weighted)};
    return CHECK_RUN("latents", tests);
}
