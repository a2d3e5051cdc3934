/* Jobs: pictures that are made while the client does something else, or that it may ask for twice.
 *
 * A job is a record in the store and, until it is over, an order; if replicas share a store, of the
 * replica that has taken it (server/desk.h answers then). Requests become jobs by PUT
 * /v1/jobs/{id}, by "Prefer: respond-async", or by an Idempotency-Key, which is the job's id.
 * Thread: the loop's.
 */
#ifndef BW_SERVER_JOBS_H
#define BW_SERVER_JOBS_H

#include "server/service.h"
#include "server/store.h"
#include "server/webhook.h"

/* Open the store and the webhooks as `service->config` says. As bw_store_new() and
 * bw_webhook_new(). */
int bw_jobs_new(struct bw_jobs **jobs, struct bw_service *service, struct bw_err *err);

/* Have all jobs made that a former process admitted and did not finish, those for which there is a
 * place; those that cannot be made are reported failed. When orders can be admitted. */
void bw_jobs_resume(struct bw_jobs *jobs);

/* Nothing will be answered any more; then, when the orders and the loop are gone, the rest. NULL is
 * allowed. */
void bw_jobs_quiet(struct bw_jobs *jobs);
void bw_jobs_free(struct bw_jobs *jobs);

/* About once a second or more often: forget what is out of date, resume what found no place before.
 */
void bw_jobs_tick(struct bw_jobs *jobs);

/* Jobs that are not over, or whose end is not written yet. */
int bw_jobs_pending(const struct bw_jobs *jobs);

/* What the store holds; of one that replicas share only how many are open, as of lately. */
struct bw_store_use bw_jobs_use(const struct bw_jobs *jobs);

/* Can the store be reached? One of our own always can. */
bool bw_jobs_reachable(const struct bw_jobs *jobs);

/* Streams of events of jobs whose store is shared. */
int bw_jobs_streams(const struct bw_jobs *jobs);

/* Make a job of a POST of /v1/generate that asks for it by its header fields; false if it does not
 * ask, else it is answered. */
bool bw_jobs_take(struct bw_service *service, struct bw_exchange *exchange,
                  struct bw_request *request);

/* The paths under /v1/jobs. */
void bw_jobs_put(struct bw_service *service, struct bw_exchange *exchange);
void bw_jobs_get(struct bw_service *service, struct bw_exchange *exchange);
void bw_jobs_delete(struct bw_service *service, struct bw_exchange *exchange);
void bw_jobs_events(struct bw_service *service, struct bw_exchange *exchange);
void bw_jobs_image(struct bw_service *service, struct bw_exchange *exchange);

#endif
