/* Encoded pictures, decoded again by the libraries. */
#include "image/encode.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <jpeglib.h>
#include <png.h>
#include <webp/decode.h>
#include <webp/mux.h>

static const int sizes[][2] = {{1, 1}, {1, 7}, {7, 1}, {17, 5}, {128, 192}, {255, 3}};
enum { SIZES = sizeof sizes / sizeof *sizes, MOST = 128 * 192 * 3 };

static unsigned char rgb[MOST], decoded[MOST];

static const struct bw_encoding png = {.format = BW_FORMAT_PNG};

/* A tag, a quote, an ampersand and two lines: what some container may have to escape. */
static const char comment[] = "an apple\nSteps: 20, Size: 17x5, a < b && \"c\" > 'd'";

/* Encode twice, which has to give the same bytes; they replace those of `out`. */
static void encode(int width, int height, const struct bw_encoding *encoding, struct bw_buf *out)
{
    struct bw_buf again = {0};
    struct bw_err err = {0};
    bw_buf_release(out);
    CHECK_OF(bw_image_encode(rgb, width, height, encoding, out, &err) == BW_OK, "%s", err.message);
    REQUIRE(bw_image_encode(rgb, width, height, encoding, &again, NULL) == BW_OK);
    CHECK(out->length_bytes == again.length_bytes &&
          memcmp(out->data, again.data, out->length_bytes) == 0);
    bw_buf_release(&again);
}

static bool holds(const struct bw_buf *file, const char *bytes, size_t count)
{
    return memmem(file->data, file->length_bytes, bytes, count) != NULL;
}

/* Noise; without random numbers, a smooth picture. */
static void paint(int width, int height, uint64_t *random)
{
    for (int i = 0; i < width * height; i++) {
        int x = i % width, y = i / width;
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (unsigned char)(random ? (double)(random_next(random) & 255)
                                                    : 128 + 100 * sin(x * 0.03 + y * 0.02 + c));
    }
}

static void png_is_exact(void)
{
    uint64_t random = 11;
    struct bw_buf out = {0};
    for (int s = 0; s < SIZES; s++) {
        int w = sizes[s][0], h = sizes[s][1];
        paint(w, h, &random);
        encode(w, h, &png, &out);
        png_image image = {.version = PNG_IMAGE_VERSION};
        REQUIRE(png_image_begin_read_from_memory(&image, out.data, out.length_bytes));
        CHECK(image.width == (png_uint_32)w && image.height == (png_uint_32)h);
        CHECK_INT(image.format, PNG_FORMAT_RGB);
        REQUIRE(png_image_finish_read(&image, NULL, decoded, 0, NULL));
        CHECK_OF(memcmp(rgb, decoded, (size_t)(3 * w * h)) == 0, "%dx%d", w, h);
    }
    bw_buf_release(&out);
}

struct reader {
    const struct bw_buf *file;
    size_t at;
};

static void read_bytes(png_structp decoder, png_bytep bytes, size_t count)
{
    struct reader *r = png_get_io_ptr(decoder);
    if (r->at + count > r->file->length_bytes)
        png_error(decoder, "cut short");
    memcpy(bytes, r->file->data + r->at, count);
    r->at += count;
}

/* The text in front of the pixels has to be `want`, or none if that is NULL. */
static void check_png_text(const struct bw_buf *file, const char *want)
{
    struct reader reader = {.file = file};
    png_structp decoder = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(decoder);
    png_textp texts = NULL;
    png_set_read_fn(decoder, &reader, read_bytes);
    png_read_info(decoder, info);
    CHECK_INT(png_get_text(decoder, info, &texts, NULL), want ? 1 : 0);
    if (want && texts) {
        CHECK_INT(texts->compression, PNG_TEXT_COMPRESSION_NONE);
        CHECK_TEXT(texts->key, "parameters");
        CHECK_TEXT(texts->text, want);
    }
    png_destroy_read_struct(&decoder, &info, NULL);
}

static void png_comments(void)
{
    struct bw_buf out = {0};
    struct bw_encoding commented = png;
    uint64_t random = 13;
    commented.comment = comment;
    paint(17, 5, &random);
    encode(17, 5, &png, &out);
    check_png_text(&out, NULL);
    CHECK(!holds(&out, "tEXt", 4) && !holds(&out, "eXIf", 4) && !holds(&out, "tIME", 4));
    encode(17, 5, &commented, &out);
    check_png_text(&out, comment);
    png_image image = {.version = PNG_IMAGE_VERSION};
    REQUIRE(png_image_begin_read_from_memory(&image, out.data, out.length_bytes));
    REQUIRE(png_image_finish_read(&image, NULL, decoded, 0, NULL));
    CHECK(memcmp(rgb, decoded, 17 * 5 * 3) == 0);
    bw_buf_release(&out);
}

/* The file's one comment has to be `want`, or there is none if that is NULL. */
static void check_jpeg_comment(const struct jpeg_decompress_struct *jpeg, const char *want)
{
    const struct jpeg_marker_struct *marker = jpeg->marker_list;
    CHECK(!marker == !want);
    if (marker && want) {
        CHECK(marker->marker == JPEG_COM && !marker->next);
        CHECK(marker->data_length == strlen(want) &&
              memcmp(marker->data, want, marker->data_length) == 0);
    }
}

/* Decodes to `decoded` and compares with what was asked for; the standard error manager ends the
 * program, which no test survives. */
static void decode_jpeg(const struct bw_buf *file, int width, int height,
                        const struct bw_encoding *encoding)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, (unsigned char *)file->data, file->length_bytes);
    jpeg_save_markers(&jpeg, JPEG_COM, 0xffff);
    for (int i = 1; i < 16; i++)
        jpeg_save_markers(&jpeg, JPEG_APP0 + i, 0xffff); // EXIF would be one
    jpeg_read_header(&jpeg, TRUE);
    check_jpeg_comment(&jpeg, encoding->comment);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    CHECK(jpeg.output_width == (JDIMENSION)width && jpeg.output_height == (JDIMENSION)height);
    CHECK(jpeg.comp_info[0].h_samp_factor == 1 && jpeg.comp_info[0].v_samp_factor == 1);
    CHECK(!jpeg.progressive_mode == !encoding->progressive && jpeg.saw_JFIF_marker);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = decoded + (size_t)jpeg.output_scanline * (size_t)width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    CHECK_INT(errors.num_warnings, 0);
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
}

static void jpeg_is_close(void)
{
    struct bw_buf out = {0};
    for (int s = 0; s < 2 * SIZES; s++) {
        int w = sizes[s / 2][0], h = sizes[s / 2][1];
        const struct bw_encoding encoding = {.format = BW_FORMAT_JPEG,
                                             .quality = 95,
                                             .progressive = s % 2,
                                             .comment = s % 3 ? NULL : comment};
        paint(w, h, NULL);
        encode(w, h, &encoding, &out);
        decode_jpeg(&out, w, h, &encoding);
        CHECK_INT(holds(&out, "\xff\xc2", 2), s % 2); // SOF2 begins a progressive frame
        CHECK_INT(holds(&out, "\xff\xc0", 2), !(s % 2));
        for (int i = 0; i < 3 * w * h; i++)
            CHECK_OF(abs(rgb[i] - decoded[i]) <= 8, "%dx%d byte %d: %d and %d", w, h, i, rgb[i],
                     decoded[i]);
    }
    bw_buf_release(&out);
}

/* The order of the coefficients is all that differs. */
static void progressive_jpeg_is_the_same_picture(void)
{
    static unsigned char baseline[MOST];
    struct bw_encoding encoding = {.format = BW_FORMAT_JPEG, .quality = 80};
    struct bw_buf out = {0};
    paint(128, 192, NULL);
    encode(128, 192, &encoding, &out);
    decode_jpeg(&out, 128, 192, &encoding);
    memcpy(baseline, decoded, MOST);
    encoding.progressive = true;
    encode(128, 192, &encoding, &out);
    decode_jpeg(&out, 128, 192, &encoding);
    CHECK(memcmp(baseline, decoded, MOST) == 0);
    bw_buf_release(&out);
}

static void jpeg_quality_costs_bytes(void)
{
    static const int qualities[] = {1, 25, 50, 75, 90, 100};
    uint64_t random = 12;
    size_t before = 0;
    struct bw_buf out = {0};
    paint(128, 192, &random);
    for (int i = 0; i < 6; i++) {
        const struct bw_encoding encoding = {.format = BW_FORMAT_JPEG, .quality = qualities[i]};
        encode(128, 192, &encoding, &out);
        CHECK_OF(out.length_bytes > before, "quality %d", qualities[i]);
        decode_jpeg(&out, 128, 192, &encoding);
        before = out.length_bytes;
    }
    bw_buf_release(&out);
}

/* Decodes to `decoded`; how far that is from `rgb`, in decibels. */
static double decode_webp(const struct bw_buf *file, int width, int height)
{
    const uint8_t *bytes = (const uint8_t *)file->data;
    WebPBitstreamFeatures features;
    double squares = 0;
    int count = 3 * width * height;
    CHECK_INT(WebPGetFeatures(bytes, file->length_bytes, &features), VP8_STATUS_OK);
    CHECK(features.width == width && features.height == height);
    CHECK(features.format == 1 && !features.has_alpha && !features.has_animation); // 1: lossy
    CHECK(WebPDecodeRGBInto(bytes, file->length_bytes, decoded, (size_t)count, 3 * width) != NULL);
    for (int i = 0; i < count; i++)
        squares += (rgb[i] - decoded[i]) * (rgb[i] - decoded[i]);
    return 10 * log10(255.0 * 255.0 * count / fmax(squares, 1));
}

static void webp_is_close(void)
{
    struct bw_buf out = {0};
    for (int s = 0; s < 2 * SIZES; s++) {
        int w = sizes[s / 2][0], h = sizes[s / 2][1];
        const struct bw_encoding encoding = {
            .format = BW_FORMAT_WEBP, .quality = 95, .comment = s % 2 ? comment : NULL};
        paint(w, h, NULL);
        encode(w, h, &encoding, &out);
        double psnr = decode_webp(&out, w, h);
        CHECK_OF(psnr > 35, "%dx%d: %.1f dB", w, h, psnr);
    }
    bw_buf_release(&out);
}

static void webp_quality_costs_bytes(void)
{
    static const int qualities[] = {1, 25, 50, 75, 90, 100};
    uint64_t random = 14;
    size_t before = 0;
    double worse = 0;
    struct bw_buf out = {0};
    paint(128, 192, &random);
    for (int i = 0; i < 6; i++) {
        const struct bw_encoding encoding = {.format = BW_FORMAT_WEBP, .quality = qualities[i]};
        encode(128, 192, &encoding, &out);
        double psnr = decode_webp(&out, 128, 192);
        CHECK_OF(out.length_bytes > before && psnr > worse, "quality %d: %.1f dB", qualities[i],
                 psnr);
        before = out.length_bytes;
        worse = psnr;
    }
    bw_buf_release(&out);
}

/* The file's XMP packet has to hold this text, in UTF-8 and escaped, and the file no EXIF. */
static void check_webp_text(const struct bw_buf *file, const char *escaped)
{
    const WebPData data = {(const uint8_t *)file->data, file->length_bytes};
    WebPData xmp;
    WebPMux *mux = WebPMuxCreate(&data, 0);
    REQUIRE(mux != NULL);
    CHECK_INT(WebPMuxGetChunk(mux, "EXIF", &xmp), WEBP_MUX_NOT_FOUND);
    CHECK_INT(WebPMuxGetChunk(mux, "ICCP", &xmp), WEBP_MUX_NOT_FOUND);
    REQUIRE(WebPMuxGetChunk(mux, "XMP ", &xmp) == WEBP_MUX_OK);
    const char *begin = "<rdf:li xml:lang=\"x-default\">", *end = "</rdf:li>";
    const char *at = memmem(xmp.bytes, xmp.size, begin, strlen(begin));
    REQUIRE(at != NULL);
    at += strlen(begin);
    size_t left = xmp.size - (size_t)(at - (const char *)xmp.bytes);
    CHECK_OF(left > strlen(escaped) + strlen(end) && memcmp(at, escaped, strlen(escaped)) == 0 &&
                 memcmp(at + strlen(escaped), end, strlen(end)) == 0,
             "%.*s", (int)left, at);
    WebPMuxDelete(mux);
}

static void webp_comments(void)
{
    struct bw_encoding encoding = {.format = BW_FORMAT_WEBP, .quality = 80};
    struct bw_buf out = {0};
    paint(17, 5, NULL);
    encode(17, 5, &encoding, &out);
    CHECK(!holds(&out, "XMP ", 4) && !holds(&out, "EXIF", 4) && !holds(&out, "VP8X", 4));
    encoding.comment = comment;
    encode(17, 5, &encoding, &out);
    check_webp_text(&out, "an apple\nSteps: 20, Size: 17x5, a &lt; b &amp;&amp; \"c\" &gt; 'd'");
    encoding.comment = "a\tb\r\n\x01\x7f\xc3\xa9]]>";
    encode(17, 5, &encoding, &out);
    check_webp_text(&out, "a\tb&#13;\n????]]&gt;");
    encoding.comment = "";
    encode(17, 5, &encoding, &out);
    check_webp_text(&out, "");
    bw_buf_release(&out);
}

static void full_buffers_are_reported(void)
{
    for (int f = BW_FORMAT_JPEG; f <= BW_FORMAT_WEBP; f++) {
        for (int commented = 0; commented < 2; commented++) {
            const struct bw_encoding encoding = {
                .format = (enum bw_format)f, .quality = 90, .comment = commented ? comment : NULL};
            struct bw_buf whole = {0};
            struct bw_err err = {0};
            encode(17, 5, &encoding, &whole);
            struct bw_buf out = {.ceiling_bytes = 10};
            CHECK_INT(bw_image_encode(rgb, 17, 5, &encoding, &out, &err), BW_ENOMEM);
            CHECK(*err.message && err.code == BW_ENOMEM);
            bw_buf_release(&out);
            out.ceiling_bytes = whole.length_bytes - 1;
            CHECK_INT(bw_image_encode(rgb, 17, 5, &encoding, &out, NULL), BW_ENOMEM);
            bw_buf_release(&out);
            out.ceiling_bytes = whole.length_bytes;
            CHECK_INT(bw_image_encode(rgb, 17, 5, &encoding, &out, NULL), BW_OK);
            bw_buf_release(&out);
            bw_buf_release(&whole);
        }
    }
}

/* More than each format can say; the libraries refuse before they look at the pixels. */
static void sizes_beyond_the_format(void)
{
    static const struct {
        enum bw_format format;
        const char *says;
    } table[] = {{BW_FORMAT_JPEG, "JPEG encoder: "},
                 {BW_FORMAT_PNG, "PNG encoder: "},
                 {BW_FORMAT_WEBP, "WebP encoder: "}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct bw_encoding encoding = {.format = table[i].format, .quality = 90};
        struct bw_buf out = {0};
        struct bw_err err = {0};
        int most = bw_image_most_side(table[i].format);
        unsigned char *wide = calloc((size_t)most + 1, 3);
        CHECK_INT(bw_image_encode(wide, most, 1, &encoding, &out, &err), BW_OK);
        CHECK_INT(bw_image_encode(wide, most + 1, 1, &encoding, &out, &err), BW_EIO);
        free(wide);
        CHECK_HOLDS(err.message, table[i].says);
        bw_buf_release(&out);
    }
}

static void long_comments(void)
{
    static char text[BW_MAX_COMMENT_BYTES + 2];
    memset(text, 'x', BW_MAX_COMMENT_BYTES + 1);
    for (int f = BW_FORMAT_JPEG; f <= BW_FORMAT_WEBP; f++) {
        const struct bw_encoding encoding = {
            .format = (enum bw_format)f, .quality = 90, .comment = text};
        struct bw_buf out = {0};
        CHECK_INT(bw_image_encode(rgb, 8, 8, &encoding, &out, NULL), BW_ERANGE);
        CHECK(!out.data);
        text[BW_MAX_COMMENT_BYTES] = '\0';
        CHECK_INT(bw_image_encode(rgb, 8, 8, &encoding, &out, NULL), BW_OK);
        CHECK(holds(&out, text, BW_MAX_COMMENT_BYTES));
        text[BW_MAX_COMMENT_BYTES] = 'x';
        bw_buf_release(&out);
    }
}

static void output_is_appended(void)
{
    struct bw_buf out = {0};
    bw_buf_add_text(&out, "before");
    CHECK_INT(bw_image_encode(rgb, 2, 2, &png, &out, NULL), BW_OK);
    CHECK(memcmp(out.data, "before\x89PNG", 10) == 0);
    bw_buf_release(&out);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(png_is_exact),
                                              TEST(png_comments),
                                              TEST(jpeg_is_close),
                                              TEST(progressive_jpeg_is_the_same_picture),
                                              TEST(jpeg_quality_costs_bytes),
                                              TEST(webp_is_close),
                                              TEST(webp_quality_costs_bytes),
                                              TEST(webp_comments),
                                              TEST(full_buffers_are_reported),
                                              TEST(sizes_beyond_the_format),
                                              TEST(long_comments),
                                              TEST(output_is_appended)};
    return CHECK_RUN("image", tests);
}
