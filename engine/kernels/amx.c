/* AMX: bfloat16 products of tiles, 16 rows by 16 columns by 32 inputs an instruction; the rest is
 * AVX-512. The panels that avx512.inc packs are what tiles want. Products whose inputs are no
 * multiple of 32 take the AVX-512 way, which depends on the layer alone, so a row's bits do not
 * depend on the rows beside it. */
#include "engine/kernels/bf16.inc"

enum { QUERIES = 32, HEAD_STEP = 32 };
#define HAS_TILES

#include "engine/kernels/avx512.inc"

enum { TILE_INPUTS = 32 };
#define SHARE   3
#define SUMS    1
#define WEIGHTS 1
#define PASSES  1
#define STRETCH 12

static int steps_of(const struct bw_product *p)
{
    return p->inputs / TILE_INPUTS;
}

static size_t stride_of(const struct bw_product *p)
{
    return (size_t)p->a_stride * sizeof(activation);
}

#include "engine/kernels/tiles.inc"

static inline __attribute__((always_inline)) void sum_block(enum way way, const struct block *b,
                                                            struct aside *aside)
{
    if (b->begun)
        EACH_SUM(_tile_loadd, b, 0);
    else
        ZERO_SUMS();
    MULTIPLY(_tile_dpbf16ps, b, 0, b->w, way, aside);
    finish_rest(&aside->p, &aside->waiting);
    EACH_SUM(_tile_stored, b, 0);
}

static void product(const struct bw_product *p)
{
    if (p->inputs % TILE_INPUTS || p->inputs == 0)
        product_by_rows(p, 0);
    else
        product_of_tiles(p);
}

static double spin(long rounds)
{
    configure(TILE_ROWS, TILE_ROWS);
    ZERO_SUMS();
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (long round = 0; round < rounds; round++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return (double)rounds * 4 * TILE_ROWS * 16 * TILE_INPUTS * 2;
}

#define KERNELS      bw_kernels_amx
#define NAME         "amx"
#define ENDS         bw_kernels_avx512
#define FINE         bw_fine_amx
#define FINE_IS_FREE false
#include "engine/kernels/table.inc"
