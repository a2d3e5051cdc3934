/* What the policy decides is carried out here: ladders are made, masks written, prices learned. */
#include "server/dispatch.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static const double pricing_period_ms = 250, finish_memory = 0.9;

static struct bw_job *job_of(struct bw_task *task)
{
    return (struct bw_job *)((char *)task - offsetof(struct bw_job, task));
}

int bw_dispatch_init(struct bw_dispatch *dispatch, const struct bw_rules *rules, struct bw_err *err)
{
    int room = rules->most_waiting + rules->teams + BW_MAX_COUNT;
    struct bw_dispatch d = {0};
    int code = bw_board_init(&d.board, rules, room, err);
    if (code)
        return code;
    d.forecasts = calloc((size_t)room, sizeof *d.forecasts);
    if (!d.forecasts) {
        bw_board_release(&d.board);
        return bw_err_set(err, BW_ENOMEM, "out of memory for %d pictures", room);
    }
    *dispatch = d;
    return BW_OK;
}

void bw_dispatch_release(struct bw_dispatch *dispatch)
{
    bw_board_release(&dispatch->board);
    free(dispatch->forecasts);
    dispatch->forecasts = NULL;
}

/* ---- admission ---- */

/* (Re)make the ladders for so many steps. */
static int set_ladders(struct bw_job *jobs, int count, int steps, bool automatic,
                       struct bw_err *err)
{
    int code = BW_OK;
    for (int i = 0; !code && i < count; i++) {
        struct bw_task *t = &jobs[i].task;
        bw_ladder_release(t->ladder);
        t->plan->steps = steps;
        t->rung = 0;
        t->gigaflops = bw_plan_flops(t->plan, t->arch) / 1e9;
        t->decode_gigaflops = bw_price_decode_gigaflops(t->price, t->plan->width, t->plan->height);
        code = bw_ladder_init(t->ladder, t->arch, t->plan, automatic, t->price, err);
    }
    return code;
}

static int try_steps(struct bw_dispatch *d, struct bw_job *jobs, struct bw_task **tasks, int count,
                     int steps, double now_ms, struct bw_verdict *verdict, struct bw_err *err)
{
    int code = set_ladders(jobs, count, steps, true, err);
    if (!code)
        *verdict = bw_policy_admit(&d->board, tasks, count, now_ms, d->forecasts);
    return code;
}

/* The most steps from half of those asked for on with which an automatic picture can be promised;
 * 0 if none. Leaves the ladders at the last steps tried; *verdict is that of the result. */
static int fit_steps(struct bw_dispatch *d, struct bw_job *jobs, struct bw_task **tasks, int count,
                     int most, double now_ms, struct bw_verdict *verdict, struct bw_err *err)
{
    int low = (most + 1) / 2, high = most;
    if (try_steps(d, jobs, tasks, count, low, now_ms, verdict, err) || verdict->refusal)
        return 0;
    while (low < high) {
        struct bw_verdict tried;
        int middle = (low + high + 1) / 2;
        if (try_steps(d, jobs, tasks, count, middle, now_ms, &tried, err))
            return 0;
        if (tried.refusal)
            high = middle - 1;
        else
            low = middle;
    }
    return try_steps(d, jobs, tasks, count, low, now_ms, verdict, err) ? 0 : low;
}

static int decide(struct bw_dispatch *d, struct bw_job *jobs, struct bw_task **tasks, int count,
                  double now_ms, struct bw_answer *answer, struct bw_err *err)
{
    bool automatic = tasks[0]->automatic;
    struct bw_plan asked = jobs[0].plan;
    struct bw_verdict cheaper = {0};
    int code = set_ladders(jobs, count, asked.steps, automatic, err);
    if (code)
        return code;
    answer->steps = 0;
    answer->verdict = bw_policy_admit(&d->board, tasks, count, now_ms, d->forecasts);
    if (answer->verdict.refusal != BW_REFUSED_DEADLINE || d->board.rules.policy != BW_POLICY_FULL)
        return BW_OK;
    answer->steps = fit_steps(d, jobs, tasks, count, asked.steps, now_ms, &cheaper, err);
    if (answer->steps && automatic)
        answer->verdict = cheaper;
    else
        code = set_ladders(jobs, count, asked.steps, automatic, err);
    if (!answer->steps && automatic) // with the fewest steps it may be had sooner
        answer->verdict.retry_ms = cheaper.retry_ms;
    return err->code ? err->code : code;
}

static void price_anew(struct bw_dispatch *d, double now_ms)
{
    if (now_ms - d->priced_ms < pricing_period_ms)
        return;
    d->priced_ms = now_ms;
    for (int i = 0; i < d->board.count; i++) {
        struct bw_task *t = d->board.tasks[i];
        bw_ladder_reprice(t->ladder, t->arch, t->plan, t->price);
    }
}

int bw_dispatch_offer(struct bw_dispatch *d, const char *client, struct bw_job *jobs, int count,
                      bool only_ask, double now_ms, struct bw_answer *answer, struct bw_err *err)
{
    struct bw_task *tasks[BW_MAX_COUNT];
    assert(count > 0 && count <= BW_MAX_COUNT);
    price_anew(d, now_ms);
    int place = bw_board_client(&d->board, client);
    for (int i = 0; i < count; i++) {
        struct bw_task *t = tasks[i] = &jobs[i].task;
        t->ladder = &jobs[i].ladder;
        t->plan = &jobs[i].plan;
        t->client = place;
        t->number = d->board.admitted + (uint64_t)i;
        t->team = -1;
        if (t->automatic && !t->promised && d->board.rules.target_ms > 0)
            t->due_ms = t->arrived_ms + d->board.rules.target_ms;
    }
    int code = decide(d, jobs, tasks, count, now_ms, answer, err);
    if (!code && answer->verdict.refusal)
        code = bw_err_set(err, BW_EBUSY, "there is no room for %d more pictures", count);
    for (int i = 0; !code && !only_ask && i < count; i++) {
        jobs[i].predicted_ms = answer->verdict.end_ms;
        bw_board_add(&d->board, tasks[i]);
    }
    return code;
}

/* ---- work ---- */

static struct bw_work work_of(struct bw_task *const *tasks, int count)
{
    struct bw_work work = {0};
    for (int i = 0; i < count; i++)
        bw_work_add(&work, tasks[i]->arch, tasks[i]->plan->width, tasks[i]->plan->height,
                    tasks[i]->plan->masks[tasks[i]->step], bw_plan_passes(tasks[i]->plan));
    return work;
}

static double decode_ms(const struct bw_task *t)
{
    return bw_price_decode_ms(t->price, t->plan->width, t->plan->height);
}

static double call_ms(struct bw_task *const *tasks, int count)
{
    if (bw_task_decodes(tasks[0]))
        return decode_ms(tasks[0]);
    struct bw_work work = work_of(tasks, count);
    return bw_price_ms(tasks[0]->price, &work);
}

int bw_dispatch_take(struct bw_dispatch *d, int team, double now_ms, struct bw_job **jobs)
{
    struct bw_task *tasks[BW_MAX_CALL];
    int count = bw_policy_choose(&d->board, now_ms, d->forecasts, tasks);
    if (!count)
        return 0;
    bw_board_begin(&d->board, team, tasks, count, now_ms);
    double free_ms = now_ms + call_ms(tasks, count);
    for (int i = 0; i < count; i++) {
        tasks[i]->free_ms = free_ms;
        tasks[i]->decode_ms = decode_ms(tasks[i]);
        jobs[i] = job_of(tasks[i]);
    }
    return count;
}

static bool is_over(struct bw_job *job)
{
    return job->err.code || bw_task_is_done(&job->task) || atomic_load(&job->cancelled);
}

/* A call of all of them took so long. */
static void learn(struct bw_task *const *tasks, int count, double ms)
{
    struct bw_task *t = tasks[0];
    if (bw_task_decodes(t)) {
        bw_price_learn_decode(t->price, t->plan->width, t->plan->height, ms);
        return;
    }
    struct bw_work work = work_of(tasks, count);
    bw_price_learn(t->price, &work, ms);
}

int bw_dispatch_give(struct bw_dispatch *d, struct bw_job **jobs, int count, double began_ms,
                     double now_ms)
{
    struct bw_task *tasks[BW_MAX_CALL] = {0};
    bool whole = true; // did all of them run?
    int over = 0;
    assert(count > 0 && count <= BW_MAX_CALL);
    for (int i = 0; i < count; i++) {
        tasks[i] = &jobs[i]->task;
        whole = whole && !jobs[i]->err.code && !atomic_load(&jobs[i]->cancelled);
    }
    if (whole)
        learn(tasks, count, now_ms - began_ms);
    bw_board_end(&d->board, tasks, count, began_ms, now_ms);
    for (int i = 0; i + over < count;) {
        struct bw_job *job = jobs[i];
        if (!is_over(job)) {
            bw_ladder_reprice(&job->ladder, job->task.arch, &job->plan, job->task.price);
            i++;
            continue;
        }
        bw_board_remove(&d->board, &job->task);
        over++;
        jobs[i] = jobs[count - over];
        jobs[count - over] = job;
    }
    return over;
}

void bw_dispatch_learn_finish(struct bw_dispatch *d, double ms)
{
    double known_ms = d->board.finish_ms;
    d->board.finish_ms = known_ms > 0 ? finish_memory * known_ms + (1 - finish_memory) * ms : ms;
}

struct bw_job *bw_dispatch_remove(struct bw_dispatch *d, const void *owner)
{
    struct bw_job *removed = NULL;
    for (int i = 0; i < d->board.count;) {
        struct bw_job *job = job_of(d->board.tasks[i]);
        if ((owner && job->owner != owner) || job->task.team >= 0) {
            i++;
            continue;
        }
        bw_board_remove(&d->board, &job->task);
        job->next = removed;
        removed = job;
    }
    return removed;
}
