/* Generate: from a request body to pictures.
 *
 * A request becomes one job per picture; all of them are admitted or none. The answer goes out when
 * the last is over. If the client leaves, its jobs are taken off the board or stop at their next
 * step.
 */
#ifndef BW_SERVER_GENERATE_H
#define BW_SERVER_GENERATE_H

#include "server/service.h"

/* POST /v1/generate and POST /v1/images/generations. */
void bw_generate_handle(struct bw_service *service, struct bw_exchange *exchange);
void bw_generate_handle_openai(struct bw_service *service, struct bw_exchange *exchange);

/* POST /v1/quote: what the same body would meet at /v1/generate. */
void bw_generate_quote(struct bw_service *service, struct bw_exchange *exchange);

/* Take the jobs the workers are done with and answer the requests that are complete. */
void bw_generate_collect(void *service);

#endif
