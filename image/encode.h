/* Encode: the one way from pixels to a file's bytes, whatever the format.
 *
 * The files of this folder that know a library, one per format, are called from here only.
 */
#ifndef BW_IMAGE_ENCODE_H
#define BW_IMAGE_ENCODE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/picture.h"

struct bw_encoding {
    enum bw_format format; // not BW_FORMAT_ANY
    int quality;           // 1..100; PNG has none
};

/* Append a file that holds rgb[height, width, 3]. The same pixels and encoding give the same bytes.
 * BW_ENOMEM (`out` is full, or no memory), BW_EIO (the library refused); `out` may then hold a
 * part. Any thread. */
int bw_image_encode(const unsigned char *rgb, int width, int height,
                    const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

#endif
