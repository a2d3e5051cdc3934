/* Simulate: what the service would make of a trace, in virtual time.
 *
 * The same dispatch as the server's takes the requests; only the network is replaced by its price.
 * For trying policies and settings, for planning capacity, and to check the scheduler against
 * reality.
 */
#ifndef BW_SERVER_SIMULATE_H
#define BW_SERVER_SIMULATE_H

#include "api/trace.h"
#include "base/buf.h"
#include "server/dispatch.h"

struct bw_fate {
    enum bw_refusal refusal;
    double latency_ms, predicted_ms; // if admitted
    double excess_loss;              // the mean of its pictures
    int steps;                       // it ran with
};

/* fates [trace->count]. Requests that name another model, class or size than there is: as
 * bw_plan_make(); BW_ENOMEM. Pure but for memory. */
int bw_simulate(const struct bw_trace *trace, const struct bw_rules *rules,
                const struct bw_price *price, int max_area, struct bw_fate *fates,
                struct bw_err *err);

/* One line of JSON that sums them up. */
void bw_simulate_report(const struct bw_trace *trace, const struct bw_fate *fates,
                        struct bw_buf *out);

#endif
