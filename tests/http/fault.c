/* Preloaded into the server by a test: the encoders of JPEG and PNG fail in the middle of a
 * picture, the way the libraries themselves fail when they have no memory left. */
#include <stdio.h> // jpeglib.h wants it first

#include <jpeglib.h>
#include <png.h>

JDIMENSION jpeg_write_scanlines(j_compress_ptr jpeg, JSAMPARRAY rows, JDIMENSION count)
{
    (void)rows, (void)count;
    jpeg->err->error_exit((j_common_ptr)jpeg); // does not return
    return 0;
}

void png_write_row(png_structrp png, png_const_bytep row)
{
    (void)row;
    png_error(png, "no memory left"); // does not return
}
