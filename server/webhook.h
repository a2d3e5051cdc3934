/* Webhook: tell a URL that something is over, as Standard Webhooks 1.0 says.
 *
 * A message is a POST of JSON with the headers webhook-id, webhook-timestamp and webhook-signature.
 * 2xx delivers it and 410 ends it; anything else is tried again, five times in all, with pauses of
 * about 1, 4, 16 and 64 s, or as Retry-After says. Redirects are not followed and proxies not used;
 * each attempt has a connection of its own, and every address it would connect to is checked first.
 *
 * A thread of its own does the work, several messages at a time. It keeps at most 256; when one
 * more comes the oldest that is not under way is dropped. What becomes of a message is logged, with
 * its host but not its URL, which may hold a secret. Messages do not survive the process.
 *
 * Thread: any, but free is the last call.
 */
#ifndef BW_SERVER_WEBHOOK_H
#define BW_SERVER_WEBHOOK_H

#include "base/err.h"
#include "server/metrics.h"

enum { BW_WEBHOOK_URL_CHARS = 512 };

struct bw_webhook;

struct bw_webhook_settings {
    const char *allow;          // hosts, as in server/allow.h; "": webhooks are off
    const char *secret_file;    // as in server/signature.h
    int timeout_ms;             // of an attempt; 0: 10000
    int pause_ms;               // before the second attempt, then four times as long each; 0: 1000
    struct bw_metrics *metrics; // what becomes of messages; NULL: nobody counts
};

/* Start the thread; *webhook is NULL if webhooks are off. BW_ERANGE: the list or the secret is
 * wrong, or there is no secret; BW_EIO: the secret cannot be read; BW_ENOMEM. */
int bw_webhook_new(struct bw_webhook **webhook, const struct bw_webhook_settings *settings,
                   struct bw_err *err);

/* Try what is due for at most that long, drop the rest and stop. NULL is allowed. */
void bw_webhook_free(struct bw_webhook *webhook, int most_ms);

/* May this URL be told? BW_ERANGE with field "/webhook" if not, or if `webhook` is NULL; BW_ENOMEM.
 */
int bw_webhook_check(const struct bw_webhook *webhook, const char *url, struct bw_err *err);

/* Send a JSON text to a URL that was allowed. `event` is any text that names what happened and
 * nothing else (the message's id is made of it, so that a receiver recognises one sent twice).
 * `traceparent` goes with it unless it is "". All is copied. NULL is allowed: nothing is sent. */
void bw_webhook_send(struct bw_webhook *webhook, const char *url, const char *event,
                     const char *body, const char *traceparent);

#endif
