/* One function walks through the network. It runs twice: first it only measures the memory and the
 * work, then it does the work.
 *
 * A picture is a plane of pixels, all channels of a pixel side by side, so a convolution of a few
 * pixels is a product: their rows hold what lies around each. Tasks are bands of a picture's rows.
 * A task normalises its band and a row on either side into activations, then gathers rows from
 * those and multiplies, BLOCK_PIXELS at a time, so that all of it stays in the cache and nothing
 * but planes exists of the whole picture.
 *
 * Two areas of memory take turns in holding the planes: the stream of residuals lies in one, what a
 * residual layer makes of it in the other; a convolution that enlarges goes from one to the other,
 * and they change roles. Where channels change, each pixel's new stream overwrites its old one.
 *
 * Bits: bands follow from the picture's size alone, and what a group norm needs is summed row by
 * row of the picture, in double precision, and over the rows in order. */
#include "engine/decoder.h"

#include "engine/decoder_weights.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    BLOCK_PIXELS = 64, // of one product; fixed for the sake of the bits
    BAND_ROWS = 8,     // of a band of a large picture,
    BANDS = 32,        // of which there are at least so many
    QUERIES = 128,     // of one task of attention
    RGB = 3,
};

struct plane {
    unsigned char *at; // [height, width] pixels
    int width, height, channels;
    bool narrow;        // of 16-bit activations, not of floats
    size_t pixel_bytes; // from one pixel to the next
};

/* What one thread needs for itself. */
struct member {
    unsigned char *band;    // activations [rows + 2, width + 2, channels], zeros around the picture
    unsigned char *columns; // activations [BLOCK_PIXELS, side, side, channels]
    unsigned char *product; // [BLOCK_PIXELS, outputs], and what a product overwrites
    double *sums;           // [2, channels]
    void *attention;        // the kernels'
};

/* Bytes of each, the largest of all that a walk asked for. */
struct needs {
    size_t areas[2], sums, affine;
    size_t band, columns, product, member_sums, attention; // of a member
};

struct job {
    const struct bw_decoder *decoder;
    struct bw_team *team; // NULL: the walk measures
    const float *latent;  // [4, height, width]
    unsigned char *rgb;   // [8*height, 8*width, RGB]
    float *image;         // the same as floats; either may be NULL
    struct needs needs;
    double flops;

    unsigned char *areas[2];
    int side; // the area that holds the stream
    struct member *members;
    double *sums;  // [rows of the picture, 2, groups] of the plane that was made last
    float *affine; // [2, channels] factors and offsets of the norm at hand
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void at_least(size_t *need, size_t bytes)
{
    *need = larger(*need, bytes);
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* A plane in one of the areas. */
static struct plane take(struct job *j, int side, int width, int height, int channels, bool narrow,
                         size_t pixel_bytes)
{
    at_least(&j->needs.areas[side], (size_t)width * (size_t)height * pixel_bytes);
    narrow = narrow && j->decoder->kernels->activation_bytes == sizeof(uint16_t);
    return (struct plane){j->areas[side], width, height, channels, narrow, pixel_bytes};
}

static size_t element_bytes(const struct job *j, bool narrow)
{
    return narrow ? (size_t)j->decoder->kernels->activation_bytes : sizeof(float);
}

static struct bw_pixels pixels_at(const struct plane *p, size_t first, int count)
{
    return (struct bw_pixels){count, p->channels, p->at + first * p->pixel_bytes, p->pixel_bytes,
                              p->narrow};
}

/* ---- group norm ---- */

/* The sums of one row of a picture, by groups. */
static void sum_row(const struct job *j, const struct member *m, const struct plane *p, int y)
{
    int groups = j->decoder->groups, size = p->channels / groups;
    struct bw_pixels row = pixels_at(p, (size_t)y * (size_t)p->width, p->width);
    double *sums = j->sums + (size_t)y * 2 * (size_t)groups, *from = m->sums;
    memset(from, 0, 2 * (size_t)p->channels * sizeof *from);
    j->decoder->kernels->sum_pixels(&row, from);
    for (int g = 0; g < 2 * groups; g++) {
        sums[g] = 0;
        for (int c = 0; c < size; c++)
            sums[g] += *from++;
    }
}

/* Make job->affine what normalises the plane, which was made last. */
static void norm(struct job *j, const struct plane *p, const struct bw_group_norm *n)
{
    int groups = j->decoder->groups, size = p->channels / groups;
    at_least(&j->needs.affine, 2 * (size_t)p->channels * sizeof *j->affine);
    double count = (double)p->width * p->height * size;
    for (int g = 0; g < groups && j->team; g++) {
        double sum = 0, squares = 0;
        const double *row = j->sums + g;
        for (int y = 0; y < p->height; y++, row += 2 * groups) {
            sum += row[0];
            squares += row[groups];
        }
        double mean = sum / count, variance = squares / count - mean * mean;
        double inverse = 1 / sqrt((variance > 0 ? variance : 0) + 1e-6);
        for (int c = g * size; c < (g + 1) * size; c++) {
            j->affine[c] = (float)(inverse * n->gain[c]);
            j->affine[p->channels + c] = (float)(n->shift[c] - mean * inverse * n->gain[c]);
        }
    }
}

/* ---- convolution ---- */

enum what { PLAIN, NORM, NORM_SILU };

struct conv_work {
    struct job *job;
    const struct bw_conv *conv;
    struct plane from, to;
    enum what what;               // becomes of the pixels first
    enum bw_sink store;           // BW_STORE_GATED adds
    const struct bw_conv *before; // of `before_from`, stored in `to` first; or NULL
    struct plane before_from;
    bool sums;               // of `to` are wanted for a norm
    bool ends;               // `to` is the picture
    int band_rows;           // of `from`
    size_t activation_bytes; // of the convolution's kernels
};

/* `count` pixels of a plane as the activations of some kernels. */
static void prepare(const struct conv_work *w, const struct plane *from,
                    const struct bw_kernels *kernels, enum what what, size_t first, int count,
                    unsigned char *out)
{
    struct bw_pixels pixels = pixels_at(from, first, count);
    const float *affine = w->job->affine;
    size_t bytes = (size_t)from->channels * (size_t)kernels->activation_bytes;
    const unsigned char *pixel = pixels.x;
    if (what != PLAIN)
        kernels->norm_pixels(&pixels, affine, affine + from->channels, what == NORM_SILU, out);
    for (int i = 0; i < count && what == PLAIN; i++, out += bytes, pixel += from->pixel_bytes) {
        if (from->narrow)
            memcpy(out, pixel, bytes);
        else
            kernels->narrow(1, from->channels, (const void *)pixel, out);
    }
}

/* Row y of the picture, if there is one, with a pixel of zeros on either side. */
static void prepare_row(const struct conv_work *w, int y, unsigned char *out)
{
    size_t pixel = (size_t)w->from.channels * w->activation_bytes;
    int width = w->from.width;
    if (y < 0 || y >= w->from.height) {
        memset(out, 0, (size_t)(width + 2) * pixel);
        return;
    }
    memset(out, 0, pixel);
    prepare(w, &w->from, w->conv->kernels, w->what, (size_t)y * (size_t)width, width, out + pixel);
    memset(out + (size_t)(width + 1) * pixel, 0, pixel);
}

/* Rows of a product: what lies around `count` pixels of the band; `right` and `down` say in which
 * corner of a pixel's surroundings it begins. */
static void gather(const struct conv_work *w, const struct member *m, int first, int count,
                   int right, int down)
{
    int width = w->from.width, side = w->conv->side;
    size_t pixel = (size_t)w->from.channels * w->activation_bytes;
    size_t line = (size_t)(width + 2) * pixel, run = (size_t)side * pixel;
    unsigned char *out = m->columns;
    for (int i = first; i < first + count; i++) {
        const unsigned char *corner =
            m->band + (size_t)(i / width + down) * line + (size_t)(i % width + right) * pixel;
        for (int y = 0; y < side; y++, out += run)
            memcpy(out, corner + (size_t)y * line, run);
    }
}

/* The product of the gathered rows with one of the layer's matrices. */
static void multiply(const struct bw_conv *conv, int matrix, const struct member *m, int count,
                     enum bw_sink store, void *y, size_t pixel_bytes)
{
    int inputs = conv->inputs * conv->side * conv->side;
    size_t bytes =
        store == BW_STORE_ACTIVATION ? (size_t)conv->kernels->activation_bytes : sizeof(float);
    size_t packed = matrix ? conv->kernels->packed_bytes(conv->outputs, inputs) : 0;
    conv->kernels->product(&(struct bw_product){
        .rows = count,
        .outputs = conv->outputs,
        .inputs = inputs,
        .a = m->columns,
        .a_stride = bw_kernels_stride(inputs),
        .w = (const unsigned char *)conv->w + (size_t)matrix * packed,
        .bias = conv->b,
        .gate = conv->ones,
        .store = store,
        .y = y,
        .y_stride = (int)(pixel_bytes / bytes),
        .scratch = (void *)m->product,
    });
}

/* Pixels of the picture from floats. */
static void finish_pixels(const struct job *j, const float *v, size_t first, int count)
{
    if (j->image)
        memcpy(j->image + first * RGB, v, (size_t)count * RGB * sizeof *v);
    unsigned char *out = j->rgb + first * RGB;
    for (int i = 0; i < count * RGB && j->rgb; i++) {
        float x = 127.5f * v[i] + 128;
        out[i] = (unsigned char)(x > 0 ? x < 255 ? x : 255 : 0); // not a number is 0
    }
}

/* The four pixels that each of a block becomes: each kind of them sees two by two pixels, by a
 * matrix of its own. */
static void multiply_enlarged(const struct conv_work *w, const struct member *m, int top, int done,
                              int count)
{
    size_t bytes = (size_t)w->conv->outputs *
                   (w->store == BW_STORE_ACTIVATION ? w->activation_bytes : sizeof(float));
    for (int matrix = 0; matrix < 4; matrix++) {
        int right = matrix % 2, down = matrix / 2;
        const unsigned char *from = m->product;
        gather(w, m, done, count, right, down);
        multiply(w->conv, matrix, m, count, w->store, m->product, bytes);
        for (int i = done; i < done + count; i++, from += bytes) {
            int x = 2 * (i % w->from.width) + right, y = 2 * (top + i / w->from.width) + down;
            size_t pixel = (size_t)y * (size_t)w->to.width + (size_t)x;
            memcpy(w->to.at + pixel * w->to.pixel_bytes, from, bytes);
        }
    }
}

/* A block of pixels of the band that begins at row `top`, from its pixel `done` on. */
static void run_block(const struct conv_work *w, const struct member *m, int top, int done,
                      int count)
{
    size_t first = (size_t)top * (size_t)w->from.width + (size_t)done;
    unsigned char *to = w->ends ? m->product : w->to.at + first * w->to.pixel_bytes;
    if (w->before) { // its pixels lie where the results go
        prepare(w, &w->before_from, w->before->kernels, PLAIN, first, count, m->columns);
        multiply(w->before, 0, m, count, BW_STORE_FLOAT, to, w->to.pixel_bytes);
    }
    if (w->conv->side == 2) {
        multiply_enlarged(w, m, top, done, count);
        return;
    }
    if (w->conv->side == 3)
        gather(w, m, done, count, 0, 0);
    else
        prepare(w, &w->from, w->conv->kernels, w->what, first, count, m->columns);
    multiply(w->conv, 0, m, count, w->store, to, w->to.pixel_bytes);
    if (w->ends)
        finish_pixels(w->job, (const void *)to, first, count);
}

/* Task: one band of rows. */
static void run_conv(void *context, int task, int member)
{
    const struct conv_work *w = context;
    const struct member *m = &w->job->members[member];
    int top = task * w->band_rows, rows = smaller(w->band_rows, w->from.height - top);
    size_t line = (size_t)(w->from.width + 2) * (size_t)w->from.channels * w->activation_bytes;
    for (int y = -1; y <= rows && w->conv->side > 1; y++)
        prepare_row(w, top + y, m->band + (size_t)(y + 1) * line);
    for (int done = 0, count; done < rows * w->from.width; done += count) {
        count = smaller(BLOCK_PIXELS, rows * w->from.width - done);
        run_block(w, m, top, done, count);
    }
    int times = w->to.height / w->from.height;
    for (int y = top * times; y < (top + rows) * times && w->sums; y++)
        sum_row(w->job, m, &w->to, y);
}

/* Whole rows of at least a block, more where there are many. */
static int band_rows(const struct bw_decoder *d, int width, int height)
{
    int least = (BLOCK_PIXELS + width - 1) / width, most = smaller(BAND_ROWS, height / BANDS);
    return d->band_rows ? d->band_rows : least > most ? least : most;
}

static void convolve(struct job *j, struct conv_work w)
{
    const struct bw_conv *conv = w.conv;
    size_t side = (size_t)conv->side, width = (size_t)w.from.width;
    size_t inputs = side * side * (size_t)conv->inputs;
    size_t channels = (size_t)w.from.channels, outputs = (size_t)conv->outputs;
    w.job = j;
    w.activation_bytes = (size_t)conv->kernels->activation_bytes;
    w.band_rows = band_rows(j->decoder, w.from.width, w.from.height);
    assert(conv->inputs == w.from.channels);

    double work = 2.0 * w.to.width * w.to.height * (double)outputs;
    j->flops += work * (double)(inputs + (w.before ? (size_t)w.before->inputs : 0));
    inputs = larger(inputs, w.before ? (size_t)w.before->inputs : 0);
    at_least(&j->needs.band,
             ((size_t)w.band_rows + 2) * (width + 2) * channels * w.activation_bytes);
    at_least(&j->needs.columns, BLOCK_PIXELS * inputs * w.activation_bytes);
    at_least(&j->needs.product, BLOCK_PIXELS * outputs * sizeof(float));
    at_least(&j->needs.member_sums, 2 * outputs * sizeof(double));
    at_least(&j->needs.sums, (size_t)w.to.height * 2 * (size_t)j->decoder->groups * sizeof(double));
    if (j->team)
        bw_team_run(j->team, run_conv, &w, (w.from.height + w.band_rows - 1) / w.band_rows);
}

/* ---- attention ---- */

struct attention_work {
    struct job *job;
    struct plane qkv, out;
};

/* Task: some queries. */
static void run_attention(void *context, int task, int member)
{
    const struct attention_work *w = context;
    int tokens = w->qkv.width * w->qkv.height, first = task * QUERIES, width = w->out.channels;
    const struct bw_kernels *kernels = w->job->decoder->kernels;
    size_t head = (size_t)width * (size_t)kernels->activation_bytes;
    kernels->attention(&(struct bw_attention){
        .queries = smaller(QUERIES, tokens - first),
        .tokens = tokens,
        .width = width,
        .q = w->qkv.at + (size_t)first * w->qkv.pixel_bytes,
        .k = w->qkv.at + head,
        .v = w->qkv.at + 2 * head,
        .stride = 3 * width,
        .out = w->out.at + (size_t)first * w->out.pixel_bytes,
        .out_stride = width,
        .scratch = w->job->members[member].attention,
    });
}

static void attend(struct job *j, const struct plane *x)
{
    const struct bw_decoder *d = j->decoder;
    int tokens = x->width * x->height;
    size_t pixel = (size_t)x->channels * element_bytes(j, true);
    // Queries, keys and values of all pixels, and behind them what comes of them.
    struct plane both = take(j, !j->side, x->width, x->height, x->channels, true, 4 * pixel);
    struct plane qkv = both, out = both;
    qkv.channels = 3 * x->channels;
    qkv.pixel_bytes = 3 * pixel;
    out.pixel_bytes = pixel;
    if (j->team)
        out.at = both.at + (size_t)tokens * qkv.pixel_bytes;
    norm(j, x, &d->attention_norm);
    convolve(
        j, (struct conv_work){
               .conv = &d->qkv, .from = *x, .to = qkv, .what = NORM, .store = BW_STORE_ACTIVATION});
    at_least(&j->needs.attention, d->kernels->attention_bytes(tokens, x->channels));
    j->flops += 4.0 * tokens * tokens * x->channels;
    if (j->team)
        bw_team_run(j->team, run_attention, &(struct attention_work){j, qkv, out},
                    (tokens + QUERIES - 1) / QUERIES);
    convolve(
        j,
        (struct conv_work){
            .conv = &d->projection, .from = out, .to = *x, .store = BW_STORE_GATED, .sums = true});
}

/* ---- the network ---- */

/* The stream after a residual layer, in place of the stream before. */
static struct plane resnet(struct job *j, struct plane x, const struct bw_resnet *r)
{
    int channels = r->conv1.outputs;
    struct plane h = take(j, !j->side, x.width, x.height, channels, true,
                          (size_t)channels * element_bytes(j, true));
    struct plane y = x;
    y.channels = channels;
    y.narrow = false;
    norm(j, &x, &r->norm1);
    convolve(j, (struct conv_work){.conv = &r->conv1,
                                   .from = x,
                                   .to = h,
                                   .what = NORM_SILU,
                                   .store = BW_STORE_ACTIVATION,
                                   .sums = true});
    norm(j, &h, &r->norm2);
    convolve(j, (struct conv_work){.conv = &r->conv2,
                                   .from = h,
                                   .to = y,
                                   .what = NORM_SILU,
                                   .store = BW_STORE_GATED,
                                   .before = r->shortcut.w ? &r->shortcut : NULL,
                                   .before_from = x,
                                   .sums = true});
    return y;
}

/* A plane for the stream of a level, of which the first layer gets so many channels. */
static struct plane take_stream(struct job *j, int side, int width, int height, int channels,
                                bool narrow, const struct bw_decoder_level *level)
{
    size_t before = (size_t)channels * element_bytes(j, narrow);
    size_t after = (size_t)level->resnets[0].conv1.outputs * sizeof(float);
    return take(j, side, width, height, channels, narrow, larger(before, after));
}

/* The first plane: latents, scaled, and through their own layer if there is one. */
static struct plane begin(struct job *j, int width, int height)
{
    const struct bw_decoder *d = j->decoder;
    struct plane z =
        take(j, 1, width, height, BW_DECODER_CHANNELS, false, sizeof(float) * BW_DECODER_CHANNELS);
    size_t count = (size_t)width * (size_t)height;
    float *out = (void *)z.at;
    for (size_t i = 0; i < count && j->team; i++, out += BW_DECODER_CHANNELS) {
        float in[BW_DECODER_CHANNELS];
        for (size_t c = 0; c < BW_DECODER_CHANNELS; c++)
            in[c] = (float)(j->latent[c * count + i] / d->scaling);
        for (size_t c = 0; c < BW_DECODER_CHANNELS; c++) {
            out[c] = d->quant_w ? d->quant_b[c] : in[c];
            for (size_t k = 0; k < BW_DECODER_CHANNELS && d->quant_w; k++)
                out[c] += d->quant_w[c * BW_DECODER_CHANNELS + k] * in[k];
        }
    }
    return z;
}

/* What comes after level `i`: the stream of the next, twice as large. A stream that goes through a
 * shortcut is rounded there anyway. */
static struct plane enlarge(struct job *j, struct plane x, int i)
{
    const struct bw_decoder_level *level = &j->decoder->levels[i];
    bool narrow = level[1].resnets[0].shortcut.w;
    struct plane y =
        take_stream(j, !j->side, 2 * x.width, 2 * x.height, x.channels, narrow, level + 1);
    convolve(j, (struct conv_work){.conv = &level->upsampler,
                                   .from = x,
                                   .to = y,
                                   .store = narrow ? BW_STORE_ACTIVATION : BW_STORE_FLOAT,
                                   .sums = true});
    j->side = !j->side;
    return y;
}

static void walk(struct job *j, int width, int height)
{
    const struct bw_decoder *d = j->decoder;
    struct plane z = begin(j, width, height);
    j->side = 0;
    struct plane x = take_stream(j, j->side, width, height, d->in.outputs, false, &d->levels[0]);
    convolve(j, (struct conv_work){
                    .conv = &d->in, .from = z, .to = x, .store = BW_STORE_FLOAT, .sums = true});
    x = resnet(j, x, &d->mid[0]);
    attend(j, &x);
    x = resnet(j, x, &d->mid[1]);
    for (int i = 0; i < BW_DECODER_LEVELS; i++) {
        for (int k = 0; k < d->levels[i].resnet_count; k++)
            x = resnet(j, x, &d->levels[i].resnets[k]);
        if (i + 1 < BW_DECODER_LEVELS)
            x = enlarge(j, x, i);
    }
    struct plane rgb = {
        .width = x.width, .height = x.height, .channels = RGB, .pixel_bytes = RGB * sizeof(float)};
    norm(j, &x, &d->out_norm);
    convolve(j, (struct conv_work){.conv = &d->out,
                                   .from = x,
                                   .to = rgb,
                                   .what = NORM_SILU,
                                   .store = BW_STORE_FLOAT,
                                   .ends = true});
}

static void carve(struct bw_arena *arena, struct job *j, int threads)
{
    const struct needs *n = &j->needs;
    for (int side = 0; side < 2; side++)
        j->areas[side] = bw_arena_take(arena, n->areas[side], 1);
    j->sums = bw_arena_take(arena, n->sums, 1);
    j->affine = bw_arena_take(arena, n->affine, 1);
    j->members = BW_TAKE(arena, struct member, (size_t)threads);
    for (int i = 0; i < threads; i++) {
        struct member m = {.band = bw_arena_take(arena, n->band, 1),
                           .columns = bw_arena_take(arena, n->columns, 1),
                           .product = bw_arena_take(arena, n->product, 1),
                           .sums = bw_arena_take(arena, n->member_sums, 1),
                           .attention = bw_arena_take(arena, n->attention, 1)};
        if (j->members)
            j->members[i] = m;
    }
}

/* The walk that measures. */
static struct job measure(const struct bw_decoder *decoder, int width, int height)
{
    struct job job = {.decoder = decoder};
    walk(&job, width, height);
    return job;
}

double bw_decoder_flops(const struct bw_decoder *decoder, int width, int height)
{
    return measure(decoder, width, height).flops;
}

size_t bw_decoder_bytes(const struct bw_decoder *decoder, int threads, int width, int height)
{
    struct job job = measure(decoder, width, height);
    struct bw_arena arena = {0};
    carve(&arena, &job, threads);
    return arena.used_bytes;
}

int bw_decode(const struct bw_decoder *decoder, struct bw_team *team, const float *latent,
              int width, int height, unsigned char *rgb, float *image, struct bw_err *err)
{
    assert(width > 0 && height > 0);
    struct job job = measure(decoder, width, height);
    struct bw_arena arena = {0};
    carve(&arena, &job, bw_team_threads(team));
    int code = bw_arena_reserve(&arena, err);
    if (code)
        return code;
    carve(&arena, &job, bw_team_threads(team));
    job.team = team;
    job.latent = latent;
    job.rgb = rgb;
    job.image = image;
    walk(&job, width, height);
    bw_arena_release(&arena);
    return BW_OK;
}
