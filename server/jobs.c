/* A running job ties a record to an order and sees two things through that may come in either
 * order: the record is saved as admitted, and the order ends. When both are true the end is stored,
 * and when that is done the order is let go and the running job is gone. */
#include "server/jobs.h"

#include "api/events.h"
#include "api/prefer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "server/account.h"
#include "server/answer.h"
#include "server/desk.h"
#include "server/generate.h"
#include "server/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RECORDS = 16384, WEBHOOK_GRACE_MS = 5000, CLOCK_JUMP_S = 30 };

struct running {
    struct bw_keeper keeper; // first: a keeper of ours is the running job
    struct running *next;
    struct bw_jobs *jobs;
    struct bw_order *order; // NULL: it has found no place yet
    char id[BW_JOB_ID_CHARS], owner[BW_OWNER_CHARS];
    bool saved;                    // the record, as admitted
    bool ended;                    // the order, and how is in `end`
    struct bw_trace_context trace; // of the request that made it; "" after a restart
    struct bw_store_end end;       // result NULL: there was no memory for it
    struct bw_exchange *maker; // to be told that the record is saved; NULL: nobody waits for that
    int status;                // it is told so with
};

struct bw_jobs {
    struct bw_service *service;
    struct bw_store *store; // NULL: the desk has another, and answers
    struct bw_desk *desk;   // NULL: the store is ours alone
    struct bw_webhook *webhook;
    struct running *running;
    bool full;       // the last of them that was to be restarted found no place
    int64_t clock_s; // what the clock said at the start, and what it has been set by since
};

/* ---- what a job looks like ---- */

static struct running *find_running(const struct bw_jobs *jobs, const char *owner, const char *id)
{
    struct running *r = jobs->running;
    while (r && (strcmp(r->id, id) || strcmp(r->owner, owner)))
        r = r->next;
    return r;
}

/* The Job as text: of a record that is over as it ended, or as far as the running job is. NULL
 * without memory. */
static char *describe(const struct bw_jobs *jobs, const struct bw_record *record,
                      const struct running *r)
{
    const struct bw_order *o = r ? r->order : NULL;
    return bw_account_text(record, !r, o ? o->steps_done : 0,
                           o ? o->request.count * o->jobs[0].plan.steps : 1,
                           jobs->service->config->jobs_keep_s);
}

/* The same, as it is now: a job is not over before its end is stored. */
static char *describe_now(const struct bw_jobs *jobs, const struct bw_record *record)
{
    return describe(jobs, record, find_running(jobs, record->owner, record->id));
}

static const char *owner_of(struct bw_exchange *x)
{
    return bw_exchange_caller(x)->key;
}

static void respond(const struct bw_jobs *jobs, struct bw_exchange *x, int status,
                    const struct bw_record *record)
{
    bw_account_respond(x, status, record->id, describe_now(jobs, record));
}

/* ---- the course of a job ---- */

static void forget(struct running *r)
{
    struct running **at = &r->jobs->running;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (r->order)
        bw_order_let_go(r->order);
    bw_account_release(&r->end);
    free(r);
}

/* The same, but whoever waits for the pictures is told that there will be none. */
static void abandon(struct running *r, enum bw_problem problem, const char *reason)
{
    struct bw_order *o = r->order;
    if (o && !o->ended) {
        r->order = NULL;
        o->keeper = NULL;
        bw_order_give_up(o, problem, reason);
    }
    forget(r);
}

static void note_end(const struct running *r, enum bw_outcome outcome)
{
    bw_account_note(r->jobs->service, r->id, r->owner, &r->trace, r->order, outcome);
}

static void on_end_saved(void *context, const struct bw_err *err)
{
    struct running *r = context;
    const struct bw_record *record = NULL;
    if (err->code != BW_ECANCELLED) // else it was deleted meanwhile
        record = bw_store_find(r->jobs->store, r->owner, r->id);
    if (record && err->code) // it is kept in memory, so only a restart makes a difference
        bw_log_message(BW_LOG_ERROR, "job-not-saved", err->message);
    if (record)
        bw_account_report(r->jobs->webhook, record, describe(r->jobs, record, NULL), &r->trace);
    forget(r);
}

/* Store the end, once there is one and a record to put it in. */
static void finish(struct running *r)
{
    if (!r->saved || !r->ended)
        return;
    if (!r->end.result) {
        bw_log_message(BW_LOG_ERROR, "job-lost", "out of memory for the end of a job");
        note_end(r, BW_FAILED);
        bw_store_remove(r->jobs->store, r->owner, r->id);
        forget(r);
        return;
    }
    struct bw_store_end end = r->end;
    r->end = (struct bw_store_end){0};
    note_end(r, end.outcome == BW_JOB_COMPLETED ? BW_DONE : BW_FAILED);
    if (bw_store_finish(r->jobs->store, r->owner, r->id, &end, on_end_saved, r))
        forget(r); // it was deleted meanwhile
}

/* ---- the clock ---- */

/* What the clock is set to: its time less that of the one that only goes on. */
static int64_t clock_set_s(void)
{
    return bw_unix_s() - (int64_t)(bw_now_ms() / 1e3);
}

/* The clock may be set while jobs are kept; that makes none of them older or younger. */
static void follow_clock(struct bw_jobs *jobs)
{
    struct bw_log_line line;
    int64_t said_s = clock_set_s(), by_s = said_s - jobs->clock_s;
    if (by_s > -CLOCK_JUMP_S && by_s < CLOCK_JUMP_S)
        return;
    bw_store_shift(jobs->store, by_s);
    jobs->clock_s = said_s;
    bw_log_begin(&line, BW_LOG_WARN, "clock-was-set");
    bw_log_int(&line, "by_s", by_s);
    bw_log_end(&line);
}

/* ---- the end ---- */

static void on_ended(struct bw_keeper *keeper, struct bw_order *order)
{
    struct running *r = (struct running *)keeper;
    const struct bw_record *record = bw_store_find(r->jobs->store, r->owner, r->id);
    r->ended = true;
    follow_clock(r->jobs); // its end is stamped with the clock as it is now
    bw_account_end(order, r->id, &r->end);
    if (record && r->end.result) { // for those who follow the events
        struct bw_record finished = *record;
        finished.finished_s = r->end.finished_s;
        finished.result = r->end.result;
        order->job_text = describe(r->jobs, &finished, NULL);
    }
    finish(r);
}

static void on_saved(void *context, const struct bw_err *err)
{
    struct running *r = context;
    enum bw_problem problem =
        err->code == BW_ECANCELLED ? BW_PROBLEM_CANCELLED : BW_PROBLEM_INTERNAL;
    struct bw_exchange *maker = r->maker;
    r->maker = NULL;
    r->saved = !err->code;
    if (maker && r->saved)
        respond(r->jobs, maker, r->status, bw_store_find(r->jobs->store, r->owner, r->id));
    else if (maker)
        bw_exchange_refuse(maker, problem, err, NULL);
    if (r->saved)
        finish(r);
    else
        abandon(r, problem, err->message);
}

/* ---- making a job ---- */

static void maker_left(void *context)
{
    ((struct running *)context)->maker = NULL;
}

static struct running *new_running(struct bw_jobs *jobs, const char *owner, const char *id)
{
    struct running *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->keeper.ended = on_ended;
    r->jobs = jobs;
    snprintf(r->id, sizeof r->id, "%s", id);
    snprintf(r->owner, sizeof r->owner, "%s", owner);
    r->next = jobs->running;
    jobs->running = r;
    return r;
}

static void keep(struct running *r, struct bw_order *order)
{
    r->order = order;
    order->keeper = &r->keeper;
}

/* What tells a request that is sent again from another one: all of it but a seed left open. */
static int make_fingerprint(const struct bw_request *request, char out[BW_SHA256_CHARS])
{
    char *text = bw_request_render(request);
    struct bw_buf all = {0};
    bw_buf_addf(&all, "%s %d", text ? text : "", request->seeded);
    int code = text && !all.failed ? BW_OK : BW_ENOMEM;
    if (!code)
        bw_digest(all.data, all.length_bytes, out);
    bw_buf_release(&all);
    free(text);
    return code;
}

/* After a restart a job may have to wait until it is admitted again. */
static void refuse_waiting(struct bw_exchange *x)
{
    struct bw_err err = {0};
    bw_err_set(&err, BW_EBUSY, "the job waits for its place");
    bw_exchange_refuse(x, BW_PROBLEM_NOT_READY, &err, &(struct bw_header){"Retry-After", "1"});
}

static void answer_existing(struct bw_jobs *jobs, struct bw_exchange *x,
                            const struct bw_record *record, struct bw_manner manner)
{
    struct running *r = find_running(jobs, record->owner, record->id);
    if (manner.status)
        respond(jobs, x, manner.status == 201 ? 200 : 202, record);
    else if (r && r->order)
        bw_order_listen(r->order, x, manner.form, 0, NULL);
    else if (record->outcome != BW_JOB_OPEN)
        bw_replay(bw_shelf_of_store(jobs->store), record, x, manner.form);
    else
        refuse_waiting(x);
}

static void make_new(struct bw_jobs *jobs, struct bw_exchange *x, struct bw_record *record,
                     struct bw_request *request, struct bw_manner manner)
{
    struct bw_err err = {0};
    struct bw_order *o = bw_generate_order(jobs->service, x, request, true);
    if (!o)
        return;
    struct running *r = new_running(jobs, record->owner, record->id);
    record->body = r ? bw_request_render(&o->request) : NULL;
    if (!record->body) {
        bw_err_set(&err, BW_ENOMEM, "out of memory");
        bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
        bw_order_give_up(o, BW_PROBLEM_INTERNAL, err.message);
        if (r)
            forget(r);
        return;
    }
    keep(r, o);
    r->trace = bw_exchange_caller(x)->trace;
    if (manner.status) {
        r->maker = x;
        r->status = manner.status;
        bw_exchange_on_leave(x, maker_left, r);
    } else {
        bw_order_listen(o, x, manner.form, 0, NULL);
    }
    if (bw_store_add(jobs->store, record, on_saved, r, &err)) {
        if (r->maker)
            bw_exchange_refuse(x, bw_problem_of(&err), &err,
                               &(struct bw_header){"Retry-After", "1"});
        abandon(r, bw_problem_of(&err), err.message);
    }
    free(record->body);
}

/* Make a job of a request, or find that there is one. */
static void take(struct bw_service *service, struct bw_exchange *x, const char *id,
                 struct bw_request *request, struct bw_manner manner)
{
    struct bw_jobs *jobs = service->jobs;
    struct bw_record record = {.created_s = bw_unix_s()};
    struct bw_err err = {0};
    if (*request->webhook && bw_webhook_check(jobs->webhook, request->webhook, &err)) {
        bw_exchange_refuse(x, bw_problem_of(&err), &err, NULL);
        return;
    }
    snprintf(record.id, sizeof record.id, "%s", id);
    snprintf(record.owner, sizeof record.owner, "%s", owner_of(x));
    request->format = request->format == BW_FORMAT_ANY ? BW_FORMAT_JPEG : request->format;
    if (make_fingerprint(request, record.fingerprint)) {
        bw_err_set(&err, BW_ENOMEM, "out of memory");
        bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
        return;
    }
    if (jobs->desk) {
        bw_desk_take(jobs->desk, x, &record, request, manner);
        return;
    }
    const struct bw_record *known = bw_store_find(jobs->store, record.owner, record.id);
    if (!known) {
        make_new(jobs, x, &record, request, manner);
    } else if (strcmp(known->fingerprint, record.fingerprint) == 0) {
        answer_existing(jobs, x, known, manner);
    } else {
        bw_err_set(&err, BW_ERANGE, "%s is the job of another request", id);
        bw_exchange_refuse(x, BW_PROBLEM_CONFLICT, &err, NULL);
    }
}

bool bw_jobs_take(struct bw_service *service, struct bw_exchange *x, struct bw_request *request)
{
    char prefer[BW_HEADERS_LIMIT], id[BW_JOB_ID_CHARS];
    struct bw_err err = {0};
    struct bw_manner manner = {0};
    const char *key = bw_exchange_header(x, "Idempotency-Key");
    bw_exchange_list(x, "Prefer", prefer, sizeof prefer);
    bool async = bw_prefer_async(*prefer ? prefer : NULL);
    if (!async && !key)
        return false;
    if (key && !bw_record_id_ok(key)) {
        bw_err_set(&err, BW_ESYNTAX,
                   "Idempotency-Key is not 1 to 64 letters, digits, \"_\", \".\" or \"-\"");
        bw_exchange_refuse(x, BW_PROBLEM_MALFORMED, &err, NULL);
        return true;
    }
    snprintf(id, sizeof id, key ? "%s" : "%.0s%016llx", key ? key : "",
             (unsigned long long)bw_random());
    if (async) {
        manner.status = 202;
    } else {
        int form = bw_generate_form(x, request);
        if (form < 0)
            return true;
        manner.form = (enum bw_form)form;
    }
    take(service, x, id, request, manner);
    return true;
}

/* ---- paths ---- */

/* The record that the path names; NULL if there is none, which was said. */
static const struct bw_record *find(struct bw_service *service, struct bw_exchange *x)
{
    char id[BW_JOB_ID_CHARS + 1];
    struct bw_err err = {0};
    bw_exchange_segment(x, 2, id, sizeof id);
    const struct bw_record *record = bw_store_find(service->jobs->store, owner_of(x), id);
    if (record)
        return record;
    bool was = bw_store_was(service->jobs->store, owner_of(x), id);
    bw_err_set(&err, BW_ENOTFOUND,
               was ? "the job was deleted, or its time is over" : "there is no such job");
    bw_exchange_refuse(x, was ? BW_PROBLEM_GONE : BW_PROBLEM_UNKNOWN_JOB, &err, NULL);
    return NULL;
}

void bw_jobs_put(struct bw_service *service, struct bw_exchange *x)
{
    char id[BW_JOB_ID_CHARS + 1];
    struct bw_request request;
    struct bw_err err = {0};
    if (!bw_generate_read(service, x, &request))
        return;
    bw_exchange_segment(x, 2, id, sizeof id);
    if (!bw_record_id_ok(id)) {
        bw_err_set(&err, BW_ERANGE, "a job's id is 1 to 64 letters, digits, \"_\", \".\" or \"-\"");
        bw_exchange_refuse(x, BW_PROBLEM_INVALID, &err, NULL);
        return;
    }
    take(service, x, id, &request, (struct bw_manner){.status = 201});
}

void bw_jobs_get(struct bw_service *service, struct bw_exchange *x)
{
    if (service->jobs->desk) {
        bw_desk_get(service->jobs->desk, x);
        return;
    }
    const struct bw_record *record = find(service, x);
    if (record)
        bw_answer_json(x, 200, NULL, describe_now(service->jobs, record));
}

void bw_jobs_delete(struct bw_service *service, struct bw_exchange *x)
{
    if (service->jobs->desk) {
        bw_desk_delete(service->jobs->desk, x);
        return;
    }
    const struct bw_record *record = find(service, x);
    if (!record)
        return;
    struct running *r = find_running(service->jobs, record->owner, record->id);
    if (r && record->outcome == BW_JOB_OPEN)
        note_end(r, BW_CANCELLED);
    if (r && r->saved && !r->ended) // otherwise the store calls back
        abandon(r, BW_PROBLEM_CANCELLED, "the job was deleted");
    bw_store_remove(service->jobs->store, record->owner, record->id);
    bw_exchange_respond(x, 204, NULL, NULL, 0);
}

/* The events of a job after the first `seen`. */
static void follow(struct bw_jobs *jobs, struct bw_exchange *x, const struct bw_record *record,
                   int64_t seen)
{
    struct running *r = find_running(jobs, record->owner, record->id);
    if (r && r->order)
        bw_order_listen(r->order, x, BW_FORM_JOB_EVENTS, seen, NULL);
    else if (record->outcome != BW_JOB_OPEN)
        bw_replay_end(record, describe(jobs, record, NULL), seen, x);
    else
        refuse_waiting(x);
}

void bw_jobs_events(struct bw_service *service, struct bw_exchange *x)
{
    static const char *const offer[] = {"text/event-stream"};
    struct bw_jobs *jobs = service->jobs;
    struct bw_err err = {0};
    int64_t seen;
    const struct bw_record *record = jobs->desk ? NULL : find(service, x);
    if (!record && !jobs->desk)
        return;
    if (bw_answer_choose(x, offer, 1, "events come as text/event-stream") < 0)
        return;
    if (bw_event_last_id(bw_exchange_header(x, "Last-Event-ID"), &seen, &err))
        bw_exchange_refuse(x, bw_problem_of(&err), &err, NULL);
    else if (jobs->desk)
        bw_desk_events(jobs->desk, x, seen);
    else
        follow(jobs, x, record, seen);
}

void bw_jobs_image(struct bw_service *service, struct bw_exchange *x)
{
    if (service->jobs->desk) {
        bw_desk_image(service->jobs->desk, x);
        return;
    }
    const struct bw_record *record = find(service, x);
    if (record)
        bw_replay_image(bw_shelf_of_store(service->jobs->store), record, x);
}

/* ---- life ---- */

int bw_jobs_new(struct bw_jobs **out, struct bw_service *service, struct bw_err *err)
{
    const struct bw_config *config = service->config;
    const struct bw_store_limits limits = {.keep_s = config->jobs_keep_s,
                                           .bytes = (size_t)config->jobs_bytes,
                                           .records = MOST_RECORDS};
    const struct bw_webhook_settings webhook = {.allow = config->webhook_allow,
                                                .secret_file = config->webhook_secret_file,
                                                .metrics = &service->metrics};
    struct bw_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    jobs->service = service;
    jobs->clock_s = clock_set_s();
    int code = bw_webhook_new(&jobs->webhook, &webhook, err);
    if (!code && bw_redis_url_is(config->jobs))
        code = bw_desk_new(&jobs->desk, service, jobs->webhook, MOST_RECORDS, err);
    else if (!code) // last: once it works on its directory, only bw_loop_free() ends that
        code = bw_store_new(&jobs->store, service->loop, config->jobs, &limits, err);
    if (code) {
        bw_jobs_free(jobs);
        return code;
    }
    *out = jobs;
    return BW_OK;
}

void bw_jobs_quiet(struct bw_jobs *jobs)
{
    if (!jobs)
        return;
    bw_store_quiet(jobs->store);
    bw_desk_close(jobs->desk);
    while (jobs->running)
        forget(jobs->running);
    bw_webhook_free(jobs->webhook, WEBHOOK_GRACE_MS);
    jobs->webhook = NULL;
}

void bw_jobs_free(struct bw_jobs *jobs)
{
    if (!jobs)
        return;
    bw_store_free(jobs->store);
    bw_desk_free(jobs->desk);
    bw_webhook_free(jobs->webhook, WEBHOOK_GRACE_MS);
    free(jobs);
}

int bw_jobs_pending(const struct bw_jobs *jobs)
{
    int count = jobs->desk ? bw_desk_pending(jobs->desk) : 0;
    for (const struct running *r = jobs->running; r; r = r->next)
        count++;
    return count;
}

struct bw_store_use bw_jobs_use(const struct bw_jobs *jobs)
{
    if (jobs->desk)
        return (struct bw_store_use){.open = bw_desk_open(jobs->desk)};
    return bw_store_use(jobs->store);
}

bool bw_jobs_reachable(const struct bw_jobs *jobs)
{
    return !jobs->desk || bw_desk_reachable(jobs->desk);
}

int bw_jobs_streams(const struct bw_jobs *jobs)
{
    return jobs->desk ? bw_desk_streams(jobs->desk) : 0;
}

/* Try to have a job admitted again that a former process left; if it cannot be, that is its end. */
static void restart(struct running *r, const struct bw_record *record)
{
    struct bw_err err = {0};
    struct bw_request request;
    struct bw_order *o = NULL;
    if (!bw_request_parse(&request, record->body, strlen(record->body), &err)) {
        request.deadline_ms = 0; // it was counted from an arrival long ago
        o = bw_generate_order_unasked(r->jobs->service, r->owner, &request, &err);
    }
    if (o) {
        keep(r, o);
    } else if (err.code == BW_EBUSY) {
        r->jobs->full = true;
    } else {
        bw_account_refusal(record, &err, &r->end);
        r->ended = true;
        finish(r);
    }
}

static void resume(void *context, const struct bw_record *record)
{
    struct bw_jobs *jobs = context;
    struct running *r = find_running(jobs, record->owner, record->id);
    if (!r && (r = new_running(jobs, record->owner, record->id)))
        r->saved = true;
    if (r && !r->order && !jobs->full)
        restart(r, record);
}

/* The oldest first; where one finds no place, none overtakes it. */
void bw_jobs_resume(struct bw_jobs *jobs)
{
    jobs->full = false;
    if (!jobs->store)
        return;
    follow_clock(jobs); // those that cannot be made again end here
    bw_store_each_unfinished(jobs->store, resume, jobs);
}

void bw_jobs_tick(struct bw_jobs *jobs)
{
    if (jobs->desk) {
        bw_desk_tick(jobs->desk);
        return;
    }
    follow_clock(jobs);
    bw_store_sweep(jobs->store, bw_unix_s());
    if (jobs->full)
        bw_jobs_resume(jobs);
}
