/* AMX: bfloat16 products of whole tiles, 16 rows by 16 columns by 32 inputs an instruction; the
 * rest is AVX-512.
 *
 * The panels that avx512.inc packs are what a tile register wants: 16 pairs of inputs by 16
 * columns. Two by two tiles of sums use all of a load of weights twice. Products whose inputs are
 * no multiple of 32 take the AVX-512 way, which depends on the layer alone, so a row's bits do not
 * depend on the rows beside it. */
#include "engine/kernels/bf16.inc"

enum { QUERIES = 32, HEAD_STEP = 32 };
#define HAS_TILES

#include "engine/kernels/avx512.inc"

enum { TILE_ROWS = 16, TILE_INPUTS = 32, BLOCK = 2 * TILE_ROWS, AHEAD_LINES = 8 };

/* Intel SDM, volume 1, chapter 18: the memory image of the tile configuration. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* GCC 12 does not know that tile instructions read memory: it could keep back what was written
 * before. */
static inline void settle_memory(void)
{
    __asm__ volatile("" : : : "memory");
}

/* Tiles 0..3 are sums, 4 and 5 rows of activations (upper, lower), 6 and 7 weights (left, right).
 */
static void configure(int upper, int lower)
{
    struct tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = TILE_ROWS;
    }
    c.rows[0] = c.rows[1] = c.rows[4] = (uint8_t)upper;
    c.rows[2] = c.rows[3] = c.rows[5] = (uint8_t)(lower ? lower : 1);
    __asm__ volatile("" : : "r"(&c) : "memory"); // all of c, not the 8 bytes GCC 12 believes
    _tile_loadconfig(&c);
}

/* Sums of a block of up to 32 rows and one panel that wait for finish(). */
struct waiting {
    int row, rows, column;
    const float *sums; // [rows, COLUMNS]
};

/* Finish so many of the rows. Between tile instructions this is for free: it needs what they leave
 * idle. */
static inline void finish_some(const struct bw_product *p, struct waiting *waiting, int rows)
{
    rows = smaller(rows, waiting->rows);
    finish(p, waiting->sums, waiting->row, rows, waiting->column);
    finish(p, waiting->sums + 16, waiting->row, rows, waiting->column + 16);
    waiting->sums += rows * COLUMNS;
    waiting->row += rows;
    waiting->rows -= rows;
}

/* sums[32, 32] of up to 32 rows and one panel. Each step also fetches a part of what comes next,
 * `ahead`, and finishes some rows of the block before. */
static void sum_both(const struct bw_product *p, const uint16_t *a, const uint16_t *w,
                     const uint16_t *ahead, float *sums, struct waiting *waiting)
{
    size_t stride_bytes = (size_t)p->a_stride * sizeof *a;
    const uint16_t *lower = a + TILE_ROWS * (size_t)p->a_stride;
    int steps = p->inputs / TILE_INPUTS, share = (waiting->rows + steps - 1) / steps;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int i = 0; i < p->inputs; i += TILE_INPUTS, w += TILE_INPUTS * COLUMNS) {
        for (int line = 0; line < AHEAD_LINES; line++)
            _mm_prefetch((const char *)ahead + line * 64, _MM_HINT_T1);
        ahead += TILE_INPUTS * COLUMNS;
        _tile_loadd(6, w, COLUMNS * PAIR * sizeof *w);
        _tile_loadd(7, w + 16 * PAIR, COLUMNS * PAIR * sizeof *w);
        _tile_loadd(4, a + i, stride_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + i, stride_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        if (waiting->rows)
            finish_some(p, waiting, share);
    }
    _tile_stored(0, sums, COLUMNS * sizeof *sums);
    _tile_stored(1, sums + 16, COLUMNS * sizeof *sums);
    _tile_stored(2, sums + TILE_ROWS * COLUMNS, COLUMNS * sizeof *sums);
    _tile_stored(3, sums + TILE_ROWS * COLUMNS + 16, COLUMNS * sizeof *sums);
}

static void sum_upper(const struct bw_product *p, const uint16_t *a, const uint16_t *w, float *sums)
{
    _tile_zero(0);
    _tile_zero(1);
    for (int i = 0; i < p->inputs; i += TILE_INPUTS, w += TILE_INPUTS * COLUMNS) {
        _tile_loadd(6, w, COLUMNS * PAIR * sizeof *w);
        _tile_loadd(7, w + 16 * PAIR, COLUMNS * PAIR * sizeof *w);
        _tile_loadd(4, a + i, (size_t)p->a_stride * sizeof *a);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, sums, COLUMNS * sizeof *sums);
    _tile_stored(1, sums + 16, COLUMNS * sizeof *sums);
}

/* Rows first..last - 1, `block` at a time, against every panel: a panel stays in the cache for all
 * of them, and each of four blocks fetches a quarter of the next panel. */
static void product_rows(const struct bw_product *p, int first, int last, int block)
{
    float sums[2][BLOCK * COLUMNS] __attribute__((aligned(64))); // in turn
    struct waiting waiting = {0};
    size_t panel = packed_elements(COLUMNS, p->inputs);
    const activation *w = p->w;
    int turn = 0;
    for (int column = 0; column < p->outputs; column += COLUMNS, w += panel) {
        const activation *ahead = w + panel;
        for (int row = first; row < last; row += block, turn = !turn) {
            const activation *a = (const activation *)p->a + (size_t)row * (size_t)p->a_stride;
            if (block > TILE_ROWS)
                sum_both(p, a, w, ahead, sums[turn], &waiting);
            else
                sum_upper(p, a, w, sums[turn]);
            settle_memory();
            finish_some(p, &waiting, waiting.rows);
            waiting = (struct waiting){row, block, column, sums[turn]};
            ahead += AHEAD_LINES * 64 / sizeof *ahead;
        }
    }
    finish_some(p, &waiting, waiting.rows);
}

static void product(const struct bw_product *p)
{
    int whole = p->rows / BLOCK * BLOCK, rest = p->rows - whole;
    if (p->inputs % TILE_INPUTS || p->inputs == 0) {
        product_by_rows(p, 0);
        return;
    }
    settle_memory();
    if (whole) {
        configure(TILE_ROWS, TILE_ROWS);
        product_rows(p, 0, whole, BLOCK);
    }
    if (rest) {
        configure(rest < TILE_ROWS ? rest : TILE_ROWS, rest > TILE_ROWS ? rest - TILE_ROWS : 0);
        product_rows(p, whole, p->rows, rest);
    }
    _tile_release();
}

static double spin(long rounds)
{
    configure(TILE_ROWS, TILE_ROWS);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
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
#define FINE         bw_fine_avx512vnni
#define FINE_IS_FREE false
#include "engine/kernels/table.inc"
