/* Digest: SHA-256 (FIPS 180-4) as text, by which results name the exact weights they came from. */
#ifndef BW_ENGINE_DIGEST_H
#define BW_ENGINE_DIGEST_H

#include <stddef.h>

enum { BW_DIGEST_CHARS = 65 };

/* 64 lower-case hex digits and a NUL. Any thread. */
void bw_digest(const void *bytes, size_t size_bytes, char text[BW_DIGEST_CHARS]);

/* The same; after each part of the bytes `done` is told that it will not be looked at again. */
typedef void bw_digest_fn(void *context, const void *part, size_t part_bytes);
void bw_digest_in_parts(const void *bytes, size_t size_bytes, bw_digest_fn *done, void *context,
                        char text[BW_DIGEST_CHARS]);

#endif
