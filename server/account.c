/* The end of a job is rendered once, when it comes, and everything that is told later is put around
 * it. */
#include "server/account.h"

#include "api/job.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/digest.h"
#include "server/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *bw_account_text(const struct bw_record *record, bool over, int step, int steps, int keep_s)
{
    struct bw_job_view view = {.id = record->id,
                               .created_s = record->created_s,
                               .finished_s = over ? record->finished_s : 0,
                               .result = over ? record->result : NULL,
                               .request = record->body,
                               .step = step,
                               .steps = steps};
    if (view.finished_s)
        view.expires_s = record->finished_s + keep_s;
    return bw_job_render(&view);
}

void bw_account_respond(struct bw_exchange *x, int status, const char *id, char *text)
{
    char location[BW_JOB_ID_CHARS + 16];
    const struct bw_header headers[] = {
        {status == 200 ? NULL : "Location", location},
        {status == 202 ? "Preference-Applied" : NULL, "respond-async"},
        {NULL, NULL}};
    snprintf(location, sizeof location, "/v1/jobs/%s", id);
    bw_answer_json(x, status, headers, text);
}

/* ---- the end ---- */

static void describe_failure(const struct bw_order *o, const char *id, struct bw_store_end *end)
{
    char *request = bw_request_render(&o->request);
    char *problem = bw_problem_render(o->problem, &o->err, NULL, id, false);
    end->outcome = BW_JOB_FAILED;
    if (request && problem)
        end->result = bw_job_failure(request, o->steps_done,
                                     o->request.count * o->jobs[0].plan.steps, problem);
    free(request);
    free(problem);
}

/* Copy the pictures, which others may still be answered with. False without memory. */
static bool copy_pictures(const struct bw_generation *result, struct bw_store_end *end)
{
    for (int i = 0; i < result->request.count; i++) {
        const struct bw_image *image = &result->images[i];
        unsigned char *bytes = malloc(image->size_bytes);
        if (!bytes)
            return false;
        memcpy(bytes, image->bytes, image->size_bytes);
        end->pictures[i].bytes = bytes;
        end->pictures[i].size_bytes = image->size_bytes;
        end->pictures[i].media_type = bw_format_media_type(result->request.format);
        end->picture_count = i + 1;
    }
    return true;
}

void bw_account_end(const struct bw_order *o, const char *id, struct bw_store_end *end)
{
    struct bw_image images[BW_MAX_COUNT];
    end->finished_s = bw_unix_s();
    if (o->failed) {
        describe_failure(o, id, end);
        return;
    }
    struct bw_generation result = bw_order_result(o, images);
    end->outcome = BW_JOB_COMPLETED;
    if (copy_pictures(&result, end))
        end->result = bw_job_result(id, &result);
}

void bw_account_refusal(const struct bw_record *record, const struct bw_err *why,
                        struct bw_store_end *end)
{
    char *problem = bw_problem_render(bw_problem_of(why), why, NULL, record->id, false);
    *end = (struct bw_store_end){.outcome = BW_JOB_FAILED, .finished_s = bw_unix_s()};
    end->result = problem ? bw_job_failure(record->body, 0, 1, problem) : NULL;
    free(problem);
}

void bw_account_release(struct bw_store_end *end)
{
    free(end->result);
    for (int i = 0; i < end->picture_count; i++)
        free(end->pictures[i].bytes);
    *end = (struct bw_store_end){0};
}

/* ---- who is told ---- */

void bw_account_note(struct bw_service *service, const char *id, const char *owner,
                     const struct bw_trace_context *trace, const struct bw_order *order,
                     enum bw_outcome outcome)
{
    static const char *const names[BW_OUTCOMES] = {"done", "failed", "cancelled"};
    struct bw_log_line line;
    bw_metrics_job(&service->metrics, outcome);
    bw_log_begin(&line, BW_LOG_INFO, "job-over");
    bw_log_text(&line, "id", id);
    if (*owner)
        bw_log_text(&line, "client", owner);
    if (*trace->trace)
        bw_log_text(&line, "trace", trace->trace);
    bw_log_text(&line, "outcome", names[outcome]);
    if (order) {
        bw_log_int(&line, "pictures", order->request.count);
        bw_log_ms(&line, "duration_ms", bw_now_ms() - order->arrived_ms);
    }
    bw_log_end(&line);
}

void bw_account_report(struct bw_webhook *webhook, const struct bw_record *record, char *text,
                       const struct bw_trace_context *trace)
{
    struct bw_request request;
    char traceparent[BW_TRACEPARENT_CHARS] = "";
    char made_of[BW_DIGEST_CHARS], event[BW_OWNER_CHARS + BW_JOB_ID_CHARS + 24 + BW_DIGEST_CHARS];
    if (*trace->trace)
        bw_trace_context_render(trace, traceparent);
    bw_digest(record->body, strlen(record->body), made_of); // ids are used again
    snprintf(event, sizeof event, "%s/%s/%lld/%s", record->owner, record->id,
             (long long)record->created_s, made_of);
    if (text && !bw_request_parse(&request, record->body, strlen(record->body), NULL) &&
        *request.webhook)
        bw_webhook_send(webhook, request.webhook, event, text, traceparent);
    free(text);
}
