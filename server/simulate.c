/* Two kinds of events: a request arrives, a team is done with a call. A team that finishes pictures
 * is busy a little longer for each, as a worker is that encodes them. */
#include "server/simulate.h"

#include "engine/schedule.h"

#include <math.h>
#include <stdlib.h>

static const double finish_ms = 1; // encoding a picture

/* One request on its way. */
struct request {
    int left; // pictures
    struct bw_job jobs[];
};

struct team {
    struct bw_job *jobs[BW_MAX_CALL];
    int count; // 0: idle
    double began_ms, done_ms;
};

struct simulation {
    const struct bw_trace *trace;
    struct bw_dispatch dispatch;
    struct bw_price price; // of the one model
    int max_area;
    struct request **requests; // [trace->count]; NULL before and after their time
    struct bw_fate *fates;     // [trace->count]
    struct team teams[BW_MAX_TEAMS];
};

static void free_request(struct request *r, int count)
{
    for (int i = 0; r && i < count; i++)
        bw_ladder_release(&r->jobs[i].ladder);
    free(r);
}

static int arrive(struct simulation *s, int number, struct bw_err *err)
{
    const struct bw_arrival *a = &s->trace->arrivals[number];
    const struct bw_request *asked = &a->request;
    struct bw_fate *fate = &s->fates[number];
    struct bw_answer answer = {0};
    struct bw_err refusal = {0};
    struct bw_plan plan;
    int code = bw_plan_make(&plan, s->price.arch, &asked->picture, s->max_area, err);
    if (code)
        return code;
    struct request *r = calloc(1, sizeof *r + (size_t)asked->count * sizeof(struct bw_job));
    if (!r)
        return bw_err_set(err, BW_ENOMEM, "out of memory for request %d", number);
    r->left = asked->count;
    for (int i = 0; i < asked->count; i++)
        bw_job_init(&r->jobs[i], asked, &plan, &s->price, i, a->at_ms, &s->fates[number]);
    code = bw_dispatch_offer(&s->dispatch, a->client, r->jobs, asked->count, false, a->at_ms,
                             &answer, &refusal);
    *fate = (struct bw_fate){.refusal = answer.verdict.refusal,
                             .predicted_ms = answer.verdict.end_ms - a->at_ms,
                             .steps = r->jobs[0].plan.steps};
    if (!code)
        s->requests[number] = r;
    else
        free_request(r, asked->count);
    return code == BW_EBUSY ? BW_OK : code;
}

static void finish(struct simulation *s, struct bw_job *job, double now_ms)
{
    struct bw_fate *fate = job->owner;
    int number = (int)(fate - s->fates);
    const struct bw_arrival *a = &s->trace->arrivals[number];
    struct request *r = s->requests[number];
    fate->excess_loss +=
        bw_schedule_excess(s->price.arch, job->plan.masks, job->plan.steps) / a->request.count;
    fate->latency_ms = fmax(fate->latency_ms, now_ms - a->at_ms);
    if (--r->left == 0) {
        free_request(r, a->request.count);
        s->requests[number] = NULL;
    }
}

/* The team is done with its call, or with encoding what that finished. */
static void come_back(struct simulation *s, struct team *team)
{
    double now_ms = team->done_ms;
    if (team->began_ms < 0) {
        team->count = 0;
        return;
    }
    int over = bw_dispatch_give(&s->dispatch, team->jobs, team->count, team->began_ms, now_ms);
    for (int i = team->count - over; i < team->count; i++) {
        now_ms += finish_ms;
        bw_dispatch_learn_finish(&s->dispatch, finish_ms);
        finish(s, team->jobs[i], now_ms);
    }
    team->began_ms = -1;
    team->done_ms = now_ms;
    team->count = over;
}

static void set_to_work(struct simulation *s, double now_ms)
{
    for (int i = 0; i < s->dispatch.board.rules.teams; i++) {
        struct team *team = &s->teams[i];
        if (team->count)
            continue;
        team->count = bw_dispatch_take(&s->dispatch, i, now_ms, team->jobs);
        team->began_ms = now_ms;
        team->done_ms = team->count ? team->jobs[0]->task.free_ms : now_ms;
    }
}

static struct team *next_team(struct simulation *s)
{
    struct team *next = NULL;
    for (int i = 0; i < s->dispatch.board.rules.teams; i++) {
        struct team *team = &s->teams[i];
        if (team->count && (!next || team->done_ms < next->done_ms))
            next = team;
    }
    return next;
}

static int run(struct simulation *s, struct bw_err *err)
{
    int arrived = 0, code = BW_OK;
    for (;;) {
        struct team *team = next_team(s);
        const struct bw_arrival *a =
            arrived < s->trace->count ? &s->trace->arrivals[arrived] : NULL;
        if (a && (!team || a->at_ms < team->done_ms)) {
            code = arrive(s, arrived++, err);
            if (code)
                return code;
            set_to_work(s, a->at_ms);
        } else if (team) {
            double now_ms = team->done_ms;
            come_back(s, team);
            set_to_work(s, now_ms);
        } else {
            return BW_OK;
        }
    }
}

int bw_simulate(const struct bw_trace *trace, const struct bw_rules *rules,
                const struct bw_price *price, int max_area, struct bw_fate *fates,
                struct bw_err *err)
{
    struct simulation *s = calloc(1, sizeof *s);
    size_t count = (size_t)trace->count;
    if (s)
        s->requests = calloc(count + 1, sizeof(struct request *));
    int code = s && s->requests ? BW_OK : bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!code) {
        s->trace = trace;
        s->max_area = max_area;
        s->fates = fates;
        s->price = *price;
        code = bw_dispatch_init(&s->dispatch, rules, err);
    }
    if (!code) {
        code = run(s, err);
        for (int i = 0; i < trace->count; i++)
            free_request(s->requests[i], trace->arrivals[i].request.count);
        bw_dispatch_release(&s->dispatch);
    }
    if (s)
        free(s->requests);
    free(s);
    return code;
}

/* ---- the report ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, int count, double share)
{
    return count ? sorted[(int)fmin(share * count, count - 1)] : 0;
}

void bw_simulate_report(const struct bw_trace *trace, const struct bw_fate *fates,
                        struct bw_buf *out)
{
    int admitted = 0, full = 0, late = 0, met = 0, degraded = 0;
    double excess = 0, *latency_ms = calloc((size_t)trace->count + 1, sizeof *latency_ms);
    for (int i = 0; latency_ms && i < trace->count; i++) {
        const struct bw_fate *f = &fates[i];
        const struct bw_request *r = &trace->arrivals[i].request;
        full += f->refusal == BW_REFUSED_FULL;
        late += f->refusal == BW_REFUSED_DEADLINE;
        if (f->refusal)
            continue;
        latency_ms[admitted++] = f->latency_ms;
        met += !(r->deadline_ms > 0) || f->latency_ms <= r->deadline_ms;
        degraded += f->excess_loss > 0 || f->steps < r->picture.steps;
        excess += f->excess_loss;
    }
    if (latency_ms)
        qsort(latency_ms, (size_t)admitted, sizeof *latency_ms, compare);
    bw_buf_addf(out,
                "{\"offered\":%d,\"admitted\":%d,\"refused_full\":%d,\"refused_deadline\":%d,"
                "\"met\":%d,\"degraded\":%d,\"mean_excess_loss\":%.6g,\"latency_ms\":{\"p50\":%.6g,"
                "\"p95\":%.6g,\"p99\":%.6g}}\n",
                trace->count, admitted, full, late, met, degraded, admitted ? excess / admitted : 0,
                latency_ms ? percentile(latency_ms, admitted, 0.5) : 0,
                latency_ms ? percentile(latency_ms, admitted, 0.95) : 0,
                latency_ms ? percentile(latency_ms, admitted, 0.99) : 0);
    free(latency_ms);
}
