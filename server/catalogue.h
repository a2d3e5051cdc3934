/* Catalogue: the models in service.
 *
 * They come from one file, or from all *.safetensors files of a directory in the order of their
 * names; the first is the default. A decoder lies beside the models that name it and is none
 * itself; models that name the same share it. A rescan loads what is new or has changed while the
 * service runs and takes out what is gone, but changes nothing if that would leave no model. What
 * cannot be served is logged and skipped; a model whose file, or whose decoder's, has become one of
 * those stays as it was. Files are told apart by inode, size and time, and should be put in place
 * by renaming: one that is cut short while it is read takes the process down.
 *
 * Thread: the loop's; a worker uses what is in a bw_served while it holds a job that was retained.
 */
#ifndef BW_SERVER_CATALOGUE_H
#define BW_SERVER_CATALOGUE_H

#include "engine/denoiser.h"
#include "engine/price.h"
#include "server/config.h"
#include "server/loop.h"

enum { BW_MAX_MODELS = 64 };

/* A file as it was found. */
struct bw_model_file {
    char path[BW_PATH_CHARS];
    uint64_t device, inode;
    int64_t size_bytes, modified_ns;
};

struct bw_shared_decoder;

/* A model, ready to work. */
struct bw_served {
    struct bw_model *model;
    const struct bw_decoder *decoder; // NULL: the network draws RGB
    struct bw_price price;            // shared with the board: written under the scheduler's lock
    int64_t loaded_s;                 // seconds since 1970
    struct bw_model_file file;
    struct bw_shared_decoder *shared; // the catalogue's own: who has the decoder,
    int users;                        // and who retained the model
    bool retired;                     // not in service any more: freed by its last user
    int workers;
    struct bw_denoiser *denoisers[]; // [workers] each that worker's alone
};

struct bw_catalogue;

/* Load what config->model names, for config->workers workers; each model is timed for about
 * measure_ms. `config` must outlive it. A file: the errors of loading it, or BW_ERANGE if the
 * service cannot make its pictures; a directory: BW_EIO, BW_ENOTFOUND if nothing in it can be
 * served. BW_ENOMEM. */
int bw_catalogue_new(struct bw_catalogue **catalogue, const struct bw_config *config,
                     double measure_ms, struct bw_err *err);

/* NULL is allowed. No user is left, and the loop of a rescan is gone. */
void bw_catalogue_free(struct bw_catalogue *catalogue);

/* Look at the files again, beside the running service; what that changes is logged and in service
 * when a line "rescanned" is logged. During a rescan: once more after it. */
void bw_catalogue_rescan(struct bw_catalogue *catalogue, struct bw_loop *loop);

/* The models in service, at least 1, at most BW_MAX_MODELS; the one at 0 is the default. */
int bw_catalogue_count(const struct bw_catalogue *catalogue);
struct bw_served *bw_catalogue_at(const struct bw_catalogue *catalogue, int i);

/* The model of that name, "" for the default; NULL if none is in service. */
struct bw_served *bw_catalogue_find(const struct bw_catalogue *catalogue, const char *name);

/* A model stays what it is, in service or not, while it is retained. */
void bw_catalogue_retain(struct bw_served *served);
void bw_catalogue_release(struct bw_served *served);

#endif
