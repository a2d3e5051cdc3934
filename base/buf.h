/* Growing byte buffer with a ceiling.
 *
 * Writers append without checking each call: the first failure (no memory, or the ceiling) is
 * remembered in `failed`, everything after it is ignored, and the caller looks once at the end.
 * The content is always followed by a NUL that does not count. Thread: one owner at a time.
 */
#ifndef BW_BASE_BUF_H
#define BW_BASE_BUF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct bw_buf {
    char *data;           // [length_bytes + 1], NUL-terminated; NULL while empty
    size_t length_bytes;  // bytes of content
    size_t room_bytes;    // bytes allocated
    size_t ceiling_bytes; // content never grows past this; 0: no ceiling but memory
    bool failed;          // something could not be appended
};

void bw_buf_add(struct bw_buf *buf, const void *bytes, size_t count);
void bw_buf_add_text(struct bw_buf *buf, const char *text);
void bw_buf_addf(struct bw_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Append `count` bytes as base64 (RFC 4648 section 4, with padding). */
void bw_buf_add_base64(struct bw_buf *buf, const void *bytes, size_t count);

/* Append the content of a file. BW_EIO (cannot be read), BW_ERANGE (over the ceiling), BW_ENOMEM.
 */
int bw_buf_add_file(struct bw_buf *buf, const char *path, struct bw_err *err);

/* Hand the content over: the caller frees the returned block (never NULL unless `failed`). */
char *bw_buf_steal(struct bw_buf *buf);

/* Free the content; the ceiling stays. */
void bw_buf_release(struct bw_buf *buf);

#endif
