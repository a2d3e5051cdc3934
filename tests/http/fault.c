/* Preloaded into the server by a test: the JPEG encoder fails in the middle of a picture, the way
 * the library itself fails when it has no memory left. */
#include <stdio.h> // jpeglib.h wants it first

#include <jpeglib.h>

JDIMENSION jpeg_write_scanlines(j_compress_ptr jpeg, JSAMPARRAY rows, JDIMENSION count)
{
    (void)rows, (void)count;
    jpeg->err->error_exit((j_common_ptr)jpeg); // does not return
    return 0;
}
