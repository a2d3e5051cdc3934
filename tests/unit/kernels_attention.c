/* Attention of every set this CPU can run, against the same in double precision, and what its
 * contract says about bits.
 *
 * Tolerances: as for products, a sum may be off by eight float units of its terms' sizes. */
#include "tests/unit/kernels.h"

enum { MOST_TOKENS = 300, MOST = MOST_TOKENS * 96, SPREAD = 8 };

static float q[MOST], keys[MOST], values[MOST]; // [tokens, width]
static float result[MOST], again[MOST];         // [queries, width]
static uint64_t seed = 31;

static struct {
    struct area q, k, v, out, scratch;
} areas;

struct tile {
    int queries, tokens, width, gap, out_gap;
};

/* Queries first..first + queries - 1; out[queries, width]. */
static void run_attention(const struct bw_kernels *k, const struct tile *t, int first, int queries,
                          int tail, float *out)
{
    int stride = t->width + t->gap, out_stride = t->width + t->out_gap;
    bool pairs = is_bf16(k) && t->width % 2; // the number after a query meets a zero then
    size_t bytes = (size_t)k->activation_bytes, row = bytes * (size_t)t->width;
    size_t scratch_bytes = k->attention_bytes(t->tokens, t->width);
    struct bw_attention p = {
        .queries = queries,
        .tokens = t->tokens,
        .width = t->width,
        .q = area_activations(&areas.q, k, queries, t->width, t->width, stride,
                              q + first * t->width, tail + pairs),
        .k = area_activations(&areas.k, k, t->tokens, t->width, t->width, stride, keys, tail),
        .v = area_activations(&areas.v, k, t->tokens, t->width, t->width, stride, values, tail),
        .stride = stride,
        .out = area_take(&areas.out, (size_t)((queries - 1) * out_stride) * bytes + row,
                         (size_t)tail * bytes, FENCE),
        .out_stride = out_stride,
        .scratch = area_take(&areas.scratch, scratch_bytes, -scratch_bytes % 64, FENCE),
    };
    memset(p.scratch, NOTHING, scratch_bytes);
    for (int i = 0; pairs && i < queries; i++) {
        size_t after = (size_t)(i * stride + t->width);
        if (t->gap || i + 1 == queries)
            put_activation(k, areas.q.at, after, (float)random_int(&seed, -100, 100));
    }
    k->attention(&p);
    CHECK_OF(area_fenced(&areas.out, queries, row, (size_t)out_stride * bytes) &&
                 area_fenced(&areas.scratch, 1, scratch_bytes, 0),
             "%s: %d queries, %d tokens, width %d", k->name, queries, t->tokens, t->width);
    for (int i = 0; i < queries * t->width; i++)
        out[i] = get_activation(k, p.out, (size_t)(i / t->width * out_stride + i % t->width));
}

/* The weights of one query's tokens; returns how far, relatively, each may be off. */
static double soft_weights(const struct bw_kernels *k, const struct tile *t, const float *query,
                           double *weights)
{
    double top = -HUGE_VAL, sum = 0, off = 0, root = sqrt(t->width);
    for (int j = 0; j < t->tokens; j++) {
        double score = 0, sizes = 0;
        for (int i = 0; i < t->width; i++) {
            double term = (double)query[i] * keys[j * t->width + i];
            score += term;
            sizes += fabs(term);
        }
        weights[j] = score / root;
        top = fmax(top, weights[j]);
        off = fmax(off, SPREAD * FLOAT_UNIT * sizes / root);
    }
    for (int j = 0; j < t->tokens; j++)
        sum += weights[j] = exp(weights[j] - top);
    for (int j = 0; j < t->tokens; j++)
        weights[j] /= sum;
    return expm1(2 * off) + 32 * FLOAT_UNIT + (is_bf16(k) ? BF16_UNIT : 0);
}

static void check_query(const struct bw_kernels *k, const struct tile *t, int query,
                        const float *got)
{
    static double weights[MOST_TOKENS];
    double off = soft_weights(k, t, q + query * t->width, weights);
    for (int i = 0; i < t->width; i++) {
        double want = 0, sizes = 0;
        for (int j = 0; j < t->tokens; j++) {
            double term = weights[j] * values[j * t->width + i];
            want += term;
            sizes += fabs(term);
        }
        double within = (off + SPREAD * FLOAT_UNIT) * sizes;
        within += is_bf16(k) ? BF16_UNIT * (fabs(want) + within) : 0;
        CHECK_OF(fabs(got[i] - want) <= within,
                 "%s: %d queries, %d tokens, width %d: [%d, %d] is %.9g, not %.9g within %g",
                 k->name, t->queries, t->tokens, t->width, query, i, got[i], want, within);
    }
}

static void check_same(const struct bw_kernels *k, const struct tile *t, int first, int count,
                       int at, const char *whatever)
{
    CHECK_OF(memcmp(result + first * t->width, again + at * t->width,
                    sizeof *again * (size_t)(count * t->width)) == 0,
             "%s: %d queries, %d tokens, width %d: query %d depends on %s", k->name, t->queries,
             t->tokens, t->width, first, whatever);
}

static void check_tile(const struct bw_kernels *k, const struct tile *t, float sharpness)
{
    fill_activations(k, &seed, sharpness, t->queries * t->width, q);
    fill_activations(k, &seed, 2, t->tokens * t->width, keys);
    fill_activations(k, &seed, 1, t->tokens * t->width, values);
    run_attention(k, t, 0, t->queries, 0, result);
    for (int i = 0; i < t->queries; i++)
        check_query(k, t, i, result + i * t->width);
    run_attention(k, t, 0, t->queries, 1 + random_int(&seed, 0, 16), again);
    check_same(k, t, 0, t->queries, 0, "where memory lies");
    int first = random_int(&seed, 0, t->queries - 1);
    int count = random_int(&seed, 1, t->queries - first);
    if (is_own(k)) {
        run_attention(k, t, first, count, 0, again);
        check_same(k, t, first, count, 0, "the number of queries");
    }
    for (int i = 0; i < t->queries * t->width; i++) {
        if (i / t->width != first)
            q[i] = as_activation(k, 3 - q[i]);
    }
    run_attention(k, t, 0, t->queries, 0, again);
    check_same(k, t, first, 1, first, "other queries");
}

static const int widths[] = {8, 16, 24, 32, 33, 48, 64, 72, 96, 1, 3};
enum { WIDTHS = sizeof widths / sizeof *widths };

/* Tiles of 1..70 tokens; on every round, they meet other widths. */
static void check_round(const struct bw_kernels *k, int round, int step)
{
    static const float sharpness[] = {2, 0, 30, 0.1f, 1000};
    for (int tokens = 1; tokens <= 70; tokens += step) {
        struct tile t = {.tokens = tokens,
                         .queries = round % 2 ? random_int(&seed, 1, tokens) : tokens,
                         .width = widths[(tokens + 3 * round) % WIDTHS],
                         .gap = random_int(&seed, 0, 3),
                         .out_gap = random_int(&seed, 0, 3)};
        check_tile(k, &t, sharpness[random_int(&seed, 0, 4)]);
    }
}

static void check_small_tiles(const struct bw_kernels *k)
{
    check_round(k, 0, 9);
}

static void small_tiles(void)
{
    each_set(check_small_tiles);
}

static void check_tiles(const struct bw_kernels *k)
{
    for (int round = 0; round < 4; round++)
        check_round(k, round, 1);
    check_tile(k, &(struct tile){.queries = 128, .tokens = 256, .width = 32, .gap = 64}, 2);
    check_tile(k, &(struct tile){.queries = 44, .tokens = 300, .width = 96, .out_gap = 5}, 2);
    check_tile(k, &(struct tile){.queries = 100, .tokens = 256, .width = 72, .gap = 144}, 2);
    check_tile(k, &(struct tile){.queries = 13, .tokens = 256, .width = 33, .gap = 1}, 2);
}

static void tiles(void)
{
    each_set(check_tiles);
}

/* Scores of +-10240 / 4: one token, or two, get everything. */
static void check_far_out(const struct bw_kernels *k)
{
    enum { TOKENS = 40, WIDTH = 16 };
    const struct tile t = {.queries = 2, .tokens = TOKENS, .width = WIDTH};
    memset(q, 0, sizeof *q * 2 * WIDTH);
    memset(keys, 0, sizeof *keys * TOKENS * WIDTH);
    fill_activations(k, &seed, 1, TOKENS * WIDTH, values);
    q[0] = 256;
    q[WIDTH + 1] = -256;
    for (int j = 0; j < TOKENS; j++) {
        keys[j * WIDTH] = j == 17 ? 160 : -160;
        keys[j * WIDTH + 1] = j == 0 || j == 39 ? -160 : 160;
    }
    run_attention(k, &t, 0, 2, 0, result);
    for (int i = 0; i < WIDTH; i++) {
        double both = 0.5 * ((double)values[i] + values[39 * WIDTH + i]);
        CHECK_OF(fabs(result[i] - values[17 * WIDTH + i]) <= 1e-6, "%s: %g, not %g", k->name,
                 result[i], values[17 * WIDTH + i]);
        CHECK_OF(fabs(result[WIDTH + i] - both) <= 1e-6 + (is_bf16(k) ? BF16_UNIT * fabs(both) : 0),
                 "%s: %g, not %g", k->name, result[WIDTH + i], both);
    }
}

static void far_out(void)
{
    each_set(check_far_out);
}

/* Scratch made for the largest tile serves all. */
static void check_scratch(const struct bw_kernels *k)
{
    for (int w = 0; w < WIDTHS; w++) {
        for (int tokens = 1; tokens < MOST_TOKENS; tokens++)
            CHECK_OF(k->attention_bytes(tokens, widths[w]) <=
                         k->attention_bytes(tokens + 1, widths[w]),
                     "%s: %d tokens, width %d", k->name, tokens, widths[w]);
    }
}

static void scratch_grows(void)
{
    each_set(check_scratch);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(small_tiles),
        TEST(tiles),
        TEST(far_out),
        TEST(scratch_grows),
    };
    return CHECK_RUN("kernels_attention", tests);
}
