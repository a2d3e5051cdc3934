/* PNG through libpng. */
#ifndef BW_IMAGE_PNG_H
#define BW_IMAGE_PNG_H

#include "image/encode.h"

/* Append an 8-bit RGB PNG of rgb[height, width, 3]; the encoding's comment becomes a tEXt chunk
 * with the keyword "parameters", which is where programs that show how a picture was made look. The
 * same pixels give the same bytes. BW_ENOMEM, BW_EIO (the library refused); `out` may then hold a
 * part. Any thread. */
int bw_png_encode(const unsigned char *rgb, int width, int height,
                  const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

#endif
