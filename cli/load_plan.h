/* Load plan: which requests are sent and when, settled before the first one is.
 *
 * A plan is a trace whose requests belong to groups, for the report: the entries of a mix, or, if
 * the trace came from a file, its clients. One thread.
 */
#ifndef BW_CLI_LOAD_PLAN_H
#define BW_CLI_LOAD_PLAN_H

#include "api/trace.h"
#include "cli/load_mix.h"

#include <stdbool.h>
#include <stdint.h>

enum { BW_LOAD_MOST_REQUESTS = 100000 };

struct bw_load_plan {
    struct bw_trace trace;
    uint8_t *groups; // [trace.count]
    int group_count;
    char names[BW_LOAD_GROUPS][BW_TRACE_CLIENT_CHARS]; // of the groups: "mix 1", "127.0.0.2"
};

/* Arrivals: a Poisson process, or one every 1/rate seconds, the first at once. */
struct bw_load_process {
    double rate, seconds; // requests a second, from 0 to `seconds`
    bool even;
    uint64_t seed; // the same gives the same plan, and the same moments for every mix
};

/* Draw a plan. BW_ERANGE: no requests, more than BW_LOAD_MOST_REQUESTS, or one that cannot be sent
 * as it is; BW_ENOMEM. The caller releases the plan in any case. */
int bw_load_plan_draw(struct bw_load_plan *plan, const struct bw_load_process *process,
                      const struct bw_load_mix *mix, struct bw_err *err);

/* Read a plan from a trace file. As above, or BW_EIO. */
int bw_load_plan_read(struct bw_load_plan *plan, const char *path, struct bw_err *err);

/* Write the trace that gives the same schedule again. BW_EIO. */
int bw_load_plan_save(const struct bw_load_plan *plan, const char *path, struct bw_err *err);

void bw_load_plan_release(struct bw_load_plan *plan);

#endif
