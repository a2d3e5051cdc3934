/* Load report: what became of the requests of a plan.
 *
 * Every latency counts from the moment a request was due, not from when it was sent, so that a
 * generator or a server that falls behind does not make the figures look better. One thread.
 */
#ifndef BW_CLI_LOAD_REPORT_H
#define BW_CLI_LOAD_REPORT_H

#include "base/buf.h"
#include "cli/load_http.h"
#include "cli/load_plan.h"

struct bw_load_run {
    const struct bw_load_plan *plan;
    const struct bw_load_answer *answers; // [plan->trace.count]
    double start_ms;                      // bw_now_ms() of the plan's beginning
};

/* Append the report: a table for people, or one JSON object on a line. BW_ENOMEM. */
int bw_load_report(const struct bw_load_run *run, bool json, struct bw_buf *out,
                   struct bw_err *err);

/* Append one JSON object a line for each request, in the plan's order. */
void bw_load_report_log(const struct bw_load_run *run, struct bw_buf *out);

#endif
