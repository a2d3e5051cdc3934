/* Desk: answers requests for jobs that replicas share, whichever of them has the job.
 *
 * Everything is asked of the fleet first, so answers come later; without Redis they are 503. It
 * owns the fleet and the crew of this replica. Thread: the loop's.
 */
#ifndef BW_SERVER_DESK_H
#define BW_SERVER_DESK_H

#include "server/order.h"
#include "server/store.h"
#include "server/webhook.h"

struct bw_desk;

/* As service->config says; the webhook outlives it. BW_ERANGE, BW_ENOMEM. */
int bw_desk_new(struct bw_desk **desk, struct bw_service *service, struct bw_webhook *webhook,
                int most_open, struct bw_err *err);
void bw_desk_close(struct bw_desk *desk); // when no exchange is left, before the loop is freed
void bw_desk_free(struct bw_desk *desk);  // after it. NULL is allowed in both

/* How a request that becomes a job is answered. */
struct bw_manner {
    int status; // 201 or 202: at once, when the job is saved; 0: in this form, when it is over
    enum bw_form form; // if status is 0
};

/* Make a job of a request whose format is settled, or find that there is one. `record`: id, owner,
 * fingerprint and created_s. */
void bw_desk_take(struct bw_desk *desk, struct bw_exchange *exchange,
                  const struct bw_record *record, const struct bw_request *request,
                  struct bw_manner manner);

/* The paths under /v1/jobs. */
void bw_desk_get(struct bw_desk *desk, struct bw_exchange *exchange);
void bw_desk_delete(struct bw_desk *desk, struct bw_exchange *exchange);
void bw_desk_events(struct bw_desk *desk, struct bw_exchange *exchange, int64_t seen);
void bw_desk_image(struct bw_desk *desk, struct bw_exchange *exchange);

/* About once a second or more often. */
void bw_desk_tick(struct bw_desk *desk);

/* What has to be done before the process ends; see bw_crew_pending(). */
int bw_desk_pending(const struct bw_desk *desk);

bool bw_desk_reachable(const struct bw_desk *desk);
int bw_desk_open(const struct bw_desk *desk);    // jobs that are not over, as of lately
int bw_desk_streams(const struct bw_desk *desk); // of events, that are open

#endif
