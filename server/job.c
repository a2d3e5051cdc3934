/* What a job is told before it meets the board. */
#include "server/job.h"

#include <math.h>

void bw_job_init(struct bw_job *job, const struct bw_request *request, const struct bw_plan *plan,
                 struct bw_price *price, int number, double arrived_ms, void *owner)
{
    bool has_deadline = request->deadline_ms > 0;
    job->owner = owner;
    job->plan = *plan;
    job->plan.index += (uint32_t)number;
    job->request = request;
    job->admitted_ms = arrived_ms;
    job->task = (struct bw_task){
        .arch = price->arch,
        .price = price,
        .automatic = request->picture.skip.kind == BW_SKIP_AUTO,
        .priority = request->priority,
        .arrived_ms = arrived_ms,
        .due_ms = has_deadline ? arrived_ms + request->deadline_ms : INFINITY,
        .promised = has_deadline,
    };
}
