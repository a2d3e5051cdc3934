/* Price: what evaluations of the network cost on this machine, in milliseconds, and of a model of
 * latents what decoding a picture costs.
 *
 * Measured once per brick when the service starts, then corrected by every call that runs: for each
 * mask and amount of work the ratio of actual to expected time is kept, smoothed. Likewise the
 * decoder, for each amount of work. Plain data; one thread at a time.
 */
#ifndef BW_ENGINE_PRICE_H
#define BW_ENGINE_PRICE_H

#include "engine/arch.h"
#include "engine/decoder.h"
#include "engine/denoiser.h"

enum { BW_PRICE_POINTS = 3, BW_PRICE_SIZES = 24, BW_DECODE_SIZES = 40 };

/* What one call of the network does: the work of all pictures in it, brick by brick. */
struct bw_work {
    double gigaflops[BW_MAX_BRICKS];
    int tokens[BW_MAX_BRICKS];
    uint8_t mask; // bricks that any picture runs
    bool mixed;   // pictures with different masks
};

struct bw_price {
    const struct bw_arch *arch;
    struct bw_price_line {
        int count;
        double gigaflops[BW_PRICE_POINTS]; // rising
        double ms[BW_PRICE_POINTS];
    } lines[BW_MAX_BRICKS];
    float ratio[BW_MAX_MASKS][BW_PRICE_SIZES]; // actual / expected; 0: not seen yet
    double overall;                            // the same over all calls
    struct bw_decode_price {
        const struct bw_decoder *decoder; // NULL: the network draws pixels
        double ms_per_gigaflop;
        float ratio[BW_DECODE_SIZES];
        double overall;
    } decode;
};

/* Add a picture's evaluation, run `passes` times (bw_eval_passes()). */
void bw_work_add(struct bw_work *work, const struct bw_arch *arch, int width, int height,
                 uint8_t mask, int passes);
double bw_work_gigaflops(const struct bw_work *work);

/* Has every brick that runs at least so many tokens to work on? */
bool bw_work_reaches(const struct bw_work *work, int tokens);

/* Time every brick on an idle denoiser at up to three sizes, again and again while the next round
 * fits into budget_ms, at least once; if already one call takes several times that, once and at one
 * size. `arch` must outlive the price. BW_ENOMEM. */
int bw_price_measure(struct bw_price *price, const struct bw_arch *arch,
                     struct bw_denoiser *denoiser, double budget_ms, struct bw_err *err);

/* Time the decoder as well, which must outlive the price: on pictures from small ones up to the
 * model's own, as large as fit into budget_ms. BW_ENOMEM. */
int bw_price_measure_decoder(struct bw_price *price, const struct bw_decoder *decoder,
                             struct bw_team *team, double budget_ms, struct bw_err *err);

/* How long a call will take. */
double bw_price_ms(const struct bw_price *price, const struct bw_work *work);

/* A call took so long. */
void bw_price_learn(struct bw_price *price, const struct bw_work *work, double actual_ms);

/* The decoder's work on a latent picture of that size; 0 where the network draws pixels. */
double bw_price_decode_gigaflops(const struct bw_price *price, int width, int height);

/* How long the decoder will take for it, and how long it took. */
double bw_price_decode_ms(const struct bw_price *price, int width, int height);
void bw_price_learn_decode(struct bw_price *price, int width, int height, double actual_ms);

#endif
