/* WebP through libwebp and, for metadata, libwebpmux. */
#ifndef BW_IMAGE_WEBP_H
#define BW_IMAGE_WEBP_H

#include "image/encode.h"

/* Append a lossy WebP of rgb[height, width, 3], of at most 16383 pixels a side, at the encoding's
 * quality; never progressive. Without a comment it is the simple file format: the picture and
 * nothing else. A comment makes it the extended format with one more chunk, an XMP packet whose
 * dc:description is the comment; EXIF is never written. XML cannot hold every character: what is
 * neither printable ASCII nor a tab or line break becomes a '?'. The same pixels give the same
 * bytes. BW_ENOMEM, BW_EIO (the library refused); `out` may then hold a part. Any thread. */
int bw_webp_encode(const unsigned char *rgb, int width, int height,
                   const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err);

#endif
