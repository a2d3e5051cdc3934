/* Encoded pictures, decoded again by the libraries. */
#include "image/encode.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <jpeglib.h>
#include <png.h>

static const int sizes[][2] = {{1, 1}, {1, 7}, {7, 1}, {17, 9}, {128, 192}, {255, 3}};
enum { SIZES = sizeof sizes / sizeof *sizes, MOST = 128 * 192 * 3 };

static unsigned char rgb[MOST], decoded[MOST];

static const struct bw_encoding png = {.format = BW_FORMAT_PNG};

static int encode_jpeg(int width, int height, int quality, struct bw_buf *out, struct bw_err *err)
{
    const struct bw_encoding encoding = {.format = BW_FORMAT_JPEG, .quality = quality};
    return bw_image_encode(rgb, width, height, &encoding, out, err);
}

/* A smooth picture, or noise. */
static void paint(int width, int height, bool smooth, uint64_t *random)
{
    for (int i = 0; i < width * height; i++) {
        int x = i % width, y = i / width;
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (unsigned char)(smooth ? 128 + 100 * sin(x * 0.03 + y * 0.02 + c)
                                                    : (double)(random_next(random) & 255));
    }
}

static void png_is_exact(void)
{
    uint64_t random = 11;
    for (int s = 0; s < SIZES; s++) {
        int w = sizes[s][0], h = sizes[s][1];
        struct bw_buf out = {0}, again = {0};
        paint(w, h, false, &random);
        REQUIRE(bw_image_encode(rgb, w, h, &png, &out, NULL) == BW_OK);
        REQUIRE(bw_image_encode(rgb, w, h, &png, &again, NULL) == BW_OK);
        CHECK(out.length_bytes == again.length_bytes &&
              memcmp(out.data, again.data, out.length_bytes) == 0);
        png_image image = {.version = PNG_IMAGE_VERSION};
        REQUIRE(png_image_begin_read_from_memory(&image, out.data, out.length_bytes));
        CHECK(image.width == (png_uint_32)w && image.height == (png_uint_32)h);
        CHECK_INT(image.format, PNG_FORMAT_RGB);
        REQUIRE(png_image_finish_read(&image, NULL, decoded, 0, NULL));
        CHECK_OF(memcmp(rgb, decoded, (size_t)(3 * w * h)) == 0, "%dx%d", w, h);
        bw_buf_release(&out);
        bw_buf_release(&again);
    }
}

/* Decodes to `decoded`; the standard error manager ends the program, which no test survives. */
static void decode_jpeg(const struct bw_buf *file, int width, int height)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, (unsigned char *)file->data, file->length_bytes);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    CHECK(jpeg.output_width == (JDIMENSION)width && jpeg.output_height == (JDIMENSION)height);
    CHECK(jpeg.comp_info[0].h_samp_factor == 1 && jpeg.comp_info[0].v_samp_factor == 1);
    CHECK(!jpeg.progressive_mode && jpeg.saw_JFIF_marker);
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
    for (int s = 0; s < SIZES; s++) {
        int w = sizes[s][0], h = sizes[s][1];
        struct bw_buf out = {0}, again = {0};
        paint(w, h, true, NULL);
        REQUIRE(encode_jpeg(w, h, 95, &out, NULL) == BW_OK);
        REQUIRE(encode_jpeg(w, h, 95, &again, NULL) == BW_OK);
        CHECK(out.length_bytes == again.length_bytes &&
              memcmp(out.data, again.data, out.length_bytes) == 0);
        decode_jpeg(&out, w, h);
        for (int i = 0; i < 3 * w * h; i++)
            CHECK_OF(abs(rgb[i] - decoded[i]) <= 8, "%dx%d byte %d: %d and %d", w, h, i, rgb[i],
                     decoded[i]);
        for (size_t i = 0; i + 1 < out.length_bytes && i < 600; i++) // where APP1 would be
            CHECK((unsigned char)out.data[i] != 0xff || (unsigned char)out.data[i + 1] != 0xe1);
        bw_buf_release(&out);
        bw_buf_release(&again);
    }
}

static void jpeg_quality_costs_bytes(void)
{
    static const int qualities[] = {1, 25, 50, 75, 90, 100};
    uint64_t random = 12;
    size_t before = 0;
    paint(128, 192, false, &random);
    for (int i = 0; i < 6; i++) {
        struct bw_buf out = {0};
        REQUIRE(encode_jpeg(128, 192, qualities[i], &out, NULL) == BW_OK);
        CHECK_OF(out.length_bytes > before, "quality %d", qualities[i]);
        decode_jpeg(&out, 128, 192);
        before = out.length_bytes;
        bw_buf_release(&out);
    }
}

static void failures_are_reported(void)
{
    struct bw_err err = {0};
    struct bw_buf out = {.ceiling_bytes = 10};
    CHECK_INT(encode_jpeg(8, 8, 90, &out, &err), BW_ENOMEM);
    CHECK(*err.message);
    bw_buf_release(&out);
    CHECK_INT(bw_image_encode(rgb, 8, 8, &png, &out, NULL), BW_ENOMEM);
    bw_buf_release(&out);
    err = (struct bw_err){0};
    CHECK_INT(encode_jpeg(70000, 1, 90, &out, &err), BW_EIO); // more than JPEG can say
    CHECK_HOLDS(err.message, "JPEG encoder: ");
    bw_buf_release(&out);
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
    static const struct check_test tests[] = {
        TEST(png_is_exact), TEST(jpeg_is_close), TEST(jpeg_quality_costs_bytes),
        TEST(failures_are_reported), TEST(output_is_appended)};
    return CHECK_RUN("image", tests);
}
