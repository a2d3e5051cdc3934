#include "engine/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>

void bw_digest(const void *bytes, size_t size_bytes, char text[BW_DIGEST_CHARS])
{
    struct sha256_ctx context;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&context);
    sha256_update(&context, size_bytes, bytes);
    sha256_digest(&context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}
