/* Tiles never look at each other, so passes are worked through in chunks of a bounded number of
 * tokens. Within a chunk two kinds of task alternate: row blocks (everything that treats tokens one
 * by one, fused from the end of one transformer block to the qkv of the next) and attention (one
 * head of one query block of one tile). The only barriers are between the two. */
#include "engine/brick.h"

#include "engine/gemm.h"
#include "engine/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    BLOCK_ROWS = 128,    // tokens per row block: the unit of work, fixed for the sake of the bits
    CHUNK_TOKENS = 2048, // tokens per chunk, unless one tile alone has more
};

/* Up to BLOCK_ROWS tokens of one pass: part of a tile, or several whole tiles. */
struct row_block {
    const struct bw_pass *pass;
    int first; // token of the pass
    int at;    // token of the chunk
    int rows;
};

/* Up to BLOCK_ROWS queries of one tile against all its keys. */
struct query_block {
    int tile_at;        // first token of the tile in the chunk
    int tokens;         // of the tile
    int first, queries; // of the tile
};

/* What one thread needs for itself. */
struct member_scratch {
    float *patches; // [BLOCK_ROWS, most inputs*patch*patch]
    float *norm;    // [BLOCK_ROWS, hidden]
    float *wide;    // [BLOCK_ROWS, mlp_ratio*hidden]
    float *scores;  // [BLOCK_ROWS, most tile tokens]
};

struct bw_brick_scratch {
    int capacity;                // tokens of a chunk
    float *tokens;               // [capacity, hidden]
    float *qkv;                  // [capacity, 3*hidden]
    float *attended;             // [capacity, hidden]
    float *pixels;               // [capacity, most patch*patch*channels]
    struct row_block *blocks;    // [capacity]
    struct query_block *queries; // [capacity]
    struct member_scratch *members;
    int block_count, query_count, used; // of the chunk at hand
};

static int larger(int a, int b)
{
    return a > b ? a : b;
}

struct bw_brick_scratch *bw_brick_scratch_take(struct bw_arena *arena, const struct bw_model *model,
                                               int threads)
{
    size_t hidden = (size_t)model->arch.hidden;
    int tokens = 0, inputs = 0, outputs = 0;
    for (int k = 0; k < model->arch.brick_count; k++) {
        const struct bw_brick *b = &model->bricks[k];
        tokens = larger(tokens, b->side_tokens * b->side_tokens);
        inputs = larger(inputs, b->embed.inputs);
        outputs = larger(outputs, b->final.outputs);
    }
    size_t capacity = (size_t)larger(tokens, CHUNK_TOKENS);
    struct bw_brick_scratch plan = {.capacity = (int)capacity};
    struct bw_brick_scratch *scratch = BW_TAKE(arena, struct bw_brick_scratch, 1);
    plan.tokens = BW_TAKE(arena, float, capacity *hidden);
    plan.qkv = BW_TAKE(arena, float, capacity * 3 * hidden);
    plan.attended = BW_TAKE(arena, float, capacity *hidden);
    plan.pixels = BW_TAKE(arena, float, capacity *(size_t)outputs);
    plan.blocks = BW_TAKE(arena, struct row_block, capacity);
    plan.queries = BW_TAKE(arena, struct query_block, capacity);
    plan.members = BW_TAKE(arena, struct member_scratch, (size_t)threads);
    for (int i = 0; i < threads; i++) {
        struct member_scratch member = {
            .patches = BW_TAKE(arena, float, (size_t)BLOCK_ROWS *(size_t)inputs),
            .norm = BW_TAKE(arena, float, BLOCK_ROWS *hidden),
            .wide = BW_TAKE(arena, float, BLOCK_ROWS *hidden *(size_t)model->arch.mlp_ratio),
            .scores = BW_TAKE(arena, float, (size_t)BLOCK_ROWS *(size_t)tokens),
        };
        if (scratch)
            plan.members[i] = member;
    }
    if (scratch)
        *scratch = plan;
    return scratch;
}

/* The work of one chunk, shared by its tasks. */
struct chunk {
    const struct bw_model *model;
    const struct bw_brick *brick;
    struct bw_brick_scratch *s;
    int block; // transformer block whose attention was computed last; -1 before the first
};

/* y[rows, outputs] = x[rows, inputs] w^T, without the bias */
static void product(int rows, const struct bw_linear *layer, const float *x, float *y)
{
    bw_gemm_nt(rows, layer->outputs, layer->inputs, 1, x, layer->inputs, layer->w, layer->inputs, y,
               layer->outputs);
}

/* Pixels to tokens: patches, their embedding, and where each token sits in its tile. */
static void embed(const struct chunk *c, const struct row_block *b, struct member_scratch *m,
                  float *x)
{
    const struct bw_cover *cover = &b->pass->cover;
    int hidden = c->model->arch.hidden;
    bw_cover_gather(cover, &b->pass->input, b->first, b->rows, m->patches);
    product(b->rows, &c->brick->embed, m->patches, x);
    for (int i = 0; i < b->rows; i++, x += hidden) {
        int inside = (b->first + i) % cover->tile_tokens;
        int place = inside / cover->tokens_x * c->brick->side_tokens + inside % cover->tokens_x;
        bw_add_bias(1, hidden, c->brick->embed.b, x);
        bw_add_bias(1, hidden, c->brick->positions + (size_t)place * (size_t)hidden, x);
    }
}

/* What follows attention in transformer block j: projection and MLP, each gated into the stream. */
static void finish_block(const struct chunk *c, const struct row_block *b, int j,
                         const float *modulation, struct member_scratch *m, float *x)
{
    const struct bw_block *block = &c->brick->blocks[j];
    int hidden = c->model->arch.hidden;
    const float *gate1 = modulation + 2 * hidden, *shift2 = modulation + 3 * hidden;
    const float *scale2 = modulation + 4 * hidden, *gate2 = modulation + 5 * hidden;
    product(b->rows, &block->proj, c->s->attended + (size_t)b->at * (size_t)hidden, m->norm);
    bw_add_gated(b->rows, hidden, m->norm, block->proj.b, gate1, x);
    bw_modulated_norm(b->rows, hidden, x, shift2, scale2, m->norm);
    product(b->rows, &block->fc1, m->norm, m->wide);
    bw_add_bias_gelu(b->rows, block->fc1.outputs, block->fc1.b, m->wide);
    product(b->rows, &block->fc2, m->wide, m->norm);
    bw_add_gated(b->rows, hidden, m->norm, block->fc2.b, gate2, x);
}

/* Task: carry one row block from the last attention to the next one, or to pixels after the last.
 */
static void run_rows(void *context, int task, int member)
{
    const struct chunk *c = context;
    const struct row_block *b = &c->s->blocks[task];
    struct member_scratch *m = &c->s->members[member];
    int hidden = c->model->arch.hidden, next = c->block + 1;
    float *x = c->s->tokens + (size_t)b->at * (size_t)hidden;
    const float *modulation = b->pass->modulation + c->brick->modulation_at;
    if (c->block < 0)
        embed(c, b, m, x);
    else
        finish_block(c, b, c->block, modulation + (size_t)c->block * 6 * (size_t)hidden, m, x);
    modulation += (size_t)next * 6 * (size_t)hidden;
    bw_modulated_norm(b->rows, hidden, x, modulation, modulation + hidden, m->norm);
    const struct bw_linear *layer;
    float *y;
    if (next < c->brick->shape.depth) {
        layer = &c->brick->blocks[next].qkv;
        y = c->s->qkv + (size_t)b->at * (size_t)layer->outputs;
    } else {
        layer = &c->brick->final;
        y = c->s->pixels + (size_t)b->at * (size_t)layer->outputs;
    }
    product(b->rows, layer, m->norm, y);
    bw_add_bias(b->rows, layer->outputs, layer->b, y);
}

/* Task: one head of one query block. */
static void run_attention(void *context, int task, int member)
{
    const struct chunk *c = context;
    int heads = c->model->arch.heads, hidden = c->model->arch.hidden, width = hidden / heads;
    const struct query_block *q = &c->s->queries[task / heads];
    size_t head_at = (size_t)(task % heads * width), at = (size_t)(q->tile_at + q->first);
    const float *query = c->s->qkv + at * 3 * (size_t)hidden + head_at;
    const float *key =
        c->s->qkv + (size_t)q->tile_at * 3 * (size_t)hidden + (size_t)hidden + head_at;
    float *scores = c->s->members[member].scores;
    float *out = c->s->attended + at * (size_t)hidden + head_at;
    bw_gemm_nt(q->queries, q->tokens, width, 1 / sqrtf((float)width), query, 3 * hidden, key,
               3 * hidden, scores, q->tokens);
    bw_softmax(q->queries, q->tokens, scores);
    bw_gemm_nn(q->queries, width, q->tokens, scores, q->tokens, key + hidden, 3 * hidden, out,
               hidden);
}

/* Task: give one pass the pixels of its row blocks, in order. */
struct scatter {
    struct chunk *chunk;
    struct bw_pass *const *passes;
};

static void run_scatter(void *context, int task, int member)
{
    const struct scatter *work = context;
    const struct bw_brick_scratch *s = work->chunk->s;
    struct bw_pass *pass = work->passes[task];
    int channels = work->chunk->model->arch.channels;
    size_t outputs = (size_t)work->chunk->brick->final.outputs;
    (void)member;
    for (int i = 0; i < s->block_count; i++) {
        const struct row_block *b = &s->blocks[i];
        if (b->pass == pass)
            bw_cover_scatter(&pass->cover, channels, b->first, b->rows,
                             s->pixels + (size_t)b->at * outputs, pass->output);
    }
}

/* Add as many tiles of the pass, from `tile` on, as the chunk has room for; returns the next tile.
 * Blocks hold whole tiles where several fit, and start anew at every group of tiles. */
static int fill_chunk(struct bw_brick_scratch *s, const struct bw_pass *pass, int tile)
{
    const struct bw_cover *c = &pass->cover;
    int group = larger(BLOCK_ROWS / c->tile_tokens, 1);
    while (tile < c->tile_count) {
        int tiles = c->tile_count - tile < group ? c->tile_count - tile : group;
        int rows = tiles * c->tile_tokens, first = tile * c->tile_tokens;
        if (s->used + rows > s->capacity)
            break;
        for (int row = 0; row < rows; row += BLOCK_ROWS) {
            int count = rows - row < BLOCK_ROWS ? rows - row : BLOCK_ROWS;
            s->blocks[s->block_count++] =
                (struct row_block){pass, first + row, s->used + row, count};
        }
        for (int i = 0; i < tiles; i++) {
            for (int query = 0; query < c->tile_tokens; query += BLOCK_ROWS) {
                int left = c->tile_tokens - query;
                s->queries[s->query_count++] =
                    (struct query_block){s->used + i * c->tile_tokens, c->tile_tokens, query,
                                         left < BLOCK_ROWS ? left : BLOCK_ROWS};
            }
        }
        s->used += rows;
        tile += tiles;
    }
    return tile;
}

static void run_chunk(struct chunk *c, struct bw_pass *const *passes, int count,
                      struct bw_team *team)
{
    struct bw_brick_scratch *s = c->s;
    for (c->block = -1; c->block < c->brick->shape.depth; c->block++) {
        bw_team_run(team, run_rows, c, s->block_count);
        if (c->block + 1 < c->brick->shape.depth)
            bw_team_run(team, run_attention, c, s->query_count * c->model->arch.heads);
    }
    bw_team_run(team, run_scatter, &(struct scatter){c, passes}, count);
    s->block_count = s->query_count = s->used = 0;
}

void bw_brick_run(const struct bw_model *model, int k, struct bw_pass *const *passes, int count,
                  struct bw_team *team, struct bw_brick_scratch *scratch)
{
    struct chunk chunk = {.model = model, .brick = &model->bricks[k], .s = scratch};
    scratch->block_count = scratch->query_count = scratch->used = 0;
    int channels = model->arch.channels;
    for (int i = 0; i < count; i++) {
        const struct bw_cover *c = &passes[i]->cover;
        if (c->windows)
            memset(passes[i]->output, 0,
                   sizeof(float) * (size_t)channels * (size_t)c->width * (size_t)c->height);
    }
    for (int i = 0; i < count; i++) {
        int tile = 0;
        while ((tile = fill_chunk(scratch, passes[i], tile)) < passes[i]->cover.tile_count) {
            assert(scratch->used > 0);
            run_chunk(&chunk, passes, count, team);
        }
    }
    run_chunk(&chunk, passes, count, team);
    for (int i = 0; i < count; i++)
        bw_cover_average(&passes[i]->cover, channels, passes[i]->output);
}
