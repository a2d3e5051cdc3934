/* libpng reports errors by a callback that must not return, as libjpeg does; see image/jpeg.c. Its
 * simplified interface would spare that but has no text chunks. */
#include "image/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct encoder {
    png_structp png;
    png_infop info;
    jmp_buf back;
    char message[200];
    struct bw_buf *out;
};

static void on_error(png_structp png, png_const_charp message)
{
    struct encoder *e = png_get_error_ptr(png);
    snprintf(e->message, sizeof e->message, "%s", message);
    longjmp(e->back, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message; // libraries do not print
}

static void write_bytes(png_structp png, png_bytep bytes, size_t count)
{
    struct encoder *e = png_get_io_ptr(png);
    bw_buf_add(e->out, bytes, count); // a failure is remembered there
}

static void flush(png_structp png)
{
    (void)png;
}

static void add_comment(struct encoder *e, const char *comment)
{
    png_text chunk = {.compression = PNG_TEXT_COMPRESSION_NONE,
                      .key = (png_charp) "parameters",
                      .text = (png_charp)comment};
    png_set_text(e->png, e->info, &chunk, 1);
}

/* False if the library failed; e->message then says why. */
static bool compress(struct encoder *e, const unsigned char *rgb, int width, int height,
                     const char *comment)
{
    if (setjmp(e->back))
        return false;
    e->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, e, on_error, on_warning);
    e->info = e->png ? png_create_info_struct(e->png) : NULL;
    if (!e->info) {
        snprintf(e->message, sizeof e->message, "it does not start");
        return false;
    }
    png_set_write_fn(e->png, e, write_bytes, flush);
    png_set_IHDR(e->png, e->info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_sRGB(e->png, e->info, PNG_sRGB_INTENT_PERCEPTUAL);
    if (comment)
        add_comment(e, comment);
    png_write_info(e->png, e->info);
    for (int y = 0; y < height; y++)
        png_write_row(e->png, rgb + (size_t)y * (size_t)width * 3);
    png_write_end(e->png, NULL);
    return true;
}

int bw_png_encode(const unsigned char *rgb, int width, int height,
                  const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err)
{
    struct encoder *e = calloc(1, sizeof *e);
    if (!e)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a PNG of %dx%d", width, height);
    e->out = out;
    int code = BW_OK;
    if (!compress(e, rgb, width, height, encoding->comment))
        code = bw_err_set(err, BW_EIO, "PNG encoder: %s", e->message);
    else if (out->failed)
        code = bw_err_set(err, BW_ENOMEM, "out of memory for a PNG of %dx%d", width, height);
    png_destroy_write_struct(&e->png, &e->info);
    free(e);
    return code;
}
