/* Sampler: one picture's way from noise to image, as a state machine.
 *
 * It says which evaluation of the denoiser it wants next and takes the result, so whoever drives it
 * may put evaluations of many pictures into one call, in any order and at any pace:
 *
 *     while (bw_sampler_want(&sampler, &eval)) {
 *         bw_denoise(denoiser, &eval, 1);       // writes eval.out
 *         bw_sampler_take(&sampler);
 *     }
 *
 * Solvers: Euler and Heun (Karras et al., arXiv 2206.00364), DPM-Solver++(2M) (Lu et al., arXiv
 * 2211.01095). State is kept in double precision. Thread: one owner at a time.
 */
#ifndef BW_ENGINE_SAMPLER_H
#define BW_ENGINE_SAMPLER_H

#include "base/arena.h"
#include "engine/denoiser.h"
#include "engine/plan.h"

struct bw_sampler {
    const struct bw_arch *arch;
    struct bw_plan plan;
    int step;     // steps done
    bool correct; // Heun: the second evaluation of this step is wanted
    double *x;    // [channels, height, width] the picture at noise level bw_sigma(step)
    double *next; // Heun: the predicted picture; otherwise unused
    double *old;  // 2M: the previous step's estimate
    float *input; // x or next as the network reads it
    float *out;   // what the network answered
    float *work;  // the denoiser's
    struct bw_arena memory;
};

/* Begin a picture from the noise of its plan, or from `noise` [channels, height, width] if not
 * NULL. `arch` must outlive the sampler. BW_ENOMEM. On success the caller releases the sampler. */
int bw_sampler_init(struct bw_sampler *sampler, const struct bw_arch *arch,
                    const struct bw_plan *plan, const float *noise, struct bw_err *err);

void bw_sampler_release(struct bw_sampler *sampler);

/* The next evaluation wanted; false when the picture is done. Its pointers belong to the sampler
 * and stay valid until bw_sampler_take() or release. Traces are NULL. */
bool bw_sampler_want(struct bw_sampler *sampler, struct bw_eval *eval);

/* Go on from the answer that was written to eval.out. */
void bw_sampler_take(struct bw_sampler *sampler);

/* Steps done and not; a step counts when its last evaluation is taken. */
int bw_sampler_steps_done(const struct bw_sampler *sampler);

/* What the network last took the finished picture to be, as rgb[height, width, 3], for a model of 3
 * or 4 channels. Latents are weighted: a linear map that comes near Stable Diffusion's
 * decoder, it shows colours and composition. After the first evaluation. */
void bw_sampler_estimate(const struct bw_sampler *sampler, unsigned char *rgb);

/* The picture as it stands, as bytes: rgb[height, width, channels], floor(clamp(127.5 x + 128)).
 * When done this is the result. */
void bw_sampler_bytes(const struct bw_sampler *sampler, unsigned char *rgb);

/* What was drawn, when done: [channels, height, width], the sampler's. */
const float *bw_sampler_result(const struct bw_sampler *sampler);

#endif
