/* Denoiser: D(x; sigma), the network with its preconditioning, for several pictures in one call.
 *
 * Karras et al., arXiv 2206.00364, table 1 (EDM preconditioning); classifier-free guidance; masks,
 * tile-grid shifts and windows as in the reference. Float32. A picture's result depends on its own
 * arguments alone, bit for bit, whatever else is in the call and whatever the team.
 */
#ifndef BW_ENGINE_DENOISER_H
#define BW_ENGINE_DENOISER_H

#include "engine/model.h"
#include "engine/team.h"

/* One picture to denoise. Sizes must satisfy bw_arch_tiles(), the mask must not be empty. */
struct bw_eval {
    int width, height;
    const float *x;               // [channels, height, width] noisy picture
    double sigma;                 // > 0: its noise level
    int label;                    // class index, or -1: unconditional
    double guidance;              // 1, or label -1: one evaluation; otherwise two, combined
    uint8_t mask;                 // bit k: brick k runs
    int shifts[BW_MAX_BRICKS][2]; // tile-grid shift of each brick: rows, columns
    float *out;                   // [channels, height, width] the denoised estimate
    float *work;                  // [bw_eval_work_floats()], the caller's, contents undefined
    float *trace[BW_MAX_BRICKS];  // NULL, or [channels, height, width]: brick k's raw output
};

/* How often the network runs for it: 2 with guidance, else 1. */
int bw_eval_passes(const struct bw_eval *eval);

size_t bw_eval_work_floats(const struct bw_arch *arch, int width, int height);

struct bw_denoiser;

/* A denoiser of `threads` threads (the caller's included). The model must outlive it; several
 * denoisers may share one model. All scratch memory is allocated here. BW_ENOMEM, BW_EIO. */
int bw_denoiser_new(struct bw_denoiser **denoiser, const struct bw_model *model, int threads,
                    struct bw_err *err);

/* NULL is allowed. */
void bw_denoiser_free(struct bw_denoiser *denoiser);

/* Its threads, for other work between two calls. */
struct bw_team *bw_denoiser_team(struct bw_denoiser *denoiser);

/* Evaluate count >= 0 pictures. One thread at a time per denoiser. Cannot fail. */
void bw_denoise(struct bw_denoiser *denoiser, const struct bw_eval *evals, int count);

#endif
