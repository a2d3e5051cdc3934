/* Generate: from a request's body or query to an order, or a refusal.
 *
 * A request becomes an order of one job per picture; all of them are admitted or none. Thread: the
 * loop's.
 */
#ifndef BW_SERVER_GENERATE_H
#define BW_SERVER_GENERATE_H

#include "server/order.h"

/* POST and GET /v1/generate, POST /v1/images/generations, POST /sdapi/v1/txt2img. */
void bw_generate_handle(struct bw_service *service, struct bw_exchange *exchange);
void bw_generate_handle_get(struct bw_service *service, struct bw_exchange *exchange);
void bw_generate_handle_openai(struct bw_service *service, struct bw_exchange *exchange);
void bw_generate_handle_sdapi(struct bw_service *service, struct bw_exchange *exchange);

/* GET /sdapi/v1/progress: how far the oldest of a client's orders is. */
void bw_generate_sd_progress(struct bw_service *service, struct bw_exchange *exchange);

/* POST /v1/quote: what the same body would meet at /v1/generate. */
void bw_generate_quote(struct bw_service *service, struct bw_exchange *exchange);

/* No new work is taken; true if that was said. Where another process goes on with the listening
 * socket nobody is sent away: each connection has the request that is on its way answered, and is
 * then closed. */
bool bw_generate_refuse_draining(struct bw_service *service, struct bw_exchange *exchange);

/* The pieces that jobs are made of as well. Each answers the exchange if it fails. */

/* Read the body of a request for pictures; false if it was refused. */
bool bw_generate_read(struct bw_service *service, struct bw_exchange *exchange,
                      struct bw_request *request);

/* How the client wants the answer, by Accept; settles the request's format. -1: it was refused. */
int bw_generate_form(struct bw_exchange *exchange, struct bw_request *request);

/* Settle model and seed, plan the pictures, and have the order admitted; NULL if it was refused. */
struct bw_order *bw_generate_order(struct bw_service *service, struct bw_exchange *exchange,
                                   struct bw_request *request, bool watched);

/* Settle model and seed and see that the pictures can be made, without having them admitted; how
 * many steps they are together. 0: it was refused. */
int bw_generate_settle(struct bw_service *service, struct bw_exchange *exchange,
                       struct bw_request *request);

/* As bw_generate_order() without anybody to answer: what is wrong is in `err` (BW_EBUSY: for now).
 */
struct bw_order *bw_generate_order_unasked(struct bw_service *service, const char *client,
                                           struct bw_request *request, struct bw_err *err);

#endif
