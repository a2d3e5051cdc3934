/* Job: one picture on its way loop -> scheduler -> worker -> loop.
 *
 * Whoever holds a job owns all of it, with two exceptions: `cancelled` is set by the loop at any
 * time and looked at by the worker at every step, and `task` is the scheduler's from admission
 * until the job is over, even while a worker advances the picture.
 */
#ifndef BW_SERVER_JOB_H
#define BW_SERVER_JOB_H

#include "api/request.h"
#include "base/buf.h"
#include "engine/plan.h"
#include "engine/sampler.h"
#include "server/board.h"

#include <stdatomic.h>

struct bw_job {
    struct bw_job *next; // in whatever list holds the job
    void *owner;         // of the loop: the request this picture belongs to

    struct bw_served *served; // the model it is made with, retained by the owner
    struct bw_plan plan;
    struct bw_ladder ladder;
    struct bw_task task;
    const struct bw_request *request; // the owner's: how to encode it
    bool commented;                   // the file says what it was made with
    atomic_bool cancelled;

    bool watched; // somebody follows its steps
    int previews; // wanted on the way, if watched

    struct bw_sampler sampler; // the worker's, once the picture is in progress
    unsigned char *rgb;  // [height, width, 3] in pixels, the worker's: decoded, not encoded yet
    struct bw_buf image; // the result, if `err` is empty
    struct bw_err err;
    double admitted_ms, predicted_ms, started_ms, computed_ms, encoded_ms; // bw_now_ms()
};

/* Picture `number` of a request that arrived then, of the model with that price; nothing has been
 * decided about it yet. The request has to outlive the job. */
void bw_job_init(struct bw_job *job, const struct bw_request *request, const struct bw_plan *plan,
                 struct bw_price *price, int number, double arrived_ms, void *owner);

#endif
