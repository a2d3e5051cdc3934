/* Brick: one brick of the network over any number of pictures at once.
 *
 * Peebles & Xie, arXiv 2212.09748 (DiT block); Zheng et al., arXiv 2310.06389 (bricks). Each
 * picture's tokens are cut into row blocks by rules that look at that picture alone, and every
 * product is computed for one row block or one query block by one thread. So a picture's result has
 * the same bits whatever else is in the call and however large the team is.
 */
#ifndef BW_ENGINE_BRICK_H
#define BW_ENGINE_BRICK_H

#include "base/arena.h"
#include "engine/model.h"
#include "engine/team.h"
#include "engine/tiles.h"

/* Tokens that one task works on; a call with fewer of them than that for each thread leaves some
 * idle. */
enum { BW_BLOCK_TOKENS = 128 };

/* One evaluation of the network on its way through the bricks. */
struct bw_pass {
    uint8_t mask;
    struct bw_brick_input input; // what the brick reads
    struct bw_cover cover;       // how the brick at hand covers it
    float *output;               // [channels, height, width], not the memory of input
    const float *modulation;     // [modulation_width] of the model
};

struct bw_brick_scratch;

/* Plan the scratch memory of a team for a model: called once to measure, once to take. */
struct bw_brick_scratch *bw_brick_scratch_take(struct bw_arena *arena, const struct bw_model *model,
                                               int threads);

/* Run brick k of the model on every pass whose cover, input and output are set: output becomes the
 * brick's picture. `passes` holds pointers, all with bit k in their mask. Allocates nothing. */
void bw_brick_run(const struct bw_model *model, int k, struct bw_pass *const *passes, int count,
                  struct bw_team *team, struct bw_brick_scratch *scratch);

#endif
