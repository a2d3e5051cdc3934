/* Commands of the program `brickwork`. Each gets the arguments after its name and returns the exit
 * status: 0 done, 1 it failed, 2 it was called wrongly. Errors go to standard error, one line. */
#ifndef BW_CLI_COMMANDS_H
#define BW_CLI_COMMANDS_H

#include "base/buf.h"
#include "base/err.h"
#include "engine/decoder.h"
#include "engine/model.h"

enum { BW_EXIT_OK = 0, BW_EXIT_FAILED = 1, BW_EXIT_USAGE = 2 };

int bw_cmd_generate(int count, char **arguments);
int bw_cmd_info(int count, char **arguments);
int bw_cmd_bench(int count, char **arguments);
int bw_cmd_denoise(int count, char **arguments);
int bw_cmd_decode(int count, char **arguments);
int bw_cmd_offer_load(int count, char **arguments);
int bw_cmd_health(int count, char **arguments);

/* Threads to compute with: what the machine has, or what an option asks for (BW_ERANGE). */
int bw_cmd_all_cores(void);
int bw_cmd_threads(const char *text, int *threads, struct bw_err *err);

/* The text of --precision: auto, bf16 or f32 (BW_ERANGE). */
int bw_cmd_precision(const char *text, enum bw_precision *precision, struct bw_err *err);

/* Choose the kernels and load a model for them. Errors as those of the two. */
int bw_cmd_load(struct bw_model **model, const char *path, enum bw_precision precision,
                struct bw_err *err);

/* The decoder that the model of that file names, for its kernels; NULL if it names none. Errors as
 * those of bw_companion_path() and bw_companion_load(). */
int bw_cmd_load_decoder(struct bw_decoder **decoder, const struct bw_model *model, const char *path,
                        struct bw_err *err);

/* Write a file, whole or with BW_EIO. */
int bw_cmd_write(const char *path, const struct bw_buf *bytes, struct bw_err *err);

/* Print the error and turn it into an exit status: values the user chose are usage, the rest
 * failure. */
int bw_cmd_failed(const struct bw_err *err);

#endif
