/* Encode: the one way from pixels to a file's bytes, whatever the format.
 *
 * The files of this folder that know a library, one per format, are called from here only.
 */
#ifndef BW_IMAGE_ENCODE_H
#define BW_IMAGE_ENCODE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/picture.h"

#include <stdbool.h>

enum { BW_MAX_COMMENT_BYTES = 60000 }; // a comment in a JPEG has to fit into one marker

struct bw_encoding {
    enum bw_format format; // not BW_FORMAT_ANY
    int quality;           // 1..100; PNG has none
    bool progressive;      // JPEG only: coarse first, then finer; the others ignore it
    const char *comment;   // ASCII text the file carries, of any number of lines; NULL: none
};

/* The longest side, in pixels, that a file of the format may have. */
int bw_image_most_side(enum bw_format format);

/* Fits a picture of that size into such a file? BW_ERANGE on "/size". */
int bw_image_check_size(enum bw_format format, int width, int height, struct bw_err *err);

/* Append a file that holds rgb[height, width, 3] and, besides, no more than the comment. The same
 * pixels and encoding give the same bytes. BW_ERANGE (comment longer than BW_MAX_COMMENT_BYTES),
 * BW_ENOMEM (`out` is full, or no memory), BW_EIO (the library refused, or says so where it lacks
 * memory); `out` may then hold a part. Any thread. */
int bw_image_encode(const unsigned char *rgb, int width, int height,
                    const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

#endif
