/* libjpeg reports errors by a callback that must not return; the longjmp below ends in the one
 * frame that calls the library. Its output goes straight into a bw_buf, so nothing is left to free
 * but the compressor. */
#include "image/jpeg.h"

#include <stdio.h> // jpeglib.h wants it first

#include <jpeglib.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16384 };

struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr destination;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
    struct bw_buf *out;
    JOCTET block[BLOCK_BYTES];
};

static void on_error(j_common_ptr info)
{
    struct encoder *e = info->client_data;
    e->errors.format_message(info, e->message);
    longjmp(e->back, 1);
}

static void on_message(j_common_ptr info)
{
    (void)info; // warnings of an encoder concern nobody; libraries do not print
}

static void begin_output(j_compress_ptr jpeg)
{
    struct encoder *e = jpeg->client_data;
    e->destination.next_output_byte = e->block;
    e->destination.free_in_buffer = BLOCK_BYTES;
}

static boolean flush_block(j_compress_ptr jpeg)
{
    struct encoder *e = jpeg->client_data;
    bw_buf_add(e->out, e->block, BLOCK_BYTES); // a failure is remembered there
    begin_output(jpeg);
    return TRUE;
}

static void end_output(j_compress_ptr jpeg)
{
    struct encoder *e = jpeg->client_data;
    bw_buf_add(e->out, e->block, BLOCK_BYTES - e->destination.free_in_buffer);
}

/* False if the library failed; e->message then says why. */
static bool compress(struct encoder *e, const unsigned char *rgb, int width, int height,
                     const struct bw_encoding *encoding)
{
    struct jpeg_compress_struct *jpeg = &e->jpeg;
    if (setjmp(e->back))
        return false;
    jpeg_create_compress(jpeg);
    jpeg->dest = &e->destination;
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, encoding->quality, TRUE);
    jpeg->optimize_coding = TRUE;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1; // 4:4:4
    if (encoding->progressive)
        jpeg_simple_progression(jpeg);
    jpeg_start_compress(jpeg, TRUE);
    if (encoding->comment)
        jpeg_write_marker(jpeg, JPEG_COM, (const JOCTET *)encoding->comment,
                          (unsigned)strlen(encoding->comment));
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = (JSAMPROW)(rgb + (size_t)jpeg->next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    return true;
}

int bw_jpeg_encode(const unsigned char *rgb, int width, int height,
                   const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err)
{
    struct encoder *e = calloc(1, sizeof *e);
    if (!e)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a JPEG of %dx%d", width, height);
    e->out = out;
    e->jpeg.err = jpeg_std_error(&e->errors);
    e->jpeg.client_data = e;
    e->errors.error_exit = on_error;
    e->errors.output_message = on_message;
    e->destination.init_destination = begin_output;
    e->destination.empty_output_buffer = flush_block;
    e->destination.term_destination = end_output;
    int code = BW_OK;
    if (!compress(e, rgb, width, height, encoding))
        code = bw_err_set(err, BW_EIO, "JPEG encoder: %s", e->message);
    else if (out->failed)
        code = bw_err_set(err, BW_ENOMEM, "out of memory for a JPEG of %dx%d", width, height);
    jpeg_destroy_compress(&e->jpeg);
    free(e);
    return code;
}
