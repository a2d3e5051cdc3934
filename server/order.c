/* Every change ends in one of two places: end(), when the last job has come back, answers whoever
 * waits; release(), tried after every step that could be the last, frees what nobody needs. Nothing
 * here is re-entered: answering and poking only mark connections, which the HTTP library serves
 * later. */
#include "server/order.h"

#include "base/clock.h"
#include "engine/schedule.h"
#include "server/answer.h"
#include "server/catalogue.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

struct bw_order *bw_order_new(struct bw_service *service, struct bw_served *served,
                              const char *client, double arrived_ms,
                              const struct bw_request *request, const struct bw_plan *plan,
                              bool watched)
{
    struct bw_order *o = calloc(1, sizeof *o + (size_t)request->count * sizeof(struct bw_job));
    if (!o)
        return NULL;
    o->service = service;
    o->served = served;
    bw_catalogue_retain(served);
    o->request = *request;
    o->arrived_ms = arrived_ms;
    snprintf(o->client, sizeof o->client, "%s", client);
    for (int i = 0; i < request->count; i++) {
        bw_job_init(&o->jobs[i], &o->request, plan, &served->price, i, o->arrived_ms, o);
        o->jobs[i].served = served;
        o->jobs[i].commented = service->config->comments;
        o->jobs[i].watched = watched;
        o->jobs[i].previews = request->partial_images;
    }
    return o;
}

void bw_order_discard(struct bw_order *o)
{
    for (int i = 0; i < o->request.count; i++) {
        bw_buf_release(&o->jobs[i].image);
        bw_ladder_release(&o->jobs[i].ladder);
        bw_sampler_release(&o->jobs[i].sampler); // if it left in the middle
        free(o->jobs[i].rgb);
    }
    for (int i = 0; i < o->event_count; i++)
        free((char *)o->events[i].jpeg);
    free(o->events);
    free(o->job_text);
    bw_timer_free(o->patience);
    bw_catalogue_release(o->served);
    free(o);
}

static void enlist(struct bw_order *o)
{
    struct bw_service *service = o->service;
    o->previous = service->newest;
    *(service->newest ? &service->newest->next : &service->oldest) = o;
    service->newest = o;
}

/* Free it if nobody needs it any more. */
static void release(struct bw_order *o)
{
    bool out = o->over < o->request.count; // workers still have some of it
    if (!o->ended || o->ending || out || o->listeners || o->keeper)
        return;
    *(o->previous ? &o->previous->next : &o->service->oldest) = o->next;
    *(o->next ? &o->next->previous : &o->service->newest) = o->previous;
    bw_order_discard(o);
}

static bool is_stream(enum bw_form form)
{
    return form == BW_FORM_EVENTS || form == BW_FORM_OPENAI_EVENTS || form == BW_FORM_JOB_EVENTS;
}

static void poke_streams(struct bw_order *o)
{
    for (struct bw_listener *l = o->listeners; l; l = l->next) {
        if (is_stream(l->form))
            bw_exchange_poke(l->exchange);
    }
}

void bw_order_let_go(struct bw_order *o)
{
    o->keeper = NULL;
    poke_streams(o);
    release(o);
}

/* ---- events ---- */

/* Without memory the event is left out; the last one needs none. */
static void add_event(struct bw_order *o, struct bw_event event)
{
    if (o->event_count == o->event_room) {
        int room = o->event_room * 2 + 8;
        struct bw_event *events = realloc(o->events, (size_t)room * sizeof *events);
        if (!events) {
            free((char *)event.jpeg);
            return;
        }
        o->events = events;
        o->event_room = room;
    }
    event.id = o->event_count + 1;
    event.steps = o->jobs[0].plan.steps;
    o->events[o->event_count++] = event;
}

static void take_news(struct bw_news *news)
{
    struct bw_job *job = news->job;
    struct bw_order *o = job->owner;
    int picture = (int)(job - o->jobs), steps = job->plan.steps;
    double now = bw_now_ms(), per_step_ms = (now - job->started_ms) / news->step;
    uint8_t all = (uint8_t)((1 << o->served->model->arch.brick_count) - 1);
    o->steps_done++;
    add_event(o, (struct bw_event){.kind = BW_EVENT_PROGRESS,
                                   .picture = picture,
                                   .step = news->step,
                                   .resting = all & (uint8_t)~news->mask,
                                   .eta_ms = per_step_ms * (steps - news->step) + news->decode_ms});
    if (news->partial >= 0) {
        size_t bytes = news->preview.length_bytes;
        add_event(o, (struct bw_event){.kind = BW_EVENT_PARTIAL,
                                       .picture = picture,
                                       .step = news->step,
                                       .partial = news->partial,
                                       .jpeg = bw_buf_steal(&news->preview),
                                       .jpeg_bytes = bytes});
    }
    poke_streams(o);
    if (o->keeper && o->keeper->news)
        o->keeper->news(o->keeper, o);
    bw_news_free(news);
}

static void collect_news(struct bw_service *service)
{
    for (struct bw_news *news = bw_workers_news(service->workers), *next; news; news = next) {
        next = news->next;
        take_news(news);
    }
}

/* ---- listeners ---- */

static void drop_listener(struct bw_listener *listener)
{
    struct bw_listener **at = &listener->order->listeners;
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    free(listener->asked);
    free(listener);
}

static void listener_left(void *context)
{
    struct bw_listener *l = context;
    struct bw_order *o = l->order;
    drop_listener(l);
    if (!o->ended && !o->listeners && !o->keeper)
        bw_order_give_up(o, BW_PROBLEM_CANCELLED, "nobody waits for it any more");
    else
        release(o);
}

/* What a stream has to say by now. A job is not over before its keeper has stored the end. */
static enum bw_stream pull(void *context, struct bw_buf *out)
{
    struct bw_listener *l = context;
    struct bw_order *o = l->order;
    const struct bw_openai_stream stream = bw_answer_openai_stream(o);
    bool openai = l->form == BW_FORM_OPENAI_EVENTS;
    for (; l->seen < o->event_count; l->seen++) {
        if (openai)
            bw_event_render_openai(out, &o->events[l->seen], &stream);
        else
            bw_event_render(out, &o->events[l->seen]);
    }
    bool kept = l->form == BW_FORM_JOB_EVENTS && o->keeper;
    bool over = o->ended && (o->lost || !kept);
    if (over && !kept)
        bw_answer_last_event(l, out);
    else if (l->ping && !out->length_bytes)
        bw_event_ping(out);
    l->ping = false;
    l->sent_ms = out->length_bytes ? bw_now_ms() : l->sent_ms;
    if (!over)
        return BW_STREAM_OPEN;
    drop_listener(l);
    release(o);
    return BW_STREAM_END;
}

static void answer(struct bw_listener *l)
{
    bw_answer(l);
    drop_listener(l);
}

void bw_order_listen(struct bw_order *o, struct bw_exchange *x, enum bw_form form, int64_t seen,
                     struct bw_txt2img *asked)
{
    static const struct bw_header stream_headers[] = {{"Content-Type", "text/event-stream"},
                                                      {"Cache-Control", "no-store"},
                                                      {"X-Accel-Buffering", "no"},
                                                      {NULL, NULL}};
    struct bw_listener *l = calloc(1, sizeof *l);
    if (!l) {
        struct bw_err err = {0};
        bw_err_set(&err, BW_ENOMEM, "out of memory");
        free(asked);
        bw_exchange_refuse(x, BW_PROBLEM_INTERNAL, &err, NULL);
        if (!o->ended && !o->listeners && !o->keeper)
            bw_order_give_up(o, BW_PROBLEM_INTERNAL, err.message);
        return;
    }
    *l = (struct bw_listener){.next = o->listeners,
                              .order = o,
                              .exchange = x,
                              .form = form,
                              .seen = seen < o->event_count ? (int)seen : o->event_count,
                              .sent_ms = bw_now_ms(),
                              .asked = asked};
    o->listeners = l;
    if (is_stream(form)) {
        bw_exchange_on_leave(x, listener_left, l);
        bw_exchange_stream(x, 200, stream_headers, pull, l);
    } else if (o->ended) {
        answer(l);
        release(o);
    } else {
        bw_exchange_on_leave(x, listener_left, l);
    }
}

void bw_orders_ping(struct bw_service *service, double silence_ms)
{
    double now = bw_now_ms();
    for (struct bw_order *o = service->oldest; o; o = o->next) {
        for (struct bw_listener *l = o->listeners; l; l = l->next) {
            if (is_stream(l->form) && now - l->sent_ms >= silence_ms) {
                l->ping = true;
                bw_exchange_poke(l->exchange);
            }
        }
    }
}

int bw_orders_streams(const struct bw_service *service)
{
    int count = 0;
    for (const struct bw_order *o = service->oldest; o; o = o->next) {
        for (const struct bw_listener *l = o->listeners; l; l = l->next)
            count += is_stream(l->form);
    }
    return count;
}

/* ---- the end ---- */

struct bw_request bw_effective_request(const struct bw_request *asked, const struct bw_plan *plan,
                                       const struct bw_arch *arch)
{
    struct bw_request request = *asked;
    request.picture = bw_plan_picture(plan, arch);
    request.deadline_ms = 0;
    request.priority = BW_PRIORITY_NORMAL;
    request.partial_images = 0;
    *request.webhook = '\0';
    return request;
}

/* The timings of the picture that was last. */
static struct bw_timings timings_of(const struct bw_order *o)
{
    const struct bw_job *last = &o->jobs[0];
    for (int i = 1; i < o->request.count; i++) {
        if (o->jobs[i].encoded_ms > last->encoded_ms)
            last = &o->jobs[i];
    }
    return (struct bw_timings){.queue_ms = last->started_ms - last->admitted_ms,
                               .compute_ms = last->computed_ms - last->started_ms,
                               .encode_ms = last->encoded_ms - last->computed_ms,
                               .total_ms = o->total_ms,
                               .predicted_ms = o->predicted_ms};
}

struct bw_generation bw_order_result(const struct bw_order *o, struct bw_image *images)
{
    const struct bw_arch *arch = &o->served->model->arch;
    struct bw_generation result = {
        .model_digest = o->served->model->digest,
        .request = bw_effective_request(&o->request, &o->jobs[0].plan, arch),
        .timings = timings_of(o),
        .images = images,
    };
    for (int i = 0; i < o->request.count; i++) {
        const struct bw_job *job = &o->jobs[i];
        const struct bw_plan *plan = &job->plan;
        images[i] = (struct bw_image){
            .bytes = job->image.data,
            .size_bytes = job->image.length_bytes,
            .skip = bw_schedule_describe(arch, plan->masks, plan->steps),
            .excess_loss = bw_schedule_excess(arch, plan->masks, plan->steps),
        };
        result.evaluations += bw_plan_evaluations(plan);
        result.gigaflops += bw_plan_flops(plan, arch) / 1e9 + job->task.decode_gigaflops;
    }
    return result;
}

static void answer_listeners(struct bw_order *o)
{
    for (struct bw_listener *l = o->listeners, *next; l; l = next) {
        next = l->next;
        if (is_stream(l->form))
            bw_exchange_poke(l->exchange);
        else
            answer(l);
    }
}

/* The last job is back. */
static void end(struct bw_order *o)
{
    o->ended = o->ending = true;
    o->total_ms = bw_now_ms() - o->arrived_ms;
    bw_timer_free(o->patience);
    o->patience = NULL;
    for (int i = 0; i < o->request.count && !o->failed; i++) {
        if (!o->jobs[i].err.code)
            continue;
        o->failed = true;
        o->problem = BW_PROBLEM_INTERNAL;
        o->err = o->jobs[i].err;
    }
    double deadline_ms = o->request.deadline_ms;
    if (!o->failed)
        bw_metrics_prediction(&o->service->metrics, o->predicted_ms, o->total_ms);
    if (deadline_ms > 0 && (!o->failed || o->problem == BW_PROBLEM_TOO_LATE))
        bw_metrics_deadline(&o->service->metrics, !o->failed && o->total_ms <= deadline_ms);
    if (o->keeper)
        o->keeper->ended(o->keeper, o);
    answer_listeners(o);
    o->ending = false;
    release(o);
}

static void job_over(struct bw_job *job)
{
    struct bw_order *o = job->owner;
    bool unwanted = atomic_load(&job->cancelled) || job->err.code == BW_ECANCELLED;
    enum bw_outcome outcome = unwanted ? BW_CANCELLED : job->err.code ? BW_FAILED : BW_DONE;
    double left_queue_ms = job->started_ms > 0 ? job->started_ms : bw_now_ms();
    bw_metrics_picture(&o->service->metrics, outcome, left_queue_ms - job->admitted_ms);
    o->service->in_progress--;
    if (++o->over < o->request.count)
        return;
    if (o->lost)
        release(o);
    else
        end(o);
}

static void lose(struct bw_order *o)
{
    o->ended = o->lost = true;
    o->total_ms = bw_now_ms() - o->arrived_ms;
    for (int i = 0; i < o->request.count; i++)
        atomic_store(&o->jobs[i].cancelled, true);
    if (!o->failed) {
        o->failed = true;
        o->problem = BW_PROBLEM_STALLED;
        bw_err_set(&o->err, BW_EIO, "the service stops, and the worker that had this is dead");
    }
    answer_listeners(o);
}

int bw_orders_lose(struct bw_service *service)
{
    int kept = 0;
    for (struct bw_order *o = service->oldest; o; o = o->next) {
        if (!o->ended)
            lose(o);
        kept += o->lost && o->keeper;
    }
    return kept;
}

void bw_orders_collect(void *context)
{
    struct bw_service *service = context;
    struct bw_job *job = bw_workers_collect(service->workers);
    collect_news(service); // after the jobs, whose news are all there now
    while (job) {
        struct bw_job *next = job->next;
        job_over(job);
        job = next;
    }
}

void bw_order_give_up(struct bw_order *o, enum bw_problem problem, const char *reason)
{
    if (o->failed || o->ended)
        return;
    o->failed = true;
    o->problem = problem;
    bw_err_set(&o->err, BW_ECANCELLED, "%s", reason);
    for (int i = 0; i < o->request.count; i++)
        atomic_store(&o->jobs[i].cancelled, true);
    struct bw_job *job = bw_scheduler_remove(&o->service->scheduler, o);
    collect_news(o->service); // of the jobs that are over now
    while (job) {
        struct bw_job *next = job->next;
        bw_err_set(&job->err, BW_ECANCELLED, "cancelled");
        job_over(job); // the last one may free the order
        job = next;
    }
}

/* ---- admission ---- */

static void run_out(void *context)
{
    bw_order_give_up(context, BW_PROBLEM_TOO_LATE,
                     "the deadline has passed, and the pictures are not there yet");
}

int bw_order_admit(struct bw_order *o, bool only_ask, struct bw_answer *answer, struct bw_err *err)
{
    const struct bw_config *config = o->service->config;
    double late_ms = o->arrived_ms + o->request.deadline_ms + config->deadline_grace_ms;
    int count = o->request.count;
    if (o->request.deadline_ms > 0 && config->policy != BW_POLICY_FIFO && !only_ask) {
        o->patience = bw_timer_new(o->service->loop, run_out, o);
        if (!o->patience)
            return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    int code = bw_scheduler_offer(&o->service->scheduler, o->client, o->jobs, count, only_ask,
                                  answer, err);
    if (code || only_ask)
        return code;
    o->service->in_progress += count;
    o->predicted_ms = answer->verdict.end_ms - o->arrived_ms;
    if (o->patience)
        bw_timer_start(o->patience, (uint64_t)fmax(late_ms - bw_now_ms(), 0), 0);
    add_event(o, (struct bw_event){.kind = BW_EVENT_QUEUED,
                                   .pictures = count,
                                   .predicted_ms = fmax(o->predicted_ms, 0)});
    enlist(o);
    return BW_OK;
}
