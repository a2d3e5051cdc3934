/* An ask is one question to the fleet on behalf of an exchange. Whoever waits for a job becomes a
 * follower, which asks again whenever there is news of the job, once a second in case some were
 * lost, and when its client has taken what came before; so it holds no more than one answer. */
#include "server/desk.h"

#include "api/events.h"
#include "api/job.h"
#include "base/clock.h"
#include "server/account.h"
#include "server/answer.h"
#include "server/crew.h"
#include "server/fleet.h"
#include "server/generate.h"
#include "server/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 900 };

struct bw_desk {
    struct bw_service *service;
    struct bw_fleet *fleet;
    struct bw_crew *crew;
    struct follower *followers;
    int open;
    double looked_ms;
};

struct ask {
    struct bw_desk *desk;
    struct bw_exchange *exchange; // NULL once the client has left
    void (*then)(struct ask *ask, const struct bw_fleet_answer *answer); // answers the exchange
    int64_t seen;
    struct bw_record record;   // to take: without texts
    struct bw_request request; // likewise
    struct bw_manner manner;
};

struct follower {
    struct follower *next;
    struct bw_desk *desk;
    struct bw_exchange *exchange; // NULL once the client has left
    enum bw_form form;
    char id[BW_JOB_ID_CHARS], owner[BW_OWNER_CHARS], key[BW_SHA256_CHARS];
    char request_id[BW_REQUEST_ID_CHARS];
    int seen;          // events
    bool asking;       // the fleet, or for pictures: then it must stay
    bool again;        // there was news meanwhile
    bool over;         // `out` holds the last there is to say
    bool ping;         // it has been silent for too long
    struct bw_buf out; // of a stream, not sent yet
    double sent_ms;
};

static struct bw_shelf shelf_of(struct bw_desk *desk);

/* ---- what goes wrong ---- */

/* Answer as the fleet said; true if that is the answer. */
static bool refuse(struct bw_exchange *x, const struct bw_fleet_answer *answer)
{
    static const struct {
        enum bw_problem problem;
        const char *retry, *message;
    } refusals[] = {
        [BW_FLEET_AWAY] = {BW_PROBLEM_STORE, "1",
                           "jobs are kept in a Redis that cannot be reached"},
        [BW_FLEET_FULL] = {BW_PROBLEM_QUEUE_FULL, "1", "as many jobs wait as may"},
        [BW_FLEET_ABSENT] = {BW_PROBLEM_UNKNOWN_JOB, NULL, "there is no such job"},
        [BW_FLEET_GONE] = {BW_PROBLEM_GONE, NULL, "the job was deleted, or its time is over"},
        [BW_FLEET_DAMAGED] = {BW_PROBLEM_INTERNAL, NULL, "what is stored of the job is damaged"},
    };
    struct bw_err err = {0};
    size_t said = answer->said;
    if (said >= sizeof refusals / sizeof *refusals || !refusals[said].message) {
        if (answer->record)
            return false;
        said = BW_FLEET_DAMAGED;
    }
    bw_err_set(&err, BW_EBUSY, "%s", refusals[said].message);
    bw_exchange_refuse(
        x, refusals[said].problem, &err,
        refusals[said].retry ? &(struct bw_header){"Retry-After", refusals[said].retry} : NULL);
    return true;
}

/* ---- asking ---- */

static void asker_left(void *context)
{
    ((struct ask *)context)->exchange = NULL;
}

static void on_found(void *context, const struct bw_fleet_answer *answer)
{
    struct ask *a = context;
    if (a->exchange && !refuse(a->exchange, answer))
        a->then(a, answer);
    free(a);
}

static struct ask *new_ask(struct bw_desk *desk, struct bw_exchange *x)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a) {
        bw_answer_no_memory(x);
        return NULL;
    }
    a->desk = desk;
    a->exchange = x;
    bw_exchange_on_leave(x, asker_left, a);
    return a;
}

static const char *owner_of(struct bw_exchange *x)
{
    return bw_exchange_caller(x)->key;
}

/* Find the job that the path names and go on with `then`. */
static void find(struct bw_desk *desk, struct bw_exchange *x, int64_t seen,
                 void (*then)(struct ask *ask, const struct bw_fleet_answer *answer))
{
    char id[BW_JOB_ID_CHARS + 1];
    struct ask *a = new_ask(desk, x);
    if (!a)
        return;
    a->then = then;
    a->seen = seen;
    bw_exchange_segment(x, 2, id, sizeof id);
    bw_fleet_find(desk->fleet, owner_of(x), id, -1, on_found, a);
}

static char *text_of(const struct bw_desk *desk, const struct bw_fleet_answer *answer)
{
    const struct bw_record *record = answer->record;
    return bw_account_text(record, record->outcome != BW_JOB_OPEN, answer->step,
                           answer->steps > 0 ? answer->steps : 1,
                           desk->service->config->jobs_keep_s);
}

/* ---- following ---- */

static void free_follower(struct follower *f)
{
    struct follower **at = &f->desk->followers;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
    bw_buf_release(&f->out);
    free(f);
}

static void follower_left(void *context)
{
    struct follower *f = context;
    f->exchange = NULL;
    if (!f->asking)
        free_follower(f);
}

static bool is_stream(const struct follower *f)
{
    return f->form == BW_FORM_EVENTS || f->form == BW_FORM_JOB_EVENTS;
}

static void look(struct follower *f);

static enum bw_stream pull(void *context, struct bw_buf *out)
{
    struct follower *f = context;
    if (f->out.failed)
        out->failed = true; // the stream breaks off: better than to leave something out
    bw_buf_add(out, f->out.data, f->out.length_bytes);
    bw_buf_release(&f->out);
    if (f->ping && !out->length_bytes)
        bw_event_ping(out);
    f->ping = false;
    f->sent_ms = out->length_bytes ? bw_now_ms() : f->sent_ms;
    if (f->over || out->failed) {
        f->exchange = NULL;
        if (!f->asking)
            free_follower(f);
        return BW_STREAM_END;
    }
    if (f->again)
        look(f);
    return BW_STREAM_OPEN;
}

/* The last event; the data passes. Without it the stream breaks off. */
static void say_last(struct follower *f, enum bw_event_kind kind, char *data)
{
    if (data)
        bw_event_frame(&f->out, bw_event_name(kind), BW_LAST_EVENT_ID, data);
    else
        f->out.failed = true;
    free(data);
    f->over = true;
    if (f->exchange)
        bw_exchange_poke(f->exchange);
}

static void on_text(void *context, char *text)
{
    struct follower *f = context;
    f->asking = false;
    if (f->exchange) {
        say_last(f, BW_EVENT_COMPLETED, text);
        return;
    }
    free(text);
    free_follower(f);
}

/* The job will never be over. */
static void say_removed(struct follower *f)
{
    struct bw_err err = {0};
    bw_err_set(&err, BW_ECANCELLED, "the job was deleted");
    if (is_stream(f)) {
        say_last(f, BW_EVENT_ERROR,
                 bw_problem_render(BW_PROBLEM_CANCELLED, &err, NULL, f->request_id, false));
    } else {
        bw_exchange_refuse(f->exchange, BW_PROBLEM_CANCELLED, &err, NULL);
        free_follower(f);
    }
}

/* The job is over, and all its events are said. */
static void say_over(struct follower *f, const struct bw_fleet_answer *answer)
{
    const struct bw_record *record = answer->record;
    int status;
    if (!is_stream(f)) {
        struct bw_exchange *x = f->exchange;
        struct bw_shelf shelf = shelf_of(f->desk);
        enum bw_form form = f->form;
        free_follower(f);
        bw_replay(shelf, record, x, form);
    } else if (record->outcome == BW_JOB_FAILED) {
        say_last(f, BW_EVENT_ERROR, bw_job_problem(record->result, f->request_id, &status));
    } else if (f->form == BW_FORM_JOB_EVENTS) {
        say_last(f, BW_EVENT_COMPLETED, text_of(f->desk, answer));
    } else {
        f->asking = true;
        bw_replay_text(shelf_of(f->desk), record, f->request_id, on_text, f);
    }
}

/* Take up the events of an answer; how many there were. */
static size_t hear(struct follower *f, const struct bw_fleet_answer *answer)
{
    size_t count = 0, length;
    int number;
    for (const char *text; (text = bw_fleet_event(answer, count, &number, &length)); count++) {
        bw_buf_add(&f->out, text, length);
        f->seen = number > f->seen ? number : f->seen;
    }
    return count;
}

static void on_looked(void *context, const struct bw_fleet_answer *answer)
{
    struct follower *f = context;
    f->asking = false;
    if (!f->exchange) {
        free_follower(f);
        return;
    }
    if (answer->said == BW_FLEET_AWAY)
        return; // it will be back
    if (!answer->record) {
        say_removed(f);
        return;
    }
    size_t heard = hear(f, answer);
    f->again = f->again || heard == BW_FLEET_EVENTS;
    if (answer->record->outcome != BW_JOB_OPEN && heard < BW_FLEET_EVENTS)
        say_over(f, answer);
    else if (heard)
        bw_exchange_poke(f->exchange); // what is left to look at is looked at when this is sent
    else if (f->again)
        look(f);
}

static void look(struct follower *f)
{
    f->again = f->asking || f->out.length_bytes;
    if (f->over || f->again)
        return;
    f->asking = true;
    bw_fleet_find(f->desk->fleet, f->owner, f->id, is_stream(f) ? f->seen : -1, on_looked, f);
}

/* Answer the exchange when the job is over, or as it goes on. */
static void follow(struct bw_desk *desk, struct bw_exchange *x, const struct bw_record *record,
                   const char *key, enum bw_form form, int64_t seen)
{
    static const struct bw_header stream_headers[] = {{"Content-Type", "text/event-stream"},
                                                      {"Cache-Control", "no-store"},
                                                      {"X-Accel-Buffering", "no"},
                                                      {NULL, NULL}};
    struct follower *f = calloc(1, sizeof *f);
    if (!f) {
        bw_answer_no_memory(x);
        return;
    }
    *f = (struct follower){.next = desk->followers,
                           .desk = desk,
                           .exchange = x,
                           .form = form,
                           .seen = seen < BW_LAST_EVENT_ID ? (int)seen : BW_LAST_EVENT_ID,
                           .sent_ms = bw_now_ms()};
    snprintf(f->id, sizeof f->id, "%s", record->id);
    snprintf(f->owner, sizeof f->owner, "%s", record->owner);
    snprintf(f->key, sizeof f->key, "%s", key);
    snprintf(f->request_id, sizeof f->request_id, "%s", bw_exchange_id(x));
    desk->followers = f;
    bw_exchange_on_leave(x, follower_left, f);
    if (is_stream(f))
        bw_exchange_stream(x, 200, stream_headers, pull, f);
    look(f);
}

/* ---- paths ---- */

static void then_get(struct ask *a, const struct bw_fleet_answer *answer)
{
    bw_answer_json(a->exchange, 200, NULL, text_of(a->desk, answer));
}

void bw_desk_get(struct bw_desk *desk, struct bw_exchange *x)
{
    find(desk, x, 0, then_get);
}

static void then_image(struct ask *a, const struct bw_fleet_answer *answer)
{
    bw_replay_image(shelf_of(a->desk), answer->record, a->exchange);
}

void bw_desk_image(struct bw_desk *desk, struct bw_exchange *x)
{
    find(desk, x, 0, then_image);
}

static void then_events(struct ask *a, const struct bw_fleet_answer *answer)
{
    const struct bw_record *record = answer->record;
    if (record->outcome == BW_JOB_OPEN)
        follow(a->desk, a->exchange, record, answer->key, BW_FORM_JOB_EVENTS, a->seen);
    else
        bw_replay_end(record, text_of(a->desk, answer), a->seen, a->exchange);
}

void bw_desk_events(struct bw_desk *desk, struct bw_exchange *x, int64_t seen)
{
    find(desk, x, seen, then_events);
}

static void on_removed(void *context, const struct bw_fleet_answer *answer)
{
    struct ask *a = context;
    const struct bw_record *record = answer->record;
    if (record && record->outcome == BW_JOB_OPEN)
        bw_account_note(a->desk->service, record->id, record->owner, &(struct bw_trace_context){0},
                        NULL, BW_CANCELLED);
    if (a->exchange &&
        (answer->said == BW_FLEET_DAMAGED || !refuse(a->exchange, answer))) // damaged or not
        bw_exchange_respond(a->exchange, 204, NULL, NULL, 0);
    free(a);
}

void bw_desk_delete(struct bw_desk *desk, struct bw_exchange *x)
{
    char id[BW_JOB_ID_CHARS + 1];
    struct ask *a = new_ask(desk, x);
    if (!a)
        return;
    bw_exchange_segment(x, 2, id, sizeof id);
    bw_fleet_remove(desk->fleet, owner_of(x), id, on_removed, a);
}

/* ---- making a job ---- */

/* The job is there: ours, or one that was there before. */
static void answer_known(struct ask *a, const struct bw_fleet_answer *answer, bool is_new)
{
    const struct bw_record *known = answer->record;
    struct bw_exchange *x = a->exchange;
    int status = a->manner.status == 201 && !is_new ? 200 : a->manner.status;
    if (strcmp(known->fingerprint, a->record.fingerprint)) {
        struct bw_err err = {0};
        bw_err_set(&err, BW_ERANGE, "%s is the job of another request", a->record.id);
        bw_exchange_refuse(x, BW_PROBLEM_CONFLICT, &err, NULL);
    } else if (status) {
        bw_account_respond(x, status, known->id, text_of(a->desk, answer));
    } else if (known->outcome != BW_JOB_OPEN) {
        bw_replay(shelf_of(a->desk), known, x, a->manner.form);
    } else {
        follow(a->desk, x, known, answer->key, a->manner.form, 0);
    }
}

static void on_added(void *context, const struct bw_fleet_answer *answer)
{
    struct ask *a = context;
    struct bw_metrics *metrics = &a->desk->service->metrics;
    if (answer->said == BW_FLEET_FULL)
        bw_metrics_admission(metrics, BW_TURNED_AWAY_FULL);
    else if (answer->said == BW_FLEET_DONE && a->request.deadline_ms <= 0) // else it was counted
        bw_metrics_admission(metrics, BW_TAKEN);
    if (a->exchange && !refuse(a->exchange, answer))
        answer_known(a, answer, answer->said == BW_FLEET_DONE);
    free(a);
}

/* One without deadline goes to the queue. One with a deadline is a promise that only this replica
 * can make, so it has to be admitted here. False: it was refused. */
static bool make(struct ask *a)
{
    struct bw_service *service = a->desk->service;
    struct bw_order *o = NULL;
    int steps = 0;
    if (a->request.deadline_ms > 0)
        o = bw_generate_order(service, a->exchange, &a->request, true);
    else
        steps = bw_generate_settle(service, a->exchange, &a->request);
    if (!o && !steps)
        return false;
    struct bw_record record = a->record;
    record.body = bw_request_render(o ? &o->request : &a->request);
    if (!record.body) {
        bw_answer_no_memory(a->exchange);
        if (o)
            bw_order_give_up(o, BW_PROBLEM_INTERNAL, "out of memory");
        return false;
    }
    if (o)
        bw_crew_promise(a->desk->crew, o, &record, &bw_exchange_caller(a->exchange)->trace,
                        on_added, a);
    else
        bw_fleet_add(a->desk->fleet, &record, a->request.priority, steps,
                     &bw_exchange_caller(a->exchange)->trace, NULL, on_added, a);
    free(record.body);
    return true;
}

static void on_sought(void *context, const struct bw_fleet_answer *answer)
{
    struct ask *a = context;
    bool absent = answer->said == BW_FLEET_ABSENT || answer->said == BW_FLEET_GONE;
    if (a->exchange && absent && make(a))
        return; // to be continued in on_added()
    if (a->exchange && !absent && !refuse(a->exchange, answer))
        answer_known(a, answer, false);
    free(a);
}

void bw_desk_take(struct bw_desk *desk, struct bw_exchange *x, const struct bw_record *record,
                  const struct bw_request *request, struct bw_manner manner)
{
    struct ask *a = new_ask(desk, x);
    if (!a)
        return;
    a->record = *record;
    a->request = *request;
    a->manner = manner;
    bw_fleet_find(desk->fleet, record->owner, record->id, -1, on_sought, a);
}

/* ---- life ---- */

static void fetch_from_fleet(void *fleet, const struct bw_record *record, int index,
                             bw_store_picture_fn *fn, void *context)
{
    bw_fleet_picture(fleet, record, index, fn, context);
}

static struct bw_shelf shelf_of(struct bw_desk *desk)
{
    return (struct bw_shelf){fetch_from_fleet, desk->fleet};
}

static void on_news(void *context, enum bw_news_kind kind, const char *key)
{
    struct bw_desk *desk = context;
    if (kind == BW_FLEET_QUEUED)
        bw_crew_wake(desk->crew);
    if (kind == BW_FLEET_REMOVED)
        bw_crew_removed(desk->crew, key);
    for (struct follower *f = desk->followers, *next; f; f = next) {
        next = f->next;
        if (strcmp(f->key, key) == 0)
            look(f);
    }
}

static void on_state(void *context, bool up)
{
    bw_crew_state(((struct bw_desk *)context)->crew, up);
}

int bw_desk_new(struct bw_desk **out, struct bw_service *service, struct bw_webhook *webhook,
                int most_open, struct bw_err *err)
{
    const struct bw_config *config = service->config;
    struct bw_desk *desk = calloc(1, sizeof *desk);
    if (!desk)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    const struct bw_fleet_settings settings = {.url = config->jobs,
                                               .lease_ms = config->jobs_lease_ms,
                                               .keep_s = config->jobs_keep_s,
                                               .most_open = most_open,
                                               .news = on_news,
                                               .state = on_state,
                                               .context = desk};
    desk->service = service;
    int code = bw_fleet_new(&desk->fleet, service->loop, &settings, err);
    if (!code)
        code = bw_crew_new(&desk->crew, service, desk->fleet, webhook, err);
    if (code) {
        bw_desk_close(desk);
        bw_desk_free(desk);
        return code;
    }
    *out = desk;
    return BW_OK;
}

void bw_desk_close(struct bw_desk *desk)
{
    if (!desk)
        return;
    bw_fleet_close(desk->fleet);
    bw_crew_free(desk->crew);
    desk->crew = NULL;
}

void bw_desk_free(struct bw_desk *desk)
{
    if (!desk)
        return;
    bw_fleet_free(desk->fleet);
    free(desk);
}

/* While we drain and nobody goes on here, jobs of other replicas are not waited for: a stream
 * breaks off, to be taken up at another replica where it ended, and whoever waits for the whole is
 * told to ask again. */
static void send_away(struct follower *f)
{
    struct bw_err err = {0};
    if (is_stream(f)) {
        f->over = true;
        bw_exchange_poke(f->exchange);
        return;
    }
    struct bw_exchange *x = f->exchange;
    f->exchange = NULL;
    if (!f->asking)
        free_follower(f);
    bw_err_set(&err, BW_EBUSY, "the service is shutting down; the job goes on, ask again for it");
    bw_exchange_refuse(x, BW_PROBLEM_DRAINING, &err, &(struct bw_header){"Retry-After", "1"});
}

static void look_after(struct follower *f, double now_ms)
{
    const struct bw_desk *desk = f->desk;
    if (!f->exchange || f->over)
        return;
    if (bw_http_is_draining(desk->service->http) && !desk->service->outlived) {
        send_away(f);
        return;
    }
    if (is_stream(f) && now_ms - f->sent_ms >= desk->service->config->ping_ms) {
        f->ping = true;
        bw_exchange_poke(f->exchange);
    }
    look(f);
}

static void on_counted(void *context, const struct bw_fleet_answer *answer)
{
    struct bw_desk *desk = context;
    if (answer->said == BW_FLEET_DONE)
        desk->open = answer->step;
}

void bw_desk_tick(struct bw_desk *desk)
{
    double now_ms = bw_now_ms();
    bw_crew_tick(desk->crew);
    if (now_ms - desk->looked_ms < LOOK_MS)
        return;
    desk->looked_ms = now_ms;
    if (bw_fleet_is_up(desk->fleet))
        bw_fleet_count(desk->fleet, on_counted, desk);
    for (struct follower *f = desk->followers, *next; f; f = next) {
        next = f->next;
        look_after(f, now_ms);
    }
}

int bw_desk_pending(const struct bw_desk *desk)
{
    return bw_crew_pending(desk->crew);
}

bool bw_desk_reachable(const struct bw_desk *desk)
{
    return bw_fleet_is_up(desk->fleet);
}

int bw_desk_open(const struct bw_desk *desk)
{
    return desk->open;
}

int bw_desk_streams(const struct bw_desk *desk)
{
    int count = 0;
    for (const struct follower *f = desk->followers; f; f = f->next)
        count += f->exchange && is_stream(f);
    return count;
}
