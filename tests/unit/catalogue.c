/* Folders of model files, and what of them is in service. */
#include "server/catalogue.h"

#include "base/log.h"
#include "tests/unit/check.h"
#include "tests/unit/latents.h"
#include "tests/unit/weights.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct bw_config config;
static struct bw_catalogue *catalogue;

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t count)
{
    char path[200];
    snprintf(path, sizeof path, "%s", path_of(name));
    FILE *file = fopen(path_of("new"), "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) ||
        rename(path_of("new"), path))
        abort();
}

/* Put a copy of a model there, as an operator should. */
static void put(const char *name, const char *from)
{
    struct bw_buf bytes = {0};
    if (bw_buf_add_file(&bytes, from, NULL))
        abort();
    write_file(name, bytes.data, bytes.length_bytes);
    bw_buf_release(&bytes);
}

static void begin_folder(void)
{
    strcpy(folder, "/tmp/brickwork-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    config = bw_config_default();
    config.threads = config.workers = 2;
    snprintf(config.model, sizeof config.model, "%s", folder);
    catalogue = NULL;
}

static void end_folder(void)
{
    static const char *const names[] = {"a.safetensors", "b.safetensors", "c.safetensors",
                                        "d.safetensors", ".safetensors",  ".e.safetensors",
                                        "f.safetensor"};
    bw_catalogue_free(catalogue);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    if (rmdir(folder))
        abort();
}

static int begin_catalogue(struct bw_err *err)
{
    return bw_catalogue_new(&catalogue, &config, 1, err);
}

/* Freeing a loop waits for what runs beside it. */
static void rescan(void)
{
    struct bw_loop *loop;
    if (bw_loop_new(&loop, NULL))
        abort();
    bw_catalogue_rescan(catalogue, loop);
    bw_loop_free(loop);
}

/* The names in service, in order. */
static const char *in_service(void)
{
    static char names[BW_MAX_MODELS * BW_NAME_CHARS];
    *names = '\0';
    for (int i = 0; i < bw_catalogue_count(catalogue); i++) {
        strcat(names, i ? " " : "");
        strcat(names, bw_catalogue_at(catalogue, i)->model->arch.name);
    }
    return names;
}

static void a_single_file(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("a.safetensors", TINY_PR);
    put("b.safetensors", TINY_PG);
    strcpy(config.model, path_of("a.safetensors"));
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "tiny-pr-32");
    put("a.safetensors", TINY_U);
    rescan();
    CHECK_TEXT(in_service(), "tiny-u-32");
    unlink(path_of("a.safetensors"));
    rescan();
    CHECK_TEXT(in_service(), "tiny-u-32");
    end_folder();
}

static void a_folder_in_order(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("b.safetensors", TINY_PG);
    put("c.safetensors", TINY_U);
    put("a.safetensors", TINY_PR);
    put("f.safetensor", TINY_PR); // none of ours
    put(".e.safetensors", TINY_PR);
    put(".safetensors", TINY_PR);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-pg-32 tiny-u-32");
    CHECK(bw_catalogue_find(catalogue, "") == bw_catalogue_at(catalogue, 0));
    CHECK(bw_catalogue_find(catalogue, "tiny-u-32") == bw_catalogue_at(catalogue, 2));
    CHECK(!bw_catalogue_find(catalogue, "tiny"));
    for (int i = 0; i < 3; i++) {
        const struct bw_served *served = bw_catalogue_at(catalogue, i);
        CHECK(served->denoisers[0] && served->denoisers[1] != served->denoisers[0]);
        CHECK(served->price.arch == &served->model->arch && served->price.lines[0].count > 0);
        CHECK(served->loaded_s > 1000000000 && !served->users && !served->retired);
    }
    end_folder();
}

static void what_cannot_start(void)
{
    struct bw_err err = {0};
    begin_folder();
    CHECK_INT(begin_catalogue(&err), BW_ENOTFOUND); // nothing there
    CHECK(strstr(err.message, folder) != NULL);
    write_file("a.safetensors", "not a model", 11);
    err = (struct bw_err){0};
    CHECK_INT(begin_catalogue(&err), BW_ENOTFOUND);
    strcpy(config.model, path_of("a.safetensors"));
    err = (struct bw_err){0};
    CHECK_INT(begin_catalogue(&err), BW_ESYNTAX);
    CHECK(strstr(err.message, "a.safetensors") != NULL);
    strcpy(config.model, path_of("b.safetensors"));
    err = (struct bw_err){0};
    CHECK_INT(begin_catalogue(&err), BW_EIO);
    put("b.safetensors", TINY_PG);
    config.max_area = 32 * 32 - 1;
    err = (struct bw_err){0};
    CHECK_INT(begin_catalogue(&err), BW_ERANGE);
    config.max_area++;
    CHECK_INT(begin_catalogue(&err), BW_OK);
    end_folder();
}

static void what_is_broken_is_skipped(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("b.safetensors", TINY_PG);
    put("c.safetensors", POMOLOGY); // too large for this service
    write_file("a.safetensors", "not a model", 11);
    REQUIRE(symlink("/nowhere", path_of("d.safetensors")) == 0);
    config.max_area = 64 * 64;
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "tiny-pg-32");
    put("a.safetensors", TINY_U); // repaired
    rescan();
    CHECK_TEXT(in_service(), "tiny-u-32 tiny-pg-32");
    end_folder();
}

/* What has not changed is not loaded again; what has retires, and lives while it is used. */
static void files_come_change_and_go(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("b.safetensors", TINY_PG);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    struct bw_served *first = bw_catalogue_at(catalogue, 0);
    put("a.safetensors", TINY_PR);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-pg-32");
    CHECK(bw_catalogue_at(catalogue, 1) == first);
    bw_catalogue_retain(first);
    put("b.safetensors", TINY_U);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-u-32");
    CHECK(first->retired && strcmp(first->model->arch.name, "tiny-pg-32") == 0);
    put("b.safetensors", TINY_U); // the same content: another file all the same
    struct bw_served *second = bw_catalogue_at(catalogue, 1);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-u-32");
    CHECK(bw_catalogue_at(catalogue, 1) != second);
    unlink(path_of("a.safetensors"));
    rescan();
    CHECK_TEXT(in_service(), "tiny-u-32");
    bw_catalogue_release(first); // the last user frees it
    end_folder();
}

static void a_broken_successor(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("a.safetensors", TINY_PG);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    const struct bw_served *served = bw_catalogue_at(catalogue, 0);
    write_file("a.safetensors", "not a model", 11);
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) == served);
    put("a.safetensors", TINY_PR);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32");
    end_folder();
}

static void never_without_a_model(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("a.safetensors", TINY_PG);
    put("b.safetensors", TINY_PR);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    unlink(path_of("a.safetensors"));
    unlink(path_of("b.safetensors"));
    rescan();
    CHECK_TEXT(in_service(), "tiny-pg-32 tiny-pr-32");
    strcat(config.model, "/gone");
    rescan();
    CHECK_TEXT(in_service(), "tiny-pg-32 tiny-pr-32");
    strcpy(config.model, folder);
    put("c.safetensors", TINY_U);
    rescan();
    CHECK_TEXT(in_service(), "tiny-u-32");
    end_folder();
}

/* Who has a name keeps it. */
static void names_are_unique(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("b.safetensors", TINY_PG);
    put("c.safetensors", TINY_PG);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "tiny-pg-32");
    const struct bw_served *served = bw_catalogue_at(catalogue, 0);
    CHECK(strstr(served->file.path, "b.safetensors") != NULL);
    put("a.safetensors", TINY_PG);
    rescan();
    CHECK(bw_catalogue_count(catalogue) == 1 && bw_catalogue_at(catalogue, 0) == served);
    unlink(path_of("b.safetensors")); // now it is free, and a comes first
    rescan();
    CHECK_INT(bw_catalogue_count(catalogue), 1);
    CHECK(strstr(bw_catalogue_at(catalogue, 0)->file.path, "a.safetensors") != NULL);
    end_folder();
}

/* Names change hands in one go, unless whoever should give one up keeps it. */
static void names_change_hands(void)
{
    struct bw_err err = {0};
    begin_folder();
    put("a.safetensors", TINY_PG);
    put("b.safetensors", TINY_PR);
    put("c.safetensors", TINY_U);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    put("a.safetensors", TINY_PR);
    put("b.safetensors", TINY_PG);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-pg-32 tiny-u-32");
    put("a.safetensors", TINY_PG); // b's name, b should take c's, and c is broken
    put("b.safetensors", TINY_U);
    write_file("c.safetensors", "not a model", 11);
    rescan();
    CHECK_TEXT(in_service(), "tiny-pr-32 tiny-pg-32 tiny-u-32");
    end_folder();
}

/* Asked for twice while one runs: one more follows, and sees what came meanwhile. */
static void rescans_queue_up(void)
{
    struct bw_err err = {0};
    struct bw_loop *loop;
    begin_folder();
    put("a.safetensors", TINY_PG);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    REQUIRE(bw_loop_new(&loop, NULL) == BW_OK);
    bw_catalogue_rescan(catalogue, loop);
    put("b.safetensors", TINY_PR); // seen by the first or by the second
    bw_catalogue_rescan(catalogue, loop);
    bw_catalogue_rescan(catalogue, loop);
    bw_loop_free(loop);
    CHECK_TEXT(in_service(), "tiny-pg-32 tiny-pr-32");
    unlink(path_of("b.safetensors"));
    rescan();
    CHECK_TEXT(in_service(), "tiny-pg-32");
    end_folder();
}

static void too_many(void)
{
    struct bw_err err = {0};
    char path[200];
    begin_folder();
    put("a.safetensors", TINY_PG);
    for (int i = 0; i < BW_MAX_MODELS; i++) { // dead ends count only if they can be looked at
        snprintf(path, sizeof path, "%s/b%02d.safetensors", folder, i);
        REQUIRE(mkdir(path, 0700) == 0);
    }
    put("c.safetensors", TINY_PR);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "tiny-pg-32"); // c came too late
    for (int i = 0; i < BW_MAX_MODELS; i++) {
        snprintf(path, sizeof path, "%s/b%02d.safetensors", folder, i);
        rmdir(path);
    }
    rescan();
    CHECK_TEXT(in_service(), "tiny-pg-32 tiny-pr-32");
    end_folder();
}

/* ---- decoders ---- */

/* A decoder and models that name it. */
static void put_decoder(const char *name, uint64_t seed)
{
    struct bw_buf file = latents_decoder_file(seed);
    write_file(name, file.data, file.length_bytes);
    bw_buf_release(&file);
}

static void put_latent(const char *name, bool second, const char *decoder, uint64_t seed)
{
    struct bw_buf file = latents_decoder_file(seed);
    struct bw_buf model = latents_model_file(
        second ? LATENTS_LEGO("second", "4") : LATENTS_LEGO("first", "4"), decoder, &file);
    write_file(name, model.data, model.length_bytes);
    bw_buf_release(&model);
    bw_buf_release(&file);
}

/* It lies among the models, is none, and those that name it have one between them. */
static void a_decoder_is_shared(void)
{
    struct bw_err err = {0};
    begin_folder();
    put_decoder("a.safetensors", 1);
    put_latent("b.safetensors", false, "a.safetensors", 1);
    put_latent("c.safetensors", true, "a.safetensors", 1);
    put("d.safetensors", TINY_PG);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    CHECK_TEXT(in_service(), "first second tiny-pg-32");
    struct bw_served *first = bw_catalogue_at(catalogue, 0),
                     *second = bw_catalogue_at(catalogue, 1);
    CHECK(first->decoder && first->decoder == second->decoder);
    CHECK(first->price.decode.decoder == first->decoder && !bw_catalogue_at(catalogue, 2)->decoder);
    bw_catalogue_retain(first);
    put_latent("b.safetensors", false, "a.safetensors", 1); // again: shared with what is in service
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) != first && bw_catalogue_at(catalogue, 1) == second);
    CHECK(bw_catalogue_at(catalogue, 0)->decoder == second->decoder);
    unlink(path_of("b.safetensors"));
    unlink(path_of("c.safetensors"));
    rescan();
    CHECK_TEXT(in_service(), "tiny-pg-32");
    CHECK_INT((int)strlen(bw_decoder_digest(first->decoder)), 64); // its last user has it yet
    bw_catalogue_release(first);
    end_folder();
}

static void decoders_come_change_and_go(void)
{
    struct bw_err err = {0};
    begin_folder();
    put_decoder("a.safetensors", 1);
    put_latent("b.safetensors", false, "a.safetensors", 1);
    REQUIRE(begin_catalogue(&err) == BW_OK);
    const struct bw_served *served = bw_catalogue_at(catalogue, 0);
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) == served);
    put_decoder("a.safetensors", 2); // not the one that the model names: all stays as it was
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) == served);
    unlink(path_of("a.safetensors"));
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) == served);
    put_decoder("a.safetensors", 2);
    put_latent("b.safetensors", false, "a.safetensors", 2);
    char digest[BW_DIGEST_CHARS];
    strcpy(digest, bw_decoder_digest(served->decoder));
    rescan();
    served = bw_catalogue_at(catalogue, 0);
    CHECK(strcmp(bw_decoder_digest(served->decoder), digest) != 0);
    put_decoder("a.safetensors", 2); // the same content, another file
    rescan();
    CHECK(bw_catalogue_at(catalogue, 0) != served);
    end_folder();
}

static void latents_that_cannot_start(void)
{
    static const struct {
        const char *model, *reason;
    } starts[] = {{"b.safetensors", "c.safetensors: tensor \"decoder.conv_in.weight\" is missing"},
                  {"c.safetensors", "c.safetensors: pictures of 4 channels need a decoder"},
                  {"d.safetensors", "d.safetensors: metadata \"lego\" is missing"}};
    struct bw_buf none = weights_made_file(LATENTS_LEGO("none", "4"), json_object());
    struct bw_err err = {0};
    begin_folder();
    put_latent("b.safetensors", false, "c.safetensors", 1); // which is no decoder
    write_file("c.safetensors", none.data, none.length_bytes);
    put_decoder("d.safetensors", 1);
    CHECK_INT(begin_catalogue(&err), BW_ENOTFOUND);
    for (int i = 0; i < 3; i++) {
        strcpy(config.model, path_of(starts[i].model));
        err = (struct bw_err){0};
        CHECK(begin_catalogue(&err) != BW_OK);
        CHECK_HOLDS(err.message, starts[i].reason);
    }
    put_decoder("c.safetensors", 1);
    strcpy(config.model, path_of("b.safetensors"));
    config.max_area = 64 * 64 - 1; // pixels, not latents
    err = (struct bw_err){0};
    CHECK_INT(begin_catalogue(&err), BW_ERANGE);
    CHECK_HOLDS(err.message, "64x64 pixels");
    config.max_area++;
    CHECK_INT(begin_catalogue(&err), BW_OK);
    bw_buf_release(&none);
    end_folder();
}

int main(void)
{
    static const struct check_test tests[] = {TEST(a_single_file),
                                              TEST(a_folder_in_order),
                                              TEST(what_cannot_start),
                                              TEST(what_is_broken_is_skipped),
                                              TEST(files_come_change_and_go),
                                              TEST(a_broken_successor),
                                              TEST(never_without_a_model),
                                              TEST(names_are_unique),
                                              TEST(names_change_hands),
                                              TEST(rescans_queue_up),
                                              TEST(too_many),
                                              TEST(a_decoder_is_shared),
                                              TEST(decoders_come_change_and_go),
                                              TEST(latents_that_cannot_start)};
    bw_log_setup(BW_LOG_OFF, BW_LOG_LOGFMT);
    return CHECK_RUN("catalogue", tests);
}
