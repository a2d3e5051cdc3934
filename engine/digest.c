#include "engine/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>

enum { PART_BYTES = 1 << 16 }; // stays in the second-level cache

static void finish(struct sha256_ctx *sha, char text[BW_DIGEST_CHARS])
{
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_digest(sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

void bw_digest(const void *bytes, size_t size_bytes, char text[BW_DIGEST_CHARS])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, size_bytes, bytes);
    finish(&sha, text);
}

bool bw_digest_in_parts(size_t size_bytes, bw_digest_fn *read, void *context,
                        char text[BW_DIGEST_CHARS])
{
    struct sha256_ctx sha;
    unsigned char part[PART_BYTES];
    sha256_init(&sha);
    for (size_t at = 0; at < size_bytes; at += PART_BYTES) {
        size_t count = size_bytes - at < PART_BYTES ? size_bytes - at : PART_BYTES;
        if (!read(context, at, count, part))
            return false;
        sha256_update(&sha, count, part);
    }
    finish(&sha, text);
    return true;
}
