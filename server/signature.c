/* HMAC-SHA256 of "id.time.body" under the secret. */
#include "server/signature.h"

#include "base/text.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <stdio.h>
#include <string.h>

int bw_secret_parse(struct bw_secret *secret, const char *text, struct bw_err *err)
{
    struct bw_secret s = {0};
    const char *coded = bw_text_after(text, "whsec_");
    const char *from = coded ? coded : text;
    size_t length = strcspn(from, "\r\n");
    if (from[length + strspn(from + length, "\r\n")] || length > BASE64_ENCODE_RAW_LENGTH(64))
        return bw_err_set(err, BW_ERANGE, "the secret is more than a line, or too long");
    if (coded) {
        struct base64_decode_ctx context;
        unsigned char bytes[BASE64_DECODE_LENGTH(BASE64_ENCODE_RAW_LENGTH(64))];
        base64_decode_init(&context);
        if (!base64_decode_update(&context, &s.count, bytes, length, from) ||
            !base64_decode_final(&context))
            return bw_err_set(err, BW_ERANGE,
                              "what follows \"whsec_\" in the secret is not base64");
        if (s.count <= sizeof s.bytes)
            memcpy(s.bytes, bytes, s.count);
    } else {
        s.count = length;
        if (s.count <= sizeof s.bytes)
            memcpy(s.bytes, from, s.count);
    }
    if (s.count < BW_SECRET_LEAST_BYTES || s.count > BW_SECRET_MOST_BYTES)
        return bw_err_set(err, BW_ERANGE, "the secret is not of %d to %d bytes",
                          BW_SECRET_LEAST_BYTES, BW_SECRET_MOST_BYTES);
    *secret = s;
    return BW_OK;
}

void bw_sign(const struct bw_secret *secret, const char *id, int64_t time_s, const char *body,
             struct bw_buf *out)
{
    struct hmac_sha256_ctx context;
    unsigned char digest[SHA256_DIGEST_SIZE];
    char time[32];
    int length = snprintf(time, sizeof time, ".%lld.", (long long)time_s);
    hmac_sha256_set_key(&context, secret->count, secret->bytes);
    hmac_sha256_update(&context, strlen(id), (const unsigned char *)id);
    hmac_sha256_update(&context, (size_t)length, (const unsigned char *)time);
    hmac_sha256_update(&context, strlen(body), (const unsigned char *)body);
    hmac_sha256_digest(&context, sizeof digest, digest);
    bw_buf_add_text(out, "v1,");
    bw_buf_add_base64(out, digest, sizeof digest);
}
