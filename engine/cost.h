/* Cost: floating-point operations, counted from the architecture alone. Any thread. */
#ifndef BW_ENGINE_COST_H
#define BW_ENGINE_COST_H

#include "engine/arch.h"

#include <stdint.h>

/* Multiplications and additions of the matrix products of one evaluation of the network (adaLN
 * included, element-wise work not), without guidance. The size must satisfy bw_arch_tiles(). */
double bw_cost_brick_flops(const struct bw_arch *arch, int brick, int width, int height);

/* The same of all bricks of a mask. */
double bw_cost_flops(const struct bw_arch *arch, int width, int height, uint8_t mask);

#endif
