/* The commands are a table; what they share is below it. */
#include "base/text.h"
#include "base/version.h"
#include "cli/commands.h"
#include "engine/companion.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int count, char **arguments);
    const char *meaning;
} commands[] = {
    {"generate", bw_cmd_generate, "make pictures and write them to files"},
    {"info", bw_cmd_info, "say what a model file holds"},
    {"bench", bw_cmd_bench, "measure the machine's limits and how close the engine comes"},
    {"load", bw_cmd_offer_load,
     "send requests to a server at a given rate and measure its answers"},
    {"health", bw_cmd_health, "say whether a server is ready for requests"},
    {"denoise", bw_cmd_denoise, "replay a recorded case, for comparison with the reference"},
    {"decode", bw_cmd_decode, "make a picture of a latent one"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("brickwork " BW_VERSION ": image generation with LEGO-brick diffusion models\n\n"
           "usage: brickwork COMMAND [options]\n\nCommands:\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].meaning);
    printf("\n\"brickwork COMMAND --help\" tells a command's options; brickworkd is the server.\n");
}

int bw_cmd_all_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > 256 ? 256 : (int)cores;
}

int bw_cmd_threads(const char *text, int *threads, struct bw_err *err)
{
    int64_t count;
    if (!bw_text_to_int(text, 1, 256, &count))
        return bw_err_set(err, BW_ERANGE, "--threads: not an integer of 1..256");
    *threads = (int)count;
    return BW_OK;
}

int bw_cmd_precision(const char *text, enum bw_precision *precision, struct bw_err *err)
{
    if (!bw_kernels_precision(text, precision))
        return bw_err_set(err, BW_ERANGE, "--precision: \"%s\" is not auto, bf16 or f32", text);
    return BW_OK;
}

int bw_cmd_load(struct bw_model **model, const char *path, enum bw_precision precision,
                struct bw_err *err)
{
    const struct bw_kernels *kernels;
    int code = bw_kernels_choose(precision, &kernels, err);
    return code ? code : bw_model_load(model, path, kernels, err);
}

int bw_cmd_load_decoder(struct bw_decoder **decoder, const struct bw_model *model, const char *path,
                        struct bw_err *err)
{
    char beside[BW_PATH_CHARS];
    *decoder = NULL;
    if (!*model->arch.decoder)
        return BW_OK;
    int code = bw_companion_path(beside, path, &model->arch, err);
    return code ? code : bw_companion_load(decoder, beside, &model->arch, model->kernels, err);
}

int bw_cmd_write(const char *path, const struct bw_buf *bytes, struct bw_err *err)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(bytes->data, 1, bytes->length_bytes, file) == bytes->length_bytes;
    if (file && fclose(file))
        ok = false;
    return ok ? BW_OK : bw_err_set(err, BW_EIO, "%s: cannot be written: %s", path, strerror(errno));
}

int bw_cmd_failed(const struct bw_err *err)
{
    const char *field = *err->field ? err->field + 1 : "";
    fprintf(stderr, "brickwork: %s%s%s\n", field, *field ? ": " : "", err->message);
    return err->code == BW_ERANGE || err->code == BW_ENOTFOUND ? BW_EXIT_USAGE : BW_EXIT_FAILED;
}

static int run(int count, char **arguments)
{
    if (count > 1 && (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "help") == 0)) {
        print_help();
        return BW_EXIT_OK;
    }
    if (count > 1 && strcmp(arguments[1], "--version") == 0) {
        printf("brickwork " BW_VERSION "\n");
        return BW_EXIT_OK;
    }
    for (int i = 0; count > 1 && i < COMMAND_COUNT; i++) {
        if (strcmp(arguments[1], commands[i].name) == 0)
            return commands[i].run(count - 2, arguments + 2);
    }
    if (count > 1)
        fprintf(stderr, "brickwork: there is no command \"%s\"; see brickwork --help\n",
                arguments[1]);
    else
        fprintf(stderr, "brickwork: a command is missing; see brickwork --help\n");
    return BW_EXIT_USAGE;
}

/* What was printed has to arrive: a full disk is a failure too. */
int main(int count, char **arguments)
{
    int status = run(count, arguments);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "brickwork: standard output: %s\n", strerror(errno));
    return BW_EXIT_FAILED;
}
