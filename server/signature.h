/* Signature: how a receiver of webhooks knows who sent them (Standard Webhooks 1.0, symmetric). Any
 * thread. */
#ifndef BW_SERVER_SIGNATURE_H
#define BW_SERVER_SIGNATURE_H

#include "base/buf.h"

#include <stdint.h>

enum { BW_SECRET_LEAST_BYTES = 24, BW_SECRET_MOST_BYTES = 64 };

struct bw_secret {
    unsigned char bytes[BW_SECRET_MOST_BYTES];
    size_t count;
};

/* Read "whsec_" and base64, or else the bytes of the text itself; line ends after it do not count.
 * BW_ERANGE: not base64, or not 24 to 64 bytes. */
int bw_secret_parse(struct bw_secret *secret, const char *text, struct bw_err *err);

/* Append the signature of a message as in the header webhook-signature, "v1," and base64. `id` must
 * not hold a full stop. */
void bw_sign(const struct bw_secret *secret, const char *id, int64_t time_s, const char *body,
             struct bw_buf *out);

#endif
