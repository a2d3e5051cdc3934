/* A run ties a lease to an order. Commands about it are answered later, maybe when it is over, so
 * it is freed by whoever sees that it is over and nothing is unanswered.
 *
 * Room: as many jobs as make two for each worker, one that runs and one that is ready when it ends;
 * the more are left in the queue, the more other replicas find. A replica with pictures that wait
 * anyway takes no job at once when it hears of one, but only some time later what nobody else
 * wanted. */
#include "server/crew.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/account.h"
#include "server/generate.h"

#include <stdlib.h>
#include <string.h>

enum {
    JOBS_PER_WORKER = 2,
    MOST_TAKES = 8,  // a job that has been the end of so many replicas is not made
    PAUSE_MS = 1000, // after one that found no place
    RENEWAL_MS = 900,
};

struct run {
    struct bw_keeper keeper; // first: a keeper of ours is the run
    struct run *next;
    struct bw_crew *crew;
    struct bw_order *order; // NULL: there is none (any more)
    struct bw_record record;
    struct bw_lease lease;
    struct bw_trace_context trace;
    bool stored;                       // the job is in Redis
    bool ended;                        // the order, and how is in `end`
    bool over;                         // nothing more is to be done
    bool mute;                         // Redis is there and took no event
    bool finishing, telling, renewing; // unanswered, as counted in `calls`
    int calls, told, telling_to;       // events
    double renewed_ms;
    double refused_ms, again_ms; // since when its end is refused, and from when it is tried again
    struct bw_store_end end;
    bw_fleet_fn *promised; // NULL: nobody waits
    void *promised_context;
};

struct bw_crew {
    struct bw_service *service;
    struct bw_fleet *fleet;
    struct bw_webhook *webhook;
    struct run *runs;
    int count;                     // of those that are not over
    bool taking, busy_taking;      // unanswered; took although pictures wait
    struct bw_lease lease;         // of what is being taken
    int calls;                     // unanswered, to give back
    double full_until_ms, down_ms; // since when Redis is away; 0: it is not
};

/* ---- life of a run ---- */

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* A run of a copy of the record; NULL without memory. */
static struct run *new_run(struct bw_crew *crew, const struct bw_record *record,
                           const struct bw_lease *lease)
{
    struct run *r = calloc(1, sizeof *r);
    char *body = r ? copy(record->body) : NULL;
    if (!body) {
        free(r);
        return NULL;
    }
    r->crew = crew;
    r->record = *record;
    r->record.body = body;
    r->record.result = NULL;
    r->lease = *lease;
    r->next = crew->runs;
    crew->runs = r;
    crew->count++;
    return r;
}

static void free_if_done(struct run *r)
{
    struct run **at = &r->crew->runs;
    if (!r->over || r->calls)
        return;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->record.result = NULL; // the end's
    bw_record_release(&r->record);
    bw_account_release(&r->end);
    free(r);
}

/* Nothing more is to be done for it here. */
static void drop(struct run *r, const char *reason)
{
    struct bw_order *o = r->order;
    if (r->over)
        return;
    r->over = true;
    r->crew->count--;
    r->order = NULL;
    if (o && o->ended) {
        bw_order_let_go(o);
    } else if (o) {
        o->keeper = NULL;
        bw_order_give_up(o, BW_PROBLEM_CANCELLED, reason);
    }
}

/* A command about it was answered; the last thing to do in an answer. */
static void answered(struct run *r)
{
    r->calls--;
    free_if_done(r);
}

static void note(const struct run *r, const char *event)
{
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_WARN, event);
    bw_log_text(&line, "id", r->record.id);
    if (*r->record.owner)
        bw_log_text(&line, "client", r->record.owner);
    bw_log_end(&line);
}

/* It is not ours any more; true if that was said. */
static bool is_lost(struct run *r, enum bw_fleet_said said)
{
    if (said != BW_FLEET_LOST && said != BW_FLEET_ABSENT && said != BW_FLEET_GONE)
        return false;
    if (said == BW_FLEET_LOST && !r->over) {
        note(r, "job-taken-over");
        bw_metrics_lease(&r->crew->service->metrics, BW_LEASE_LOST);
    }
    drop(r, said == BW_FLEET_LOST ? "another replica makes it" : "the job was deleted");
    return true;
}

/* ---- telling ---- */

static void tell(struct run *r);
static void finish(struct run *r);

static void on_told(void *context, const struct bw_fleet_answer *answer)
{
    struct run *r = context;
    r->telling = false;
    if (answer->said == BW_FLEET_DONE) {
        r->told = r->telling_to;
        r->mute = false;
        tell(r);
        finish(r);
    } else {
        r->mute = answer->said == BW_FLEET_AWAY && bw_fleet_is_up(r->crew->fleet);
        is_lost(r, answer->said); // else once more, later
    }
    answered(r);
}

/* Send events that were not sent yet, as many as go at a time. A Redis that is full takes none, but
 * an end, which frees more than it fills, so that does not wait for them. */
static void tell(struct run *r)
{
    struct bw_order *o = r->order;
    struct bw_buf texts[BW_FLEET_BATCH] = {0};
    struct bw_fleet_event events[BW_FLEET_BATCH];
    int count = 0;
    bool failed = false;
    if (!o || r->over || r->telling || !r->stored || !bw_fleet_is_up(r->crew->fleet) ||
        (r->mute && r->ended))
        return;
    for (; count < BW_FLEET_BATCH && r->told + count < o->event_count; count++) {
        const struct bw_event *event = &o->events[r->told + count];
        bw_event_render(&texts[count], event);
        events[count] = (struct bw_fleet_event){(int)event->id, &texts[count]};
        failed = failed || texts[count].failed;
    }
    if (count && !failed) {
        r->telling = true;
        r->telling_to = r->told + count;
        r->calls++;
        bw_fleet_tell(r->crew->fleet, &r->lease, o->steps_done, events, count, on_told, r);
    }
    for (int i = 0; i < count; i++)
        bw_buf_release(&texts[i]);
}

static void on_news(struct bw_keeper *keeper, struct bw_order *order)
{
    (void)order;
    tell((struct run *)keeper);
}

/* ---- the end ---- */

static void take(struct bw_crew *crew, bool although_busy);

static void report(struct run *r)
{
    struct bw_crew *crew = r->crew;
    bool well = r->record.outcome == BW_JOB_COMPLETED;
    bw_account_note(crew->service, r->record.id, r->record.owner, &r->trace, r->order,
                    well ? BW_DONE : BW_FAILED);
    bw_account_report(crew->webhook, &r->record,
                      bw_account_text(&r->record, true, 0, 1, crew->service->config->jobs_keep_s),
                      &r->trace);
}

static void on_finished(void *context, const struct bw_fleet_answer *answer)
{
    struct run *r = context;
    struct bw_crew *crew = r->crew;
    r->finishing = false;
    if (answer->said == BW_FLEET_DONE) {
        report(r);
        drop(r, "");
    } else if (!is_lost(r, answer->said)) {
        r->again_ms = bw_now_ms() + RENEWAL_MS;
        r->refused_ms = r->refused_ms ? r->refused_ms : bw_now_ms();
    }
    answered(r);
    if (answer->said == BW_FLEET_DONE)
        take(crew, false);
}

/* Store the end, once there is one and a job that it is the end of. */
static void finish(struct run *r)
{
    if (r->over || !r->stored || !r->ended || r->finishing || r->telling ||
        !bw_fleet_is_up(r->crew->fleet) || bw_now_ms() < r->again_ms)
        return;
    if (r->order && r->told < r->order->event_count) {
        tell(r); // and then the tick or its answer come back here
        if (r->telling)
            return;
    }
    r->finishing = true;
    r->calls++;
    bw_store_end_enter(&r->end, &r->record);
    bw_fleet_finish(r->crew->fleet, &r->lease, &r->record, &r->end, on_finished, r);
}

static void on_ended(struct bw_keeper *keeper, struct bw_order *order)
{
    struct run *r = (struct run *)keeper;
    bw_account_end(order, r->record.id, &r->end);
    r->ended = true;
    if (r->end.result) {
        finish(r);
        return;
    }
    note(r, "job-left"); // no memory for its end: its lease runs out, and another makes it
    drop(r, "");
    free_if_done(r);
}

/* ---- taking ---- */

static void keep(struct run *r, struct bw_order *order)
{
    r->order = order;
    r->keeper.ended = on_ended;
    r->keeper.news = on_news;
    order->keeper = &r->keeper;
}

static void on_given_back(void *context, const struct bw_fleet_answer *answer)
{
    (void)answer;
    ((struct bw_crew *)context)->calls--;
}

static void give_back(struct bw_crew *crew)
{
    crew->full_until_ms = bw_now_ms() + PAUSE_MS;
    crew->calls++;
    bw_fleet_give_back(crew->fleet, &crew->lease, on_given_back, crew);
}

/* Have a taken job run, or end it as it cannot be. False: it was given back. */
static bool begin(struct bw_crew *crew, const struct bw_fleet_answer *answer)
{
    struct bw_err err = {0};
    struct bw_request request;
    struct bw_order *o = NULL;
    const struct bw_record *record = answer->record;
    if (answer->takes > MOST_TAKES)
        bw_err_set(&err, BW_EIO, "%d attempts to make it broke off", MOST_TAKES);
    else if (!bw_request_parse(&request, record->body, strlen(record->body), &err)) {
        request.deadline_ms = 0; // of one that was promised by a replica that is gone
        o = bw_generate_order_unasked(crew->service, record->owner, &request, &err);
    }
    struct run *r = err.code == BW_EBUSY ? NULL : new_run(crew, record, &crew->lease);
    if (!r) {
        if (o)
            bw_order_give_up(o, BW_PROBLEM_INTERNAL, "out of memory");
        give_back(crew);
        return false;
    }
    r->stored = true;
    r->renewed_ms = bw_now_ms();
    if (answer->trace)
        bw_trace_context_parse(answer->trace, &r->trace);
    if (answer->takes > 1)
        bw_metrics_lease(&crew->service->metrics, BW_LEASE_CLAIMED);
    if (o) {
        keep(r, o);
        tell(r);
    } else {
        bw_account_refusal(record, &err, &r->end);
        r->ended = true;
        finish(r);
    }
    return true;
}

static bool is_draining(const struct bw_crew *crew)
{
    return crew->service->http && bw_http_is_draining(crew->service->http);
}

static void on_discarded(void *context, const struct bw_fleet_answer *answer)
{
    on_given_back(context, answer);
}

static void on_taken(void *context, const struct bw_fleet_answer *answer)
{
    struct bw_crew *crew = context;
    bool more = false;
    crew->taking = false;
    strcpy(crew->lease.key, answer->key);
    if (answer->said == BW_FLEET_DAMAGED) {
        struct bw_log_line line;
        bw_log_begin(&line, BW_LOG_ERROR, "job-broken");
        bw_log_text(&line, "key", answer->key);
        bw_log_end(&line);
        crew->calls++;
        bw_fleet_discard(crew->fleet, &crew->lease, on_discarded, crew);
        more = true;
    } else if (answer->said == BW_FLEET_DONE && answer->record) {
        if (is_draining(crew))
            give_back(crew);
        else
            more = begin(crew, answer);
    }
    if (more)
        take(crew, crew->busy_taking);
}

/* Take a job if there is room. */
static void take(struct bw_crew *crew, bool although_busy)
{
    const struct bw_config *config = crew->service->config;
    if (crew->taking || crew->count >= JOBS_PER_WORKER * config->workers || is_draining(crew) ||
        !bw_fleet_is_up(crew->fleet) || bw_now_ms() < crew->full_until_ms ||
        (!although_busy && bw_scheduler_fresh(&crew->service->scheduler)))
        return;
    crew->taking = true;
    crew->busy_taking = although_busy;
    bw_fleet_take(crew->fleet, &crew->lease, on_taken, crew);
}

void bw_crew_wake(struct bw_crew *crew)
{
    take(crew, false);
}

/* ---- promises ---- */

static void on_promised(void *context, const struct bw_fleet_answer *answer)
{
    struct run *r = context;
    bw_fleet_fn *fn = r->promised;
    void *fn_context = r->promised_context;
    r->stored = answer->said == BW_FLEET_DONE;
    r->renewed_ms = bw_now_ms();
    fn(fn_context, answer);
    if (r->stored) {
        tell(r);
        finish(r);
    } else {
        drop(r, "the job could not be stored");
    }
    answered(r);
}

void bw_crew_promise(struct bw_crew *crew, struct bw_order *order, const struct bw_record *record,
                     const struct bw_trace_context *trace, bw_fleet_fn *fn, void *context)
{
    struct bw_lease lease;
    bw_fleet_lease(crew->fleet, record->owner, record->id, &lease);
    struct run *r = new_run(crew, record, &lease);
    if (!r) {
        bw_order_give_up(order, BW_PROBLEM_INTERNAL, "out of memory");
        fn(context, &(struct bw_fleet_answer){.said = BW_FLEET_AWAY});
        return;
    }
    keep(r, order);
    r->trace = *trace;
    r->promised = fn;
    r->promised_context = context;
    r->calls++;
    bw_fleet_add(crew->fleet, record, order->request.priority,
                 order->request.count * order->jobs[0].plan.steps, trace, &r->lease, on_promised,
                 r);
}

/* ---- life ---- */

static void on_renewed(void *context, const struct bw_fleet_answer *answer)
{
    struct run *r = context;
    r->renewing = false;
    is_lost(r, answer->said);
    answered(r);
}

static void renew(struct run *r, double now_ms)
{
    if (r->over || !r->stored || r->renewing || now_ms - r->renewed_ms < RENEWAL_MS)
        return;
    r->renewing = true;
    r->renewed_ms = now_ms;
    r->calls++;
    bw_fleet_renew(r->crew->fleet, &r->lease, on_renewed, r);
}

/* Look after all runs; any of them may go meanwhile. */
static void look_after(struct bw_crew *crew)
{
    double now_ms = bw_now_ms();
    for (struct run *r = crew->runs, *next; r; r = next) {
        r->calls++; // stays until we are done with it
        renew(r, now_ms);
        tell(r);
        finish(r);
        next = r->next;
        answered(r);
    }
}

void bw_crew_tick(struct bw_crew *crew)
{
    if (!bw_fleet_is_up(crew->fleet))
        return;
    look_after(crew);
    take(crew, true);
}

void bw_crew_state(struct bw_crew *crew, bool up)
{
    crew->down_ms = up ? 0 : bw_now_ms();
    for (struct run *r = crew->runs; r; r = r->next)
        r->renewed_ms = up ? 0 : r->renewed_ms; // at once, before others find the lease run out
    if (up)
        bw_crew_tick(crew);
}

void bw_crew_removed(struct bw_crew *crew, const char *key)
{
    for (struct run *r = crew->runs, *next; r; r = next) {
        next = r->next;
        if (strcmp(r->lease.key, key) || !r->stored)
            continue;
        r->calls++;
        r->renewed_ms = 0;
        renew(r, bw_now_ms()); // it may be another job of that id by now: this one asks
        answered(r);
    }
}

/* What Redis has not taken for the time of a lease is another replica's to make. */
int bw_crew_pending(const struct bw_crew *crew)
{
    double given_up_ms = bw_now_ms() - crew->service->config->jobs_lease_ms;
    int count = crew->count + crew->calls + crew->taking;
    if (crew->down_ms > 0 && crew->down_ms < given_up_ms)
        return 0;
    for (const struct run *r = crew->runs; r; r = r->next)
        count -= !r->over && r->refused_ms > 0 && r->refused_ms < given_up_ms;
    return count;
}

int bw_crew_new(struct bw_crew **out, struct bw_service *service, struct bw_fleet *fleet,
                struct bw_webhook *webhook, struct bw_err *err)
{
    struct bw_crew *crew = calloc(1, sizeof *crew);
    if (!crew)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    crew->service = service;
    crew->fleet = fleet;
    crew->webhook = webhook;
    crew->down_ms = bw_now_ms();
    *out = crew;
    return BW_OK;
}

void bw_crew_free(struct bw_crew *crew)
{
    if (!crew)
        return;
    for (struct run *r = crew->runs, *next; r; r = next) {
        next = r->next;
        if (!r->over && r->order) {
            r->order->keeper = NULL;
            bw_order_let_go(r->order);
        }
        r->over = true;
        free_if_done(r);
    }
    free(crew);
}
