/* Only matrix products are counted: everything else is proportional to the number of tokens and
 * small. */
#include "engine/cost.h"

#include "engine/tiles.h"

double bw_cost_brick_flops(const struct bw_arch *arch, int k, int width, int height)
{
    static const int unshifted[2] = {0, 0};
    const struct bw_brick_shape *b = &arch->bricks[k];
    struct bw_cover cover = bw_cover_make(arch, k, width, height, unshifted);
    double tokens = (double)cover.tile_count * cover.tile_tokens, d = arch->hidden;
    double pixels = (double)b->patch * b->patch;
    double inputs = arch->channels * (k ? 2 : 1) + 2;
    double layers = (4 + 2 * arch->mlp_ratio) * d * d; // qkv, projection, MLP
    double attention = 2 * (double)cover.tile_tokens * d;
    double ends = (inputs + arch->channels) * pixels * d;
    double modulation = (6 * b->depth + 2) * d * d;
    return 2 * (tokens * (b->depth * (layers + attention) + ends) + modulation);
}

double bw_cost_flops(const struct bw_arch *arch, int width, int height, uint8_t mask)
{
    double sum = 0;
    for (int k = 0; k < arch->brick_count; k++)
        sum += mask >> k & 1 ? bw_cost_brick_flops(arch, k, width, height) : 0;
    return sum;
}
