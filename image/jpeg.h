/* JPEG through libjpeg-turbo. */
#ifndef BW_IMAGE_JPEG_H
#define BW_IMAGE_JPEG_H

#include "image/encode.h"

/* Append a JPEG (JFIF, 4:4:4, no EXIF) of rgb[height, width, 3] at the encoding's quality, baseline
 * or progressive; its comment becomes a COM marker. The same pixels give the same bytes. BW_ENOMEM,
 * BW_EIO (the library refused); `out` may then hold a part. Any thread. */
int bw_jpeg_encode(const unsigned char *rgb, int width, int height,
                   const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

#endif
