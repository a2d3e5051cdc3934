/* Job: one picture on its way loop -> queue -> worker -> loop.
 *
 * Whoever holds a job owns all of it, with one exception: `cancelled` is set by the loop at any
 * time and looked at by the worker at every step.
 */
#ifndef BW_SERVER_JOB_H
#define BW_SERVER_JOB_H

#include "api/request.h"
#include "base/buf.h"
#include "engine/plan.h"
#include "engine/sampler.h"

#include <stdatomic.h>

struct bw_job {
    struct bw_job *next; // in whatever list holds the job
    void *owner;         // of the loop: the request this picture belongs to

    struct bw_plan plan;
    enum bw_format format;
    int quality;
    atomic_bool cancelled;

    struct bw_sampler sampler; // the worker's, while the picture is in progress
    struct bw_buf image;       // the result, if `err` is empty
    struct bw_err err;
    double admitted_ms, started_ms, computed_ms, encoded_ms; // bw_now_ms()
};

#endif
