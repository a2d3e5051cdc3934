/* Decoders of random weights with every set of kernels this CPU can run: against a network written
 * down plainly in double precision, from the same file; that teams and bands make no difference;
 * and files that differ from a good one in a single thing. */
#include "engine/decoder.h"

#include "engine/decoder_weights.h"
#include "tests/unit/check.h"
#include "tests/unit/decoders.h"
#include "tests/unit/kernels.h"

enum { CHANNELS = BW_DECODER_CHANNELS, SCALE = BW_DECODER_SCALE };

/* ---- the plain network ---- */

struct image {
    int channels, width, height;
    double *at; // [channels, height, width]
};

static struct image new_image(int channels, int width, int height)
{
    struct image i = {channels, width, height, NULL};
    i.at = calloc((size_t)channels * (size_t)width * (size_t)height, sizeof *i.at);
    if (!i.at)
        abort();
    return i;
}

static void replace(struct image *old, struct image new)
{
    free(old->at);
    *old = new;
}

static double value_at(const struct image *i, int c, int x, int y)
{
    bool inside = x >= 0 && x < i->width && y >= 0 && y < i->height;
    return inside ? i->at[(c * i->height + y) * i->width + x] : 0;
}

static double around(const struct image *from, const float *w, int side, int x, int y)
{
    double sum = 0;
    for (int c = 0; c < from->channels; c++)
        for (int v = 0; v < side; v++)
            for (int u = 0; u < side; u++)
                sum += *w++ * value_at(from, c, x + u - side / 2, y + v - side / 2);
    return sum;
}

static struct image plain_conv(const struct decoder_file *f, const char *prefix,
                               const struct image *from, int outputs, int side)
{
    struct image to = new_image(outputs, from->width, from->height);
    const float *w = decoder_tensor(f, prefix, ".weight"), *b = decoder_tensor(f, prefix, ".bias");
    double *at = to.at;
    for (int o = 0; o < outputs; o++, w += from->channels * side * side)
        for (int y = 0; y < to.height; y++)
            for (int x = 0; x < to.width; x++)
                *at++ = b[o] + around(from, w, side, x, y);
    return to;
}

static struct image plain_norm(const struct decoder_file *f, const char *prefix,
                               const struct image *from, int groups, bool silu)
{
    struct image to = new_image(from->channels, from->width, from->height);
    const float *w = decoder_tensor(f, prefix, ".weight"), *b = decoder_tensor(f, prefix, ".bias");
    int area = from->width * from->height, size = from->channels / groups * area;
    for (int g = 0; g < groups; g++) {
        double mean = 0, variance = 0;
        for (int i = g * size; i < (g + 1) * size; i++)
            mean += from->at[i] / size;
        for (int i = g * size; i < (g + 1) * size; i++)
            variance += (from->at[i] - mean) * (from->at[i] - mean) / size;
        for (int i = g * size; i < (g + 1) * size; i++) {
            double y = (from->at[i] - mean) / sqrt(variance + 1e-6) * w[i / area] + b[i / area];
            to.at[i] = silu ? y / (1 + exp(-y)) : y;
        }
    }
    return to;
}

static void add(struct image *to, const struct image *more)
{
    for (int i = 0; i < to->channels * to->width * to->height; i++)
        to->at[i] += more->at[i];
}

static void plain_resnet(const struct decoder_file *f, const char *prefix, struct image *x,
                         int outputs, int groups)
{
    char norm1[100], conv1[100], norm2[100], conv2[100], shortcut[100];
    snprintf(norm1, sizeof norm1, "%s.norm1", prefix);
    snprintf(conv1, sizeof conv1, "%s.conv1", prefix);
    snprintf(norm2, sizeof norm2, "%s.norm2", prefix);
    snprintf(conv2, sizeof conv2, "%s.conv2", prefix);
    snprintf(shortcut, sizeof shortcut, "%s.conv_shortcut", prefix);
    struct image h = plain_norm(f, norm1, x, groups, true);
    replace(&h, plain_conv(f, conv1, &h, outputs, 3));
    replace(&h, plain_norm(f, norm2, &h, groups, true));
    replace(&h, plain_conv(f, conv2, &h, outputs, 3));
    if (x->channels != outputs)
        replace(x, plain_conv(f, shortcut, x, outputs, 1));
    add(x, &h);
    free(h.at);
}

/* One pixel's row of weights over all pixels, and what it mixes. */
static void plain_query(const struct image *q, const struct image *k, const struct image *v,
                        int pixel, double *weights, struct image *out)
{
    int area = q->width * q->height;
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < area; i++) {
        weights[i] = 0;
        for (int c = 0; c < q->channels; c++)
            weights[i] += q->at[c * area + pixel] * k->at[c * area + i] / sqrt(q->channels);
        most = fmax(most, weights[i]);
    }
    for (int i = 0; i < area; i++) {
        weights[i] = exp(weights[i] - most);
        sum += weights[i];
    }
    for (int c = 0; c < q->channels; c++)
        for (int i = 0; i < area; i++)
            out->at[c * area + pixel] += weights[i] / sum * v->at[c * area + i];
}

static void plain_attention(const struct decoder_file *f, struct image *x, int groups, bool old)
{
    static const char *const names[2][4] = {{"to_q", "to_k", "to_v", "to_out.0"},
                                            {"query", "key", "value", "proj_attn"}};
    char prefix[4][100];
    for (int i = 0; i < 4; i++)
        snprintf(prefix[i], sizeof prefix[i], "decoder.mid_block.attentions.0.%s", names[old][i]);
    int n = x->channels, area = x->width * x->height;
    struct image h = plain_norm(f, "decoder.mid_block.attentions.0.group_norm", x, groups, false);
    struct image q = plain_conv(f, prefix[0], &h, n, 1), k = plain_conv(f, prefix[1], &h, n, 1);
    struct image v = plain_conv(f, prefix[2], &h, n, 1), out = new_image(n, x->width, x->height);
    double *weights = calloc((size_t)area, sizeof *weights);
    for (int i = 0; i < area && weights; i++)
        plain_query(&q, &k, &v, i, weights, &out);
    replace(&out, plain_conv(f, prefix[3], &out, n, 1));
    add(x, &out);
    free(weights);
    free(h.at);
    free(q.at);
    free(k.at);
    free(v.at);
    free(out.at);
}

static struct image plain_enlarged(const struct image *from)
{
    struct image to = new_image(from->channels, 2 * from->width, 2 * from->height);
    double *at = to.at;
    for (int c = 0; c < to.channels; c++)
        for (int y = 0; y < to.height; y++)
            for (int x = 0; x < to.width; x++)
                *at++ = value_at(from, c, x / 2, y / 2);
    return to;
}

static struct image plain_decode(const struct decoder_file *f, const struct decoder_shape *s,
                                 const float *latent, int width, int height)
{
    struct image x = new_image(CHANNELS, width, height);
    for (int i = 0; i < CHANNELS * width * height; i++)
        x.at[i] = latent[i] / 0.18215;
    if (s->quant)
        replace(&x, plain_conv(f, "post_quant_conv", &x, CHANNELS, 1));
    replace(&x, plain_conv(f, "decoder.conv_in", &x, s->channels[0], 3));
    plain_resnet(f, "decoder.mid_block.resnets.0", &x, s->channels[0], s->groups);
    plain_attention(f, &x, s->groups, s->old);
    plain_resnet(f, "decoder.mid_block.resnets.1", &x, s->channels[0], s->groups);
    for (int i = 0; i < DECODER_LEVELS; i++) {
        char name[100];
        for (int k = 0; k < s->layers[i]; k++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, k);
            plain_resnet(f, name, &x, s->channels[i], s->groups);
        }
        if (i + 1 == DECODER_LEVELS)
            break;
        snprintf(name, sizeof name, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        replace(&x, plain_enlarged(&x));
        replace(&x, plain_conv(f, name, &x, s->channels[i], 3));
    }
    replace(&x, plain_norm(f, "decoder.conv_norm_out", &x, s->groups, true));
    replace(&x, plain_conv(f, "decoder.conv_out", &x, 3, 3));
    return x;
}

/* ---- comparing ---- */

static const struct decoder_shape shapes[] = {
    {{16, 16, 16, 16}, {1, 1, 1, 1}, 4, false, false},
    {{48, 32, 32, 16}, {2, 1, 2, 2}, 8, true, false},
    {{16, 48, 80, 32}, {1, 2, 1, 1}, 16, true, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, MOST_PIXELS = 16 * 16 };

static float latent[CHANNELS * MOST_PIXELS];
static float image[3 * SCALE * SCALE * MOST_PIXELS], again[3 * SCALE * SCALE * MOST_PIXELS];
static unsigned char rgb[3 * SCALE * SCALE * MOST_PIXELS];

static void fill_latent(void)
{
    uint64_t seed = 5;
    random_fill(&seed, 0.4f, sizeof latent / sizeof *latent, latent);
}

static struct bw_decoder *read_good(const struct decoder_file *f, const struct bw_kernels *k)
{
    struct bw_decoder *decoder = NULL;
    struct bw_err err = {0};
    if (decoder_read(f, k, &decoder, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return decoder;
}

/* With a team of so many threads. */
static void decode_floats(const struct bw_decoder *decoder, int threads, int width, int height,
                          float *out)
{
    struct bw_team *team;
    struct bw_err err = {0};
    if (bw_team_new(&team, threads, &err) ||
        bw_decode(decoder, team, latent, width, height, NULL, out, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    bw_team_free(team);
}

static struct comparison {
    const struct decoder_shape *shape;
    struct decoder_file file;
    int width, height;
    struct image want;
} at_hand;

static void compare(const struct bw_kernels *k)
{
    const struct comparison *c = &at_hand;
    struct bw_decoder *decoder = read_good(&c->file, k);
    int area = c->width * c->height * SCALE * SCALE;
    double squares = 0, off = 0;
    decode_floats(decoder, 1, c->width, c->height, image);
    for (int i = 0; i < 3 * area; i++) {
        double want = c->want.at[i % 3 * area + i / 3], d = image[i] - want;
        squares += want * want;
        off += d * d;
    }
    double relative = sqrt(off / squares);
    CHECK_OF(squares > 0 && relative < (is_bf16(k) ? 0.03 : 1e-4), "%s: %dx%d off by %g", k->name,
             c->width, c->height, relative);
    bw_decoder_free(decoder);
}

static void plain_network(void)
{
    static const int sizes[][2] = {{1, 1}, {5, 3}, {3, 7}};
    fill_latent();
    for (int s = 0; s < SHAPES; s++) {
        at_hand.shape = &shapes[s];
        at_hand.file = decoder_open(&shapes[s], (uint64_t)s);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            at_hand.width = sizes[i][0];
            at_hand.height = sizes[i][1];
            at_hand.want =
                plain_decode(&at_hand.file, &shapes[s], latent, sizes[i][0], sizes[i][1]);
            each_set(compare);
            free(at_hand.want.at);
        }
        decoder_close(&at_hand.file);
    }
}

/* ---- bits ---- */

static void check_teams(const struct bw_kernels *k)
{
    static const int sizes[][2] = {{16, 16}, {7, 9}};
    struct decoder_file file = decoder_open(&shapes[1], 3);
    struct bw_decoder *decoder = read_good(&file, k);
    for (int i = 0; i < 2; i++) {
        int width = sizes[i][0], height = sizes[i][1];
        size_t bytes = sizeof(float) * 3 * SCALE * SCALE * (size_t)(width * height);
        decode_floats(decoder, 1, width, height, image);
        for (int threads = 2; threads <= 5; threads += 3) {
            decode_floats(decoder, threads, width, height, again);
            CHECK_OF(memcmp(image, again, bytes) == 0, "%s: %d threads, %dx%d", k->name, threads,
                     width, height);
        }
    }
    bw_decoder_free(decoder);
    decoder_close(&file);
}

static void teams_make_no_difference(void)
{
    fill_latent();
    each_set(check_teams);
}

/* One band of all rows is the whole picture at once. */
static void check_bands(const struct bw_kernels *k)
{
    static const int bands[] = {1, 2, 5, 8};
    struct decoder_file file = decoder_open(&shapes[2], 4);
    struct bw_decoder *decoder = read_good(&file, k);
    const int width = 9, height = 11;
    decoder->band_rows = SCALE * height;
    decode_floats(decoder, 1, width, height, image);
    for (size_t i = 0; i < sizeof bands / sizeof *bands && is_own(k); i++) {
        decoder->band_rows = bands[i];
        decode_floats(decoder, 2, width, height, again);
        CHECK_OF(memcmp(image, again, sizeof(float) * 3 * SCALE * SCALE * width * height) == 0,
                 "%s: bands of %d rows", k->name, bands[i]);
    }
    bw_decoder_free(decoder);
    decoder_close(&file);
}

static void bands_make_no_difference(void)
{
    fill_latent();
    each_set(check_bands);
}

static void bytes_are_rounded_floats(void)
{
    struct decoder_file file = decoder_open(&shapes[1], 6);
    struct bw_decoder *decoder = read_good(&file, &bw_kernels_portable);
    struct bw_team *team;
    const int width = 6, height = 4, count = 3 * SCALE * SCALE * width * height;
    int ends = 0;
    fill_latent();
    decode_floats(decoder, 1, width, height, image);
    REQUIRE(bw_team_new(&team, 1, NULL) == BW_OK);
    CHECK_INT(bw_decode(decoder, team, latent, width, height, rgb, NULL, NULL), BW_OK);
    for (int i = 0; i < count; i++) {
        float x = floorf(127.5f * image[i] + 128);
        int want = x < 0 ? 0 : x > 255 ? 255 : (int)x;
        ends += want == 0 || want == 255;
        CHECK_OF(rgb[i] == want, "%d: %g is %d, not %d", i, image[i], rgb[i], want);
    }
    CHECK(ends > 0 && ends < count);
    bw_team_free(team);
    bw_decoder_free(decoder);
    decoder_close(&file);
}

/* ---- files ---- */

static const struct decoder_shape *const small = &shapes[1];

static void check_refused(struct decoder_file *f, const char *name, const char *reason)
{
    struct bw_decoder *decoder = NULL;
    struct bw_err err = {0};
    CHECK_INT(decoder_read(f, &bw_kernels_portable, &decoder, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, name);
    CHECK_HOLDS(err.message, reason);
    CHECK(!decoder);
    bw_decoder_free(decoder);
    decoder_close(f);
}

static void rename_tensor(struct decoder_file *f, const char *from, const char *to)
{
    json_object_set(f->header, to, json_object_get(f->header, from));
    json_object_del(f->header, from);
}

static void missing_tensors(void)
{
    static const char *const names[] = {"post_quant_conv.bias",
                                        "decoder.conv_in.weight",
                                        "decoder.conv_in.bias",
                                        "decoder.mid_block.resnets.1.norm2.bias",
                                        "decoder.mid_block.attentions.0.group_norm.weight",
                                        "decoder.mid_block.attentions.0.to_k.weight",
                                        "decoder.mid_block.attentions.0.to_out.0.bias",
                                        "decoder.up_blocks.0.resnets.0.conv1.weight",
                                        "decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
                                        "decoder.up_blocks.2.upsamplers.0.conv.weight",
                                        "decoder.up_blocks.3.resnets.1.conv2.bias",
                                        "decoder.conv_norm_out.weight",
                                        "decoder.conv_out.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct decoder_file f = decoder_open(small, 1);
        rename_tensor(&f, names[i], "other");
        check_refused(&f, names[i], "missing");
    }
}

static void extra_tensors(void)
{
    static const char *const names[] = {
        "decoder.mid_block.attentions.0.query.bias", "decoder.up_blocks.4.resnets.0.conv1.weight",
        "decoder.up_blocks.3.upsamplers.0.conv.weight", "post_quant_conv.x"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct decoder_file f = decoder_open(small, 1);
        decoder_name(&f, names[i], 1, (int[]){16}, 1, 0);
        check_refused(&f, names[i], "not part of the decoder");
    }
    struct decoder_file f = decoder_open(small, 1);
    decoder_name(&f, "quant_conv.weight", 1, (int[]){8}, 1, 0);
    decoder_name(&f, "decoders", 1, (int[]){8}, 1, 0);
    bw_decoder_free(read_good(&f, &bw_kernels_portable));
    decoder_close(&f);
}

static void wrong_shapes(void)
{
    static const struct {
        const char *name, *shape, *reason;
    } cases[] = {
        {"decoder.conv_in.weight", "[48,36]", "outputs are not"},
        {"decoder.conv_in.weight", "[72,4,2,3]", "8 groups"},
        {"decoder.conv_in.weight", "[48,4,9,1]", "wants [48,4,3,3]"},
        {"decoder.up_blocks.0.resnets.0.conv1.weight", "[20736]", "outputs are not"},
        {"decoder.up_blocks.0.resnets.0.conv1.weight", "[0,48,3,3]", "data_offsets"},
        {"decoder.mid_block.resnets.0.norm1.weight", "[6,8]", "wants [48]"},
        {"decoder.mid_block.attentions.0.to_v.weight", "[48,3,16]", "wants [48,48]"},
        {"decoder.mid_block.attentions.0.to_v.weight", "[2304]", "wants [48,48]"},
        {"decoder.up_blocks.3.resnets.0.conv_shortcut.weight", "[32,16]", "wants [16,32]"},
        {"decoder.conv_out.weight", "[16,3,3,3]", "wants [3,16,3,3]"},
        {"post_quant_conv.weight", "[2,8,1,1]", "wants [4,4]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct decoder_file f = decoder_open(small, 1);
        json_object_set_new(json_object_get(f.header, cases[i].name), "shape",
                            json_loads(cases[i].shape, 0, NULL));
        check_refused(&f, cases[i].name, cases[i].reason);
    }
}

static void wrong_dtype(void)
{
    struct decoder_file f = decoder_open(small, 1);
    json_t *entry = json_object_get(f.header, "decoder.conv_in.bias");
    json_object_set_new(entry, "dtype", json_string("U8"));
    json_object_set_new(entry, "shape", json_pack("[i]", 4 * 48));
    check_refused(&f, "decoder.conv_in.bias", "dtype is not a float");
}

static void weights_that_are_no_numbers(void)
{
    static const char *const names[] = {"decoder.conv_norm_out.bias",
                                        "decoder.mid_block.attentions.0.to_v.weight",
                                        "decoder.up_blocks.1.upsamplers.0.conv.weight"};
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        struct decoder_file f = decoder_open(small, 1);
        decoder_tensor(&f, names[i], "")[7] = values[i];
        check_refused(&f, names[i], "element 7 is not finite");
    }
}

static void metadata_is_checked(void)
{
    static const char *const bad[][2] = {
        {"norm_num_groups", "0"}, {"norm_num_groups", "x"},    {"norm_num_groups", "-1"},
        {"scaling_factor", "0"},  {"scaling_factor", "nan"},   {"scaling_factor", ""},
        {"scaling_factor", "-1"}, {"norm_num_groups", "4097"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct decoder_file f = decoder_open(small, 1);
        json_object_set_new(json_object_get(f.header, "__metadata__"), bad[i][0],
                            json_string(bad[i][1]));
        check_refused(&f, bad[i][0], "is not");
    }
    struct decoder_file f = decoder_open(small, 1); // of 32 groups 48 channels are no multiple
    json_object_del(f.header, "__metadata__");
    check_refused(&f, "decoder.conv_in.weight", "32 groups");
}

static void scaling_divides(void)
{
    struct decoder_file f = decoder_open(small, 1);
    struct bw_decoder *once = read_good(&f, &bw_kernels_portable);
    json_object_set_new(json_object_get(f.header, "__metadata__"), "scaling_factor",
                        json_string("0.7286"));
    struct bw_decoder *four = read_good(&f, &bw_kernels_portable);
    fill_latent();
    decode_floats(once, 1, 4, 4, image);
    for (size_t i = 0; i < sizeof latent / sizeof *latent; i++)
        latent[i] *= 4;
    decode_floats(four, 1, 4, 4, again);
    for (int i = 0; i < 3 * SCALE * SCALE * 16; i++)
        CHECK_NEAR(again[i], image[i], 1e-5);
    bw_decoder_free(once);
    bw_decoder_free(four);
    decoder_close(&f);
}

static void what_is_loaded(void)
{
    struct decoder_file f = decoder_open(small, 1);
    struct bw_decoder *decoder = read_good(&f, &bw_kernels_portable);
    CHECK_INT((long long)strlen(bw_decoder_digest(decoder)), 64);
    CHECK_INT((long long)bw_decoder_parameters(decoder),
              (long long)f.count - 3 * 3 - 3); // all but the encoder's
    // Work and memory of the planes grow with the area.
    double flops = bw_decoder_flops(decoder, 64, 8), more = bw_decoder_flops(decoder, 64, 16);
    CHECK_OF(more > 2 * flops && more < 2.1 * flops, "%g after %g", more, flops);
    double bytes = (double)bw_decoder_bytes(decoder, 2, 128, 128);
    double planes = 128. * SCALE * 128 * SCALE * (32 + 16) * sizeof(float);
    CHECK_OF(bytes > planes && bytes < 1.4 * planes, "%g, planes %g", bytes, planes);
    bw_decoder_free(decoder);
    bw_decoder_free(NULL);
    decoder_close(&f);
}

static void paths_are_named(void)
{
    struct bw_decoder *decoder = NULL;
    struct bw_err err = {0};
    CHECK_INT(bw_decoder_load(&decoder, "Makefile", &bw_kernels_portable, &err), BW_ESYNTAX);
    CHECK(strncmp(err.message, "Makefile: ", 10) == 0);
    err = (struct bw_err){0};
    CHECK_INT(bw_decoder_load(&decoder, "tests/models/tiny-pg-32.safetensors", &bw_kernels_portable,
                              &err),
              BW_ESYNTAX);
    CHECK_HOLDS(err.message, "tiny-pg-32.safetensors: tensor \"decoder.conv_in.weight\"");
    err = (struct bw_err){0};
    CHECK_INT(bw_decoder_load(&decoder, "/nonexistent", &bw_kernels_portable, &err), BW_EIO);
    CHECK(!decoder);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(plain_network),
                                              TEST(teams_make_no_difference),
                                              TEST(bands_make_no_difference),
                                              TEST(bytes_are_rounded_floats),
                                              TEST(missing_tensors),
                                              TEST(extra_tensors),
                                              TEST(wrong_shapes),
                                              TEST(wrong_dtype),
                                              TEST(weights_that_are_no_numbers),
                                              TEST(metadata_is_checked),
                                              TEST(scaling_divides),
                                              TEST(what_is_loaded),
                                              TEST(paths_are_named)};
    return CHECK_RUN("decoder", tests);
}
