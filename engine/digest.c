#include "engine/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>

enum { PART_BYTES = 1 << 20 };

static void ignore(void *context, const void *part, size_t part_bytes)
{
    (void)context, (void)part, (void)part_bytes;
}

void bw_digest(const void *bytes, size_t size_bytes, char text[BW_DIGEST_CHARS])
{
    bw_digest_in_parts(bytes, size_bytes, ignore, NULL, text);
}

void bw_digest_in_parts(const void *bytes, size_t size_bytes, bw_digest_fn *done, void *context,
                        char text[BW_DIGEST_CHARS])
{
    struct sha256_ctx sha;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    for (size_t at = 0; at < size_bytes; at += PART_BYTES) {
        const unsigned char *part = (const unsigned char *)bytes + at;
        size_t count = size_bytes - at < PART_BYTES ? size_bytes - at : PART_BYTES;
        sha256_update(&sha, count, part);
        done(context, part, count);
    }
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}
