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
    float *floats;          // [width, channels]
    float *product;         // [BLOCK_PIXELS, outputs]
    void *attention;        // the kernels'
};

/* Bytes of each, the largest of all that a walk asked for. */
struct needs {
    size_t areas[2], member[5], sums, affine;
};

struct job {
    const struct bw_decoder *decoder;
    struct bw_team *team; // NULL: the walk measures
    const float *latent;  // [4, height, width]
    unsigned char *rgb;   // [8*height, 8*width, RGB]
    struct needs needs;
    double flops;

    unsigned char *areas[2];
    int side; // the area that holds the stream
    struct member *members;
    double *sums;  // [rows of the picture, 2, groups] of values and squares
    float *affine; // [2, channels] factors and offsets of the norm at hand
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* A plane in one of the areas. */
static struct plane take(struct job *j, int side, int width, int height, int channels, bool narrow,
                         size_t pixel_bytes)
{
    size_t bytes = (size_t)width * (size_t)height * pixel_bytes;
    j->needs.areas[side] = larger(j->needs.areas[side], bytes);
    narrow = narrow && j->decoder->kernels->activation_bytes == sizeof(uint16_t);
    return (struct plane){j->areas[side], width, height, channels, narrow, pixel_bytes};
}

static size_t element_bytes(const struct job *j, bool narrow)
{
    return narrow ? (size_t)j->decoder->kernels->activation_bytes : sizeof(float);
}

/* ---- group norm ---- */

struct norm_work {
    struct job *job;
    struct plane from;
};

static float widened(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

/* Numbers of one pixel as floats. */
static const float *pixel_floats(const struct plane *p, size_t pixel, float *room)
{
    const unsigned char *at = p->at + pixel * p->pixel_bytes;
    if (!p->narrow)
        return (const float *)at;
    for (int i = 0; i < p->channels; i++)
        room[i] = widened(((const uint16_t *)at)[i]);
    return room;
}

/* Task: the sums of one row of the picture. */
static void run_sums(void *context, int task, int member)
{
    const struct norm_work *w = context;
    const struct plane *p = &w->from;
    int groups = w->job->decoder->groups, size = p->channels / groups;
    double *sums = w->job->sums + (size_t)task * 2 * (size_t)groups;
    memset(sums, 0, sizeof *sums * 2 * (size_t)groups);
    for (int x = 0; x < p->width; x++) {
        const float *v = pixel_floats(p, (size_t)task * (size_t)p->width + (size_t)x,
                                      w->job->members[member].floats);
        for (int g = 0; g < groups; g++) {
            for (int i = 0; i < size; i++, v++) {
                sums[g] += *v;
                sums[groups + g] += (double)*v * *v;
            }
        }
    }
}

/* Make job->affine what normalises the plane. */
static void norm(struct job *j, const struct plane *from, const struct bw_group_norm *n)
{
    int groups = j->decoder->groups, size = from->channels / groups;
    j->needs.sums = larger(j->needs.sums, (size_t)from->height * 2 * (size_t)groups);
    j->needs.affine = larger(j->needs.affine, 2 * (size_t)from->channels);
    j->needs.member[2] = larger(j->needs.member[2], sizeof(float) * (size_t)from->channels);
    if (!j->team)
        return;
    bw_team_run(j->team, run_sums, &(struct norm_work){j, *from}, from->height);
    double count = (double)from->width * from->height * size;
    for (int g = 0; g < groups; g++) {
        double sum = 0, squares = 0;
        for (int y = 0; y < from->height; y++) {
            sum += j->sums[(size_t)y * 2 * (size_t)groups + (size_t)g];
            squares += j->sums[((size_t)y * 2 + 1) * (size_t)groups + (size_t)g];
        }
        double mean = sum / count, variance = squares / count - mean * mean;
        double inverse = 1 / sqrt((variance > 0 ? variance : 0) + 1e-6);
        for (int c = g * size; c < (g + 1) * size; c++) {
            j->affine[c] = (float)(inverse * n->gain[c]);
            j->affine[from->channels + c] = (float)(n->shift[c] - mean * inverse * n->gain[c]);
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
    bool enlarge;                 // every pixel becomes four first
    enum bw_sink store;           // BW_STORE_GATED adds
    const struct bw_conv *before; // of `before_from`, stored in `to` first; or NULL
    struct plane before_from;
    bool pixels; // `to` is job->rgb
    int band_rows;
    const float *ones; // [outputs]
};

static const struct member *member_of(const struct conv_work *w, int member)
{
    return &w->job->members[member];
}

/* `count` pixels of a plane as activations of some kernels. */
static void prepare(const struct conv_work *w, const struct plane *from,
                    const struct bw_kernels *kernels, enum what what, size_t first, int count,
                    float *floats, void *out)
{
    int channels = from->channels;
    const float *factor = w->job->affine, *offset = factor + channels;
    float *to = floats;
    for (int i = 0; i < count; i++, to += channels) {
        const float *v = pixel_floats(from, first + (size_t)i, to);
        for (int c = 0; c < channels; c++)
            to[c] = what == PLAIN ? v[c] : v[c] * factor[c] + offset[c];
        for (int c = 0; c < channels && what == NORM_SILU; c++)
            to[c] = to[c] / (1 + expf(-to[c]));
    }
    kernels->narrow(count, channels, floats, out);
}

/* Row y of what is convolved, with a pixel of zeros on either side. */
static void prepare_row(const struct conv_work *w, const struct member *m, int y,
                        unsigned char *out)
{
    const struct bw_kernels *kernels = w->conv->kernels;
    size_t pixel = (size_t)w->from.channels * (size_t)kernels->activation_bytes;
    int width = w->to.width, shift = w->enlarge;
    if (y < 0 || y >= w->to.height) {
        memset(out, 0, (size_t)(width + 2) * pixel);
        return;
    }
    memset(out, 0, pixel);
    out += pixel;
    size_t first = (size_t)(y >> shift) * (size_t)w->from.width;
    prepare(w, &w->from, kernels, w->what, first, w->from.width, m->floats, out);
    for (int x = width - 1; x > 0 && w->enlarge; x--)
        memcpy(out + (size_t)x * pixel, out + (size_t)(x / 2) * pixel, pixel);
    memset(out + (size_t)width * pixel, 0, pixel);
}

/* Rows of a product: what lies around `count` pixels of the band. */
static const void *gather(const struct conv_work *w, const struct member *m, int first, int count)
{
    size_t pixel = (size_t)w->from.channels * (size_t)w->conv->kernels->activation_bytes;
    size_t line = (size_t)(w->to.width + 2) * pixel;
    unsigned char *out = m->columns;
    for (int i = first; i < first + count; i++) {
        const unsigned char *corner =
            m->band + (size_t)(i / w->to.width) * line + (size_t)(i % w->to.width) * pixel;
        for (int y = 0; y < 3; y++, out += 3 * pixel)
            memcpy(out, corner + (size_t)y * line, 3 * pixel);
    }
    return m->columns;
}

/* One product: `count` pixels of `to` from `first` on. */
static void multiply(const struct conv_work *w, const struct bw_conv *conv, const struct member *m,
                     enum bw_sink store, size_t first, int count)
{
    int inputs = conv->inputs * conv->side * conv->side;
    size_t bytes =
        store == BW_STORE_ACTIVATION ? (size_t)conv->kernels->activation_bytes : sizeof(float);
    struct bw_product p = {.rows = count,
                           .outputs = conv->outputs,
                           .inputs = inputs,
                           .a = m->columns,
                           .a_stride = bw_kernels_stride(inputs),
                           .w = conv->w,
                           .bias = conv->b,
                           .gate = w->ones,
                           .store = store,
                           .y = w->to.at + first * w->to.pixel_bytes,
                           .y_stride = (int)(w->to.pixel_bytes / bytes),
                           .scratch = m->product};
    if (w->pixels) {
        p.y = m->product;
        p.y_stride = RGB;
    }
    conv->kernels->product(&p);
}

static void to_bytes(const float *v, int count, unsigned char *out)
{
    for (int i = 0; i < count; i++) {
        float x = 127.5f * v[i] + 128;
        out[i] = (unsigned char)(x > 0 ? x < 255 ? x : 255 : 0); // NaN becomes 0
    }
}

/* Task: one band of rows. */
static void run_conv(void *context, int task, int member)
{
    const struct conv_work *w = context;
    const struct member *m = member_of(w, member);
    int top = task * w->band_rows, rows = smaller(w->band_rows, w->to.height - top);
    size_t pixel = (size_t)w->from.channels * (size_t)w->conv->kernels->activation_bytes;
    size_t line = (size_t)(w->to.width + 2) * pixel;
    for (int y = -1; y <= rows && w->conv->side > 1; y++)
        prepare_row(w, m, top + y, m->band + (size_t)(y + 1) * line);
    for (int done = 0, count; done < rows * w->to.width; done += count) {
        size_t first = (size_t)top * (size_t)w->to.width + (size_t)done;
        count = smaller(BLOCK_PIXELS, rows * w->to.width - done);
        if (w->before) {
            prepare(w, &w->before_from, w->before->kernels, PLAIN, first, count, m->floats,
                    m->columns);
            multiply(w, w->before, m, BW_STORE_FLOAT, first, count);
        }
        if (w->conv->side > 1)
            gather(w, m, done, count);
        else
            prepare(w, &w->from, w->conv->kernels, w->what, first, count, m->floats, m->columns);
        multiply(w, w->conv, m, w->store, first, count);
        if (w->pixels)
            to_bytes(m->product, count * RGB, w->job->rgb + first * RGB);
    }
}

/* Whole rows of at least a block, more where there are many. */
static int band_rows(int width, int height)
{
    int least = (BLOCK_PIXELS + width - 1) / width, most = smaller(BAND_ROWS, height / BANDS);
    return least > most ? least : most;
}

static void convolve(struct job *j, struct conv_work w)
{
    const struct bw_conv *conv = w.conv;
    size_t bytes = (size_t)conv->kernels->activation_bytes, side = (size_t)conv->side;
    size_t width = (size_t)w.to.width, channels = (size_t)w.from.channels;
    size_t *needs = j->needs.member;
    double inputs = (double)conv->inputs * conv->side * conv->side;
    w.job = j;
    w.band_rows = band_rows(w.to.width, w.to.height);
    if (w.before) {
        inputs += w.before->inputs;
        channels = larger(channels, (size_t)w.before->inputs);
    }
    j->flops += 2.0 * w.to.width * w.to.height * inputs * conv->outputs;
    needs[0] = larger(needs[0], ((size_t)w.band_rows + 2) * (width + 2) * channels * bytes);
    needs[1] = larger(needs[1], BLOCK_PIXELS * side * side * channels * bytes);
    needs[2] = larger(needs[2], larger(width, BLOCK_PIXELS) * channels * sizeof(float));
    needs[3] = larger(needs[3], BLOCK_PIXELS * (size_t)conv->outputs * sizeof(float));
    assert(conv->inputs == w.from.channels);
    if (!j->team)
        return;
    float ones[4096];
    for (int i = 0; i < conv->outputs && i < 4096; i++)
        ones[i] = 1;
    w.ones = ones;
    bw_team_run(j->team, run_conv, &w, (w.to.height + w.band_rows - 1) / w.band_rows);
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
    size_t *needs = &j->needs.member[4], pixel = (size_t)x->channels * element_bytes(j, true);
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
    *needs = larger(*needs, d->kernels->attention_bytes(tokens, x->channels));
    j->flops += 4.0 * tokens * tokens * x->channels;
    if (j->team)
        bw_team_run(j->team, run_attention, &(struct attention_work){j, qkv, out},
                    (tokens + QUERIES - 1) / QUERIES);
    convolve(
        j,
        (struct conv_work){
            .conv = &d->projection, .from = out, .to = *x, .what = PLAIN, .store = BW_STORE_GATED});
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
                                   .store = BW_STORE_ACTIVATION});
    norm(j, &h, &r->norm2);
    convolve(j, (struct conv_work){.conv = &r->conv2,
                                   .from = h,
                                   .to = y,
                                   .what = NORM_SILU,
                                   .store = BW_STORE_GATED,
                                   .before = r->shortcut.w ? &r->shortcut : NULL,
                                   .before_from = x});
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
    float *out = (float *)z.at;
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
                                   .what = PLAIN,
                                   .enlarge = true,
                                   .store = narrow ? BW_STORE_ACTIVATION : BW_STORE_FLOAT});
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
                    .conv = &d->in, .from = z, .to = x, .what = PLAIN, .store = BW_STORE_FLOAT});
    x = resnet(j, x, &d->mid[0]);
    attend(j, &x);
    x = resnet(j, x, &d->mid[1]);
    for (int i = 0; i < BW_DECODER_LEVELS; i++) {
        for (int k = 0; k < d->levels[i].resnet_count; k++)
            x = resnet(j, x, &d->levels[i].resnets[k]);
        if (i + 1 < BW_DECODER_LEVELS)
            x = enlarge(j, x, i);
    }
    struct plane rgb = {.width = x.width, .height = x.height, .channels = RGB};
    norm(j, &x, &d->out_norm);
    convolve(j, (struct conv_work){.conv = &d->out,
                                   .from = x,
                                   .to = rgb,
                                   .what = NORM_SILU,
                                   .store = BW_STORE_FLOAT,
                                   .pixels = true});
}

static void carve(struct bw_arena *arena, struct job *j, int threads)
{
    const struct needs *n = &j->needs;
    for (int side = 0; side < 2; side++)
        j->areas[side] = bw_arena_take(arena, n->areas[side], 1);
    j->sums = BW_TAKE(arena, double, n->sums);
    j->affine = BW_TAKE(arena, float, n->affine);
    j->members = BW_TAKE(arena, struct member, (size_t)threads);
    for (int i = 0; i < threads; i++) {
        struct member m = {.band = bw_arena_take(arena, n->member[0], 1),
                           .columns = bw_arena_take(arena, n->member[1], 1),
                           .floats = bw_arena_take(arena, n->member[2], 1),
                           .product = bw_arena_take(arena, n->member[3], 1),
                           .attention = bw_arena_take(arena, n->member[4], 1)};
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
              int width, int height, unsigned char *rgb, struct bw_err *err)
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
    walk(&job, width, height);
    bw_arena_release(&arena);
    return BW_OK;
}
