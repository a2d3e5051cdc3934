/* Crew: the jobs of the fleet that this replica runs: takes them when it has room, tells of them,
 * stores their ends, and leaves them if they are taken from it. Thread: the loop's.
 */
#ifndef BW_SERVER_CREW_H
#define BW_SERVER_CREW_H

#include "server/fleet.h"
#include "server/order.h"
#include "server/webhook.h"

struct bw_crew;

/* All three outlive it. BW_ENOMEM. */
int bw_crew_new(struct bw_crew **crew, struct bw_service *service, struct bw_fleet *fleet,
                struct bw_webhook *webhook, struct bw_err *err);

/* After the fleet is closed: let go of everything. NULL is allowed. */
void bw_crew_free(struct bw_crew *crew);

/* Run an admitted order, which is the crew's from now on, as a job that is added with it. `fn` is
 * called as by bw_fleet_add(); unless that is done the order is given up. */
void bw_crew_promise(struct bw_crew *crew, struct bw_order *order, const struct bw_record *record,
                     const struct bw_trace_context *trace, bw_fleet_fn *fn, void *context);

/* A job may wait in the queue; one was removed; Redis is there again, or gone. */
void bw_crew_wake(struct bw_crew *crew);
void bw_crew_removed(struct bw_crew *crew, const char *key);
void bw_crew_state(struct bw_crew *crew, bool up);

/* About once a second, and as often as you like. */
void bw_crew_tick(struct bw_crew *crew);

/* Jobs that have to be finished, or given back, before the process ends. What cannot be stored
 * because Redis is away for longer than a lease is not waited for: another replica makes it. */
int bw_crew_pending(const struct bw_crew *crew);

#endif
