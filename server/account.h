/* Account: what is told of a job: to whoever asks, to its record, to the log, and to its webhook.
 * Thread: the loop's. */
#ifndef BW_SERVER_ACCOUNT_H
#define BW_SERVER_ACCOUNT_H

#include "server/order.h"
#include "server/store.h"
#include "server/webhook.h"

/* The Job as text: of a record that is over as it ended, else as far as it is. NULL without memory.
 */
char *bw_account_text(const struct bw_record *record, bool over, int step, int steps, int keep_s);

/* Answer 200, 201 or 202 with such a text, which passes. */
void bw_account_respond(struct bw_exchange *exchange, int status, const char *id, char *text);

/* How an order that has ended did so. `end->result` is NULL if there is no memory for it. */
void bw_account_end(const struct bw_order *order, const char *id, struct bw_store_end *end);
/* The end of a job that could not become an order. */
void bw_account_refusal(const struct bw_record *record, const struct bw_err *why,
                        struct bw_store_end *end);
void bw_account_release(struct bw_store_end *end);

/* For those who run the service: log and count the end of a job. `order` may be NULL. */
void bw_account_note(struct bw_service *service, const char *id, const char *owner,
                     const struct bw_trace_context *trace, const struct bw_order *order,
                     enum bw_outcome outcome);

/* For the one who asked: send the Job, a text which passes, to the webhook, if the request has one.
 */
void bw_account_report(struct bw_webhook *webhook, const struct bw_record *record, char *text,
                       const struct bw_trace_context *trace);

#endif
