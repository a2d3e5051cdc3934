/* Digest: SHA-256 (FIPS 180-4) as text, by which results name the exact weights they came from. */
#ifndef BW_ENGINE_DIGEST_H
#define BW_ENGINE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

enum { BW_DIGEST_CHARS = 65 };

/* 64 lower-case hex digits and a NUL. Any thread. */
void bw_digest(const void *bytes, size_t size_bytes, char text[BW_DIGEST_CHARS]);

/* The same of bytes that `read` copies, part by part; false, and no text, if it cannot. */
typedef bool bw_digest_fn(void *context, size_t at, size_t count, void *out);
bool bw_digest_in_parts(size_t size_bytes, bw_digest_fn *read, void *context,
                        char text[BW_DIGEST_CHARS]);

#endif
