/* The encoders have one signature, so that a format is a row of a table. */
#include "image/encode.h"

#include "image/jpeg.h"
#include "image/png.h"
#include "image/webp.h"

#include <assert.h>
#include <string.h>

typedef int encode_fn(const unsigned char *rgb, int width, int height,
                      const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

/* As the libraries have it; libpng takes that for the most that anybody means. */
int bw_image_most_side(enum bw_format format)
{
    static const int most[] = {
        [BW_FORMAT_JPEG] = 65500, [BW_FORMAT_PNG] = 1000000, [BW_FORMAT_WEBP] = 16383};
    assert(format != BW_FORMAT_ANY);
    return most[format];
}

int bw_image_check_size(enum bw_format format, int width, int height, struct bw_err *err)
{
    static const char *const names[] = {
        [BW_FORMAT_JPEG] = "JPEG", [BW_FORMAT_PNG] = "PNG", [BW_FORMAT_WEBP] = "WebP"};
    int most = bw_image_most_side(format);
    if (width <= most && height <= most)
        return BW_OK;
    return bw_err_set_field(err, BW_ERANGE, "/size", "%s has sides of %d pixels at most",
                            names[format], most);
}

int bw_image_encode(const unsigned char *rgb, int width, int height,
                    const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err)
{
    static encode_fn *const encoders[] = {[BW_FORMAT_JPEG] = bw_jpeg_encode,
                                          [BW_FORMAT_PNG] = bw_png_encode,
                                          [BW_FORMAT_WEBP] = bw_webp_encode};
    assert(encoding->format != BW_FORMAT_ANY);
    if (encoding->comment && strlen(encoding->comment) > BW_MAX_COMMENT_BYTES)
        return bw_err_set(err, BW_ERANGE, "a comment of more than %d bytes", BW_MAX_COMMENT_BYTES);
    return encoders[encoding->format](rgb, width, height, encoding, out, err);
}
