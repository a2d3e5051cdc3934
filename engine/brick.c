/* Tiles never look at each other, so passes are worked through in chunks of a bounded number of
 * tokens. Tokens move in row blocks: part of a tile, or several whole tiles.
 *
 * Where a block holds whole tiles, one task takes it from pixels to pixels, through all transformer
 * blocks, while it stays in the cache; nothing waits for anything. Where a tile is larger than a
 * block, two kinds of task alternate: row blocks (everything that treats tokens one by one, from
 * the end of one transformer block to the qkv of the next) and attention (one head of one query
 * block of one tile), with a barrier between them. */
#include "engine/brick.h"

#include <assert.h>
#include <string.h>

enum {
    BLOCK_ROWS = BW_BLOCK_TOKENS, // per row block: the unit of work, fixed for the sake of the bits
    CHUNK_TOKENS = 2048,          // tokens per chunk, unless one tile alone has more
};

/* Up to BLOCK_ROWS tokens of one pass. */
struct row_block {
    const struct bw_pass *pass;
    int first; // token of the pass
    int at;    // token of the chunk
    int rows;
};

/* Up to BLOCK_ROWS queries of one tile against all its keys. */
struct query_block {
    int tile_at; // first token of the tile in the chunk
    int tokens;  // of the tile
    int first, queries;
};

/* The tokens of a block or chunk between the steps of a transformer block. */
struct stream {
    float *tokens;           // [rows, hidden]
    unsigned char *qkv;      // activations [rows, 3*hidden]
    unsigned char *attended; // activations [rows, hidden]
    float *pixels;           // [rows, patch*patch*channels]
};

/* What one thread needs for itself. */
struct member_scratch {
    float *patches;      // [BLOCK_ROWS, most inputs*patch*patch]
    void *narrowed;      // activations of patches, or what the fine kernels make of them
    void *norm;          // [BLOCK_ROWS, hidden] activations, or likewise
    void *wide;          // activations [BLOCK_ROWS, mlp_ratio*hidden]
    float *product;      // [BLOCK_ROWS, most outputs of a layer]
    void *attention;     // the kernels'
    struct stream block; // of BLOCK_ROWS rows
};

struct bw_brick_scratch {
    int capacity;                // tokens of a chunk
    struct stream chunk;         // of `capacity` rows
    struct row_block *blocks;    // [capacity]
    struct query_block *queries; // [capacity]
    struct member_scratch *members;
    int block_count, query_count, used; // of the chunk at hand
};

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* The largest of what the bricks of a model need. */
struct extent {
    int tile_tokens, patch_inputs, pixel_outputs;
};

static struct extent measure(const struct bw_model *model)
{
    struct extent e = {0};
    for (int k = 0; k < model->arch.brick_count; k++) {
        const struct bw_brick *b = &model->bricks[k];
        e.tile_tokens = larger(e.tile_tokens, b->side_tokens * b->side_tokens);
        e.patch_inputs = larger(e.patch_inputs, b->embed.inputs);
        e.pixel_outputs = larger(e.pixel_outputs, b->final.outputs);
    }
    return e;
}

static struct stream take_stream(struct bw_arena *arena, const struct bw_model *model, size_t rows,
                                 int pixel_outputs)
{
    size_t hidden = (size_t)model->arch.hidden, bytes = (size_t)model->kernels->activation_bytes;
    return (struct stream){
        .tokens = BW_TAKE(arena, float, rows *hidden),
        .qkv = bw_arena_take(arena, rows * 3 * hidden, bytes),
        .attended = bw_arena_take(arena, rows * hidden, bytes),
        .pixels = BW_TAKE(arena, float, rows *(size_t)pixel_outputs),
    };
}

static struct member_scratch take_member(struct bw_arena *arena, const struct bw_model *model,
                                         const struct extent *e)
{
    size_t rows = BLOCK_ROWS, hidden = (size_t)model->arch.hidden;
    size_t bytes = (size_t)model->kernels->activation_bytes;
    size_t ends = (size_t)model->kernels->ends->activation_bytes;
    size_t wide = (size_t)larger(3, model->arch.mlp_ratio) * hidden;
    size_t outputs = (size_t)larger((int)wide, e->pixel_outputs);
    size_t norm = rows * hidden * (ends > bytes ? ends : bytes);
    size_t narrowed = rows * (size_t)bw_kernels_stride(e->patch_inputs) * ends;
    size_t fine_norm = bw_kernels_fine_bytes(BLOCK_ROWS, model->arch.hidden);
    size_t fine_patches = bw_kernels_fine_bytes(BLOCK_ROWS, e->patch_inputs);
    int head = model->arch.hidden / model->arch.heads;
    return (struct member_scratch){
        .patches = BW_TAKE(arena, float, rows *(size_t)e->patch_inputs),
        .narrowed = bw_arena_take(arena, narrowed > fine_patches ? narrowed : fine_patches, 1),
        .norm = bw_arena_take(arena, norm > fine_norm ? norm : fine_norm, 1),
        .wide = bw_arena_take(arena, rows * wide, bytes),
        .product = BW_TAKE(arena, float, rows *outputs),
        .attention = bw_arena_take(arena, model->kernels->attention_bytes(e->tile_tokens, head), 1),
        .block = take_stream(arena, model, rows, e->pixel_outputs),
    };
}

struct bw_brick_scratch *bw_brick_scratch_take(struct bw_arena *arena, const struct bw_model *model,
                                               int threads)
{
    const struct extent e = measure(model);
    size_t capacity = (size_t)larger(e.tile_tokens, CHUNK_TOKENS);
    struct bw_brick_scratch *scratch = BW_TAKE(arena, struct bw_brick_scratch, 1);
    struct bw_brick_scratch plan = {
        .capacity = (int)capacity,
        .chunk = take_stream(arena, model, capacity, e.pixel_outputs),
        .blocks = BW_TAKE(arena, struct row_block, capacity),
        .queries = BW_TAKE(arena, struct query_block, capacity),
        .members = BW_TAKE(arena, struct member_scratch, (size_t)threads),
    };
    for (int i = 0; i < threads; i++) {
        struct member_scratch member = take_member(arena, model, &e);
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

/* The stream from one of its rows on. */
static struct stream stream_at(const struct chunk *c, const struct stream *s, int row)
{
    size_t hidden = (size_t)c->model->arch.hidden, at = (size_t)row;
    size_t bytes = (size_t)c->model->kernels->activation_bytes;
    return (struct stream){
        .tokens = s->tokens + at * hidden,
        .qkv = s->qkv + at * 3 * hidden * bytes,
        .attended = s->attended + at * hidden * bytes,
        .pixels = s->pixels + at * (size_t)c->brick->final.outputs,
    };
}

/* A product of one layer; what is left out is zero. */
static struct bw_product layer_product(const struct member_scratch *m, int rows,
                                       const struct bw_linear *layer, const void *a)
{
    return (struct bw_product){.rows = rows,
                               .outputs = layer->outputs,
                               .inputs = layer->inputs,
                               .a = a,
                               .a_stride = bw_kernels_stride(layer->inputs),
                               .w = layer->w,
                               .bias = layer->b,
                               .y_stride = layer->outputs,
                               .scratch = m->product};
}

/* The product of a layer whose rows are the stream's, normalised and modulated by shift[hidden] and
 * the scale behind it. p->a is given here. `end`: the layer makes pixels. */
static void product_of_norm(const struct chunk *c, bool end, const struct member_scratch *m,
                            const struct bw_linear *layer, const float *tokens, const float *shift,
                            struct bw_product *p)
{
    const struct bw_kernels *kernels = end ? c->model->kernels->ends : c->model->kernels;
    const struct bw_fine_kernels *fine = c->model->kernels->fine;
    const float *scale = shift + layer->inputs;
    p->a = m->norm;
    if (layer->fine) {
        fine->norm(p->rows, layer->inputs, tokens, shift, scale, m->norm);
        fine->product(p);
    } else {
        kernels->norm(p->rows, layer->inputs, tokens, shift, scale, m->norm);
        kernels->product(p);
    }
}

/* Pixels to tokens: patches, their embedding, and where each token sits in its tile. */
static void embed(const struct chunk *c, const struct row_block *b, const struct member_scratch *m,
                  float *tokens)
{
    const struct bw_cover *cover = &b->pass->cover;
    const struct bw_linear *layer = &c->brick->embed;
    int hidden = c->model->arch.hidden;
    bw_cover_gather(cover, &b->pass->input, b->first, b->rows, m->patches);
    struct bw_product p = layer_product(m, b->rows, layer, m->narrowed);
    p.store = BW_STORE_FLOAT;
    p.y = tokens;
    if (layer->fine) {
        const struct bw_fine_kernels *fine = c->model->kernels->fine;
        fine->narrow(b->rows, layer->inputs, m->patches, m->narrowed);
        fine->product(&p);
    } else {
        const struct bw_kernels *kernels = c->model->kernels->ends;
        kernels->narrow(b->rows, layer->inputs, m->patches, m->narrowed);
        kernels->product(&p);
    }
    for (int i = 0; i < b->rows; i++, tokens += hidden) {
        int inside = (b->first + i) % cover->tile_tokens;
        int place = inside / cover->tokens_x * c->brick->side_tokens + inside % cover->tokens_x;
        const float *position = c->brick->positions + (size_t)place * (size_t)hidden;
        for (int j = 0; j < hidden; j++)
            tokens[j] += position[j];
    }
}

static const float *modulation_of(const struct chunk *c, const struct row_block *b, int j)
{
    return b->pass->modulation + c->brick->modulation_at +
           (size_t)j * 6 * (size_t)c->model->arch.hidden;
}

/* What precedes attention in transformer block j; after the last block, tokens to pixels. */
static void begin_block(const struct chunk *c, const struct row_block *b, int j,
                        const struct member_scratch *m, const struct stream *s)
{
    bool last = j == c->brick->shape.depth;
    const struct bw_linear *layer = last ? &c->brick->final : &c->brick->blocks[j].qkv;
    struct bw_product p = layer_product(m, b->rows, layer, NULL);
    p.store = last ? BW_STORE_FLOAT : BW_STORE_ACTIVATION;
    p.y = last ? (void *)s->pixels : s->qkv;
    product_of_norm(c, last, m, layer, s->tokens, modulation_of(c, b, j), &p);
}

/* What follows attention in transformer block j: projection and MLP, each gated into the stream. */
static void finish_block(const struct chunk *c, const struct row_block *b, int j,
                         const struct member_scratch *m, const struct stream *s)
{
    const struct bw_kernels *kernels = c->model->kernels;
    const struct bw_block *block = &c->brick->blocks[j];
    const float *modulation = modulation_of(c, b, j);
    int hidden = c->model->arch.hidden;

    struct bw_product proj = layer_product(m, b->rows, &block->proj, s->attended);
    proj.store = BW_STORE_GATED;
    proj.gate = modulation + 2 * hidden;
    proj.y = s->tokens;
    kernels->product(&proj);

    struct bw_product fc1 = layer_product(m, b->rows, &block->fc1, NULL);
    fc1.store = BW_STORE_ACTIVATION;
    fc1.gelu = true;
    fc1.y = m->wide;
    product_of_norm(c, false, m, &block->fc1, s->tokens, modulation + 3 * hidden, &fc1);

    struct bw_product fc2 = layer_product(m, b->rows, &block->fc2, m->wide);
    fc2.store = BW_STORE_GATED;
    fc2.gate = modulation + 5 * hidden;
    fc2.y = s->tokens;
    kernels->product(&fc2);
}

/* One head of some queries of the tile whose stream begins at `tile`. */
static void attend(const struct chunk *c, const struct member_scratch *m, const struct stream *tile,
                   int tokens, int first, int queries, int head)
{
    size_t bytes = (size_t)c->model->kernels->activation_bytes;
    size_t hidden = (size_t)c->model->arch.hidden * bytes;
    int width = c->model->arch.hidden / c->model->arch.heads;
    const unsigned char *head_at = tile->qkv + (size_t)(head * width) * bytes;
    c->model->kernels->attention(&(struct bw_attention){
        .queries = queries,
        .tokens = tokens,
        .width = width,
        .q = head_at + (size_t)first * 3 * hidden,
        .k = head_at + hidden,
        .v = head_at + 2 * hidden,
        .stride = 3 * c->model->arch.hidden,
        .out = tile->attended + (size_t)first * hidden + (size_t)(head * width) * bytes,
        .out_stride = c->model->arch.hidden,
        .scratch = m->attention,
    });
}

/* Task: carry one row block from the last attention to the next one, or to pixels after the last.
 */
static void run_rows(void *context, int task, int member)
{
    const struct chunk *c = context;
    const struct row_block *b = &c->s->blocks[task];
    const struct member_scratch *m = &c->s->members[member];
    struct stream s = stream_at(c, &c->s->chunk, b->at);
    if (c->block < 0)
        embed(c, b, m, s.tokens);
    else
        finish_block(c, b, c->block, m, &s);
    begin_block(c, b, c->block + 1, m, &s);
}

/* Task: one head of one query block. */
static void run_attention(void *context, int task, int member)
{
    const struct chunk *c = context;
    int heads = c->model->arch.heads;
    const struct query_block *q = &c->s->queries[task / heads];
    struct stream tile = stream_at(c, &c->s->chunk, q->tile_at);
    attend(c, &c->s->members[member], &tile, q->tokens, q->first, q->queries, task % heads);
}

/* Task: carry one row block of whole tiles from pixels to pixels. */
static void run_whole(void *context, int task, int member)
{
    const struct chunk *c = context;
    const struct row_block *b = &c->s->blocks[task];
    const struct member_scratch *m = &c->s->members[member];
    const struct bw_cover *cover = &b->pass->cover;
    embed(c, b, m, m->block.tokens);
    for (int j = 0; j < c->brick->shape.depth; j++) {
        begin_block(c, b, j, m, &m->block);
        for (int row = 0; row < b->rows; row += cover->tile_tokens) {
            struct stream tile = stream_at(c, &m->block, row);
            for (int head = 0; head < c->model->arch.heads; head++)
                attend(c, m, &tile, cover->tile_tokens, 0, cover->tile_tokens, head);
        }
        finish_block(c, b, j, m, &m->block);
    }
    begin_block(c, b, c->brick->shape.depth, m, &m->block);
    bw_cover_scatter(cover, c->model->arch.channels, b->first, b->rows, m->block.pixels,
                     b->pass->output);
}

/* Task: give one pass the pixels of its row blocks, in order, because windows overlap. */
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
    (void)member;
    for (int i = 0; i < s->block_count; i++) {
        const struct row_block *b = &s->blocks[i];
        if (b->pass == pass)
            bw_cover_scatter(&pass->cover, channels, b->first, b->rows,
                             stream_at(work->chunk, &s->chunk, b->at).pixels, pass->output);
    }
}

/* May one task take each block of the pass from pixels to pixels? */
static bool is_whole(const struct bw_pass *pass)
{
    return pass->cover.tile_tokens <= BLOCK_ROWS && !pass->cover.windows;
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

static void run_chunk(struct chunk *c, bool whole, struct bw_pass *const *passes, int count,
                      struct bw_team *team)
{
    struct bw_brick_scratch *s = c->s;
    if (whole) {
        bw_team_run(team, run_whole, c, s->block_count);
    } else {
        for (c->block = -1; c->block < c->brick->shape.depth; c->block++) {
            bw_team_run(team, run_rows, c, s->block_count);
            if (c->block + 1 < c->brick->shape.depth)
                bw_team_run(team, run_attention, c, s->query_count * c->model->arch.heads);
        }
        bw_team_run(team, run_scatter, &(struct scatter){c, passes}, count);
    }
    s->block_count = s->query_count = s->used = 0;
}

/* All passes of one kind, in chunks. */
static void run_passes(struct chunk *c, bool whole, struct bw_pass *const *passes, int count,
                       struct bw_team *team)
{
    for (int i = 0; i < count; i++) {
        int tile = is_whole(passes[i]) == whole ? 0 : passes[i]->cover.tile_count;
        while ((tile = fill_chunk(c->s, passes[i], tile)) < passes[i]->cover.tile_count) {
            assert(c->s->used > 0);
            run_chunk(c, whole, passes, count, team);
        }
    }
    if (c->s->used)
        run_chunk(c, whole, passes, count, team);
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
    run_passes(&chunk, true, passes, count, team);
    run_passes(&chunk, false, passes, count, team);
    for (int i = 0; i < count; i++)
        bw_cover_average(&passes[i]->cover, channels, passes[i]->output);
}
