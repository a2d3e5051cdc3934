/* make_room() is the only function that allocates, and the only one that decides that a buffer has
 * failed. */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Make room for `more` bytes and the NUL; false marks the buffer failed. */
static bool make_room(struct bw_buf *buf, size_t more)
{
    size_t ceiling = buf->ceiling_bytes ? buf->ceiling_bytes : SIZE_MAX / 4;
    if (buf->failed || more > ceiling - buf->length_bytes) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->length_bytes + more + 1;
    if (need <= buf->room_bytes)
        return true;
    size_t room = buf->room_bytes * 2 > need ? buf->room_bytes * 2 : need + 64;
    char *grown = realloc(buf->data, room);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->data = grown;
    buf->room_bytes = room;
    return true;
}

void bw_buf_add(struct bw_buf *buf, const void *bytes, size_t count)
{
    if (!make_room(buf, count))
        return;
    if (count)
        memcpy(buf->data + buf->length_bytes, bytes, count);
    buf->length_bytes += count;
    buf->data[buf->length_bytes] = '\0';
}

void bw_buf_add_text(struct bw_buf *buf, const char *text)
{
    bw_buf_add(buf, text, strlen(text));
}

void bw_buf_addf(struct bw_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (count < 0 || !make_room(buf, (size_t)count)) {
        buf->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(buf->data + buf->length_bytes, (size_t)count + 1, format, args);
    va_end(args);
    buf->length_bytes += (size_t)count;
}

void bw_buf_add_base64(struct bw_buf *buf, const void *bytes, size_t count)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = bytes;
    if (!make_room(buf, (count + 2) / 3 * 4))
        return;
    char *out = buf->data + buf->length_bytes;
    for (size_t i = 0; i < count; i += 3) {
        size_t left = count - i;
        uint32_t group = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0);
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *out++ = left > 2 ? alphabet[group & 63] : '=';
    }
    *out = '\0';
    buf->length_bytes = (size_t)(out - buf->data);
}

int bw_buf_add_file(struct bw_buf *buf, const char *path, struct bw_err *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return bw_err_set(err, BW_EIO, "%s: %s", path, strerror(errno));
    char block[16384];
    size_t count = 0;
    while (!buf->failed && (count = fread(block, 1, sizeof block, file)) > 0)
        bw_buf_add(buf, block, count);
    int code = ferror(file) ? bw_err_set(err, BW_EIO, "%s: cannot be read", path) : BW_OK;
    fclose(file);
    if (buf->failed && buf->ceiling_bytes && count > buf->ceiling_bytes - buf->length_bytes)
        code = bw_err_set(err, BW_ERANGE, "%s: larger than the %zu bytes allowed", path,
                          buf->ceiling_bytes);
    else if (buf->failed)
        code = bw_err_set(err, BW_ENOMEM, "out of memory for %s", path);
    return code;
}

char *bw_buf_steal(struct bw_buf *buf)
{
    bw_buf_add(buf, "", 0);
    char *data = buf->failed ? NULL : buf->data;
    if (!data)
        free(buf->data);
    *buf = (struct bw_buf){.ceiling_bytes = buf->ceiling_bytes};
    return data;
}

void bw_buf_release(struct bw_buf *buf)
{
    free(buf->data);
    *buf = (struct bw_buf){.ceiling_bytes = buf->ceiling_bytes};
}
