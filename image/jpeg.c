/* libjpeg reports errors by a callback that must not return; the longjmp below ends in the one
 * frame that owns the compressor. */
#include "image/jpeg.h"

#include <stdio.h> // jpeglib.h wants it first

#include <jpeglib.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>

struct failure {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char message[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr info)
{
    struct failure *failure = (struct failure *)info->err;
    failure->base.format_message(info, failure->message);
    longjmp(failure->back, 1);
}

static void on_message(j_common_ptr info)
{
    (void)info; // warnings of an encoder concern nobody; libraries do not print
}

/* False if the library failed; failure->message then says why. */
static bool compress(struct jpeg_compress_struct *jpeg, struct failure *failure,
                     const unsigned char *rgb, int width, int height, int quality)
{
    if (setjmp(failure->back))
        return false;
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg->optimize_coding = TRUE;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1; // 4:4:4
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = (JSAMPROW)(rgb + (size_t)jpeg->next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    return true;
}

int bw_jpeg_encode(const unsigned char *rgb, int width, int height, int quality, struct bw_buf *out,
                   struct bw_err *err)
{
    struct failure failure = {.message = ""};
    struct jpeg_compress_struct jpeg;
    unsigned char *bytes = NULL;
    unsigned long count = 0;
    int code = BW_OK;
    jpeg.err = jpeg_std_error(&failure.base);
    failure.base.error_exit = on_error;
    failure.base.output_message = on_message;
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &count);
    if (compress(&jpeg, &failure, rgb, width, height, quality)) {
        bw_buf_add(out, bytes, count);
        if (out->failed)
            code = bw_err_set(err, BW_ENOMEM, "out of memory for a JPEG of %lu bytes", count);
    } else {
        code = bw_err_set(err, BW_EIO, "JPEG encoder: %s", failure.message);
    }
    jpeg_destroy_compress(&jpeg);
    free(bytes);
    return code;
}
