/* libpng's simplified interface: one call, errors as return values. */
#include "image/png.h"

#include <png.h>
#include <stdlib.h>

int bw_png_encode(const unsigned char *rgb, int width, int height,
                  const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err)
{
    (void)encoding; // nothing can be chosen
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t room = PNG_IMAGE_PNG_SIZE_MAX(image), count = room;
    void *bytes = malloc(room);
    if (!bytes)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a PNG of %dx%d", width, height);
    int code = BW_OK;
    if (!png_image_write_to_memory(&image, bytes, &count, 0, rgb, 0, NULL))
        code = bw_err_set(err, BW_EIO, "PNG encoder: %s", image.message);
    if (!code) {
        bw_buf_add(out, bytes, count);
        if (out->failed)
            code = bw_err_set(err, BW_ENOMEM, "out of memory for a PNG of %dx%d", width, height);
    }
    free(bytes);
    return code;
}
