/* Service: what all handlers share. Belongs to the loop's thread, except what says otherwise
 * itself. */
#ifndef BW_SERVER_SERVICE_H
#define BW_SERVER_SERVICE_H

#include "server/catalogue.h"
#include "server/config.h"
#include "server/gate.h"
#include "server/http.h"
#include "server/loop.h"
#include "server/metrics.h"
#include "server/scheduler.h"
#include "server/workers.h"

struct bw_order;
struct bw_jobs;

struct bw_service {
    const struct bw_config *config;
    struct bw_catalogue *catalogue;
    struct bw_loop *loop;
    struct bw_http *http;
    struct bw_http *admin; // NULL: no listener of its own
    struct bw_gate gate;
    struct bw_scheduler scheduler; // any thread
    struct bw_metrics metrics;     // any thread
    struct bw_workers *workers;
    struct bw_order *oldest, *newest; // orders that are not gone, by age
    struct bw_jobs *jobs;
    double started_ms;
    bool outlived;   // the listening socket is another process's too, which goes on where we end
    int in_progress; // pictures admitted and not over
};

#endif
