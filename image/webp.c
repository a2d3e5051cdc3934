/* The encoder writes straight into a bw_buf. With a comment that is a buffer of our own: the
 * extended format opens with what the whole file holds, so its container is put around a picture
 * that is already there. */
#include "image/webp.h"

#include <string.h>
#include <webp/encode.h>
#include <webp/mux.h>

/* 0..6, of effort per byte saved; the library's own balance. */
enum { METHOD = 4 };

/* What stands around the description in an XMP packet; U+FEFF says that it is UTF-8. */
static const char packet_head[] =
    "<?xpacket begin=\"\xef\xbb\xbf\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>"
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
    "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
    "<rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\">"
    "<dc:description><rdf:Alt><rdf:li xml:lang=\"x-default\">";
static const char packet_tail[] = "</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF>"
                                  "</x:xmpmeta><?xpacket end=\"r\"?>";

static int no_memory(struct bw_err *err, int width, int height)
{
    return bw_err_set(err, BW_ENOMEM, "out of memory for a WebP of %dx%d", width, height);
}

static int write_bytes(const uint8_t *bytes, size_t count, const WebPPicture *picture)
{
    struct bw_buf *out = picture->custom_ptr;
    bw_buf_add(out, bytes, count);
    return !out->failed;
}

/* The picture in the simple format. */
static int compress(const unsigned char *rgb, int width, int height, int quality,
                    struct bw_buf *out, struct bw_err *err)
{
    WebPConfig config;
    WebPPicture picture;
    if (!WebPConfigInit(&config) || !WebPPictureInit(&picture))
        return bw_err_set(err, BW_EIO, "WebP encoder: the library is of another version");
    config.quality = (float)quality;
    config.method = METHOD;
    config.thread_level = 0;
    picture.width = width;
    picture.height = height;
    picture.writer = write_bytes;
    picture.custom_ptr = out;
    bool ok = WebPPictureImportRGB(&picture, rgb, 3 * width) && WebPEncode(&config, &picture);
    int code = BW_OK;
    if (!ok && (out->failed || picture.error_code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
                picture.error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY))
        code = no_memory(err, width, height);
    else if (!ok)
        code = bw_err_set(err, BW_EIO, "WebP encoder: error %d for %dx%d", picture.error_code,
                          width, height);
    WebPPictureFree(&picture);
    return code;
}

static bool is_plain(char c)
{
    return (c >= ' ' && c <= '~') || c == '\t' || c == '\n';
}

static void add_escaped(struct bw_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            bw_buf_add_text(out, "&amp;");
        else if (*text == '<')
            bw_buf_add_text(out, "&lt;");
        else if (*text == '>')
            bw_buf_add_text(out, "&gt;");
        else if (*text == '\r')
            bw_buf_add_text(out, "&#13;"); // or a reader takes it for a line feed
        else
            bw_buf_add(out, is_plain(*text) ? text : "?", 1);
    }
}

/* The picture and the packet in the extended format. */
static int wrap(const struct bw_buf *picture, const struct bw_buf *packet, struct bw_buf *out)
{
    const WebPData image = {(const uint8_t *)picture->data, picture->length_bytes};
    const WebPData xmp = {(const uint8_t *)packet->data, packet->length_bytes};
    WebPData file = {0};
    WebPMux *mux = WebPMuxNew();
    WebPMuxError wrong = mux ? WebPMuxSetImage(mux, &image, 0) : WEBP_MUX_MEMORY_ERROR;
    if (wrong == WEBP_MUX_OK)
        wrong = WebPMuxSetChunk(mux, "XMP ", &xmp, 0);
    if (wrong == WEBP_MUX_OK)
        wrong = WebPMuxAssemble(mux, &file);
    if (wrong == WEBP_MUX_OK)
        bw_buf_add(out, file.bytes, file.size);
    WebPDataClear(&file);
    WebPMuxDelete(mux);
    return wrong == WEBP_MUX_OK && !out->failed ? BW_OK : BW_ENOMEM;
}

int bw_webp_encode(const unsigned char *rgb, int width, int height,
                   const struct bw_encoding *encoding, struct bw_buf *out, struct bw_err *err)
{
    if (!encoding->comment)
        return compress(rgb, width, height, encoding->quality, out, err);
    struct bw_buf picture = {0}, packet = {0};
    bw_buf_add_text(&packet, packet_head);
    add_escaped(&packet, encoding->comment);
    bw_buf_add_text(&packet, packet_tail);
    int code = compress(rgb, width, height, encoding->quality, &picture, err);
    if (!code && (packet.failed || wrap(&picture, &packet, out)))
        code = no_memory(err, width, height);
    bw_buf_release(&picture);
    bw_buf_release(&packet);
    return code;
}
