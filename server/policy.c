/* One forecast answers every question: the tasks in order of service are dealt to the teams as if
 * each ran to its end, once for every rung until all due moments can be met. Preemption only lets
 * urgent ones go earlier than that, so a promise that holds in the forecast holds. */
#include "server/policy.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { SHARE_OF_OLDEST = 8 };

static const double standstill_ms = 1000;  // after which the oldest of the rest claims its turn
static const double quantum_ms = 200;      // of a client's turn
static const double client_multiple = 4;   // of the room left, that one client may hold
static const double step_margin = 0.03;    // of the time until a due moment, kept in reserve
static const double promise_margin = 0.08; // the same when the promise is made
static const double call_margin = 0.2; // in both cases of the longest call, as well: a step with
                                       // every brick, or the decoder's

static bool is_due(const struct bw_board *board, const struct bw_task *t)
{
    return board->rules.policy != BW_POLICY_FIFO && isfinite(t->due_ms);
}

/* ---- order ---- */

static void rank(const struct bw_board *board, struct bw_forecast *f)
{
    const struct bw_task *t = f->task;
    f->rank.group = board->rules.policy == BW_POLICY_FIFO || t->promised ? 0 : 1;
    f->rank.first = f->rank.second = f->rank.third = 0;
    if (board->rules.policy == BW_POLICY_FIFO)
        return;
    if (t->promised) {
        f->rank.first = t->due_ms;
        return;
    }
    f->rank.first = -(double)t->priority;
    f->rank.second =
        board->clients[t->client].used_ms - (t->client == board->turn_of ? quantum_ms : 0);
    // work, not time: equal requests must not overtake each other because prices moved
    f->rank.third =
        t->gigaflops * (t->plan->steps - t->step) / t->plan->steps + t->decode_gigaflops;
}

static int compare(const void *a, const void *b)
{
    const struct bw_forecast *x = a, *y = b;
    if (x->rank.group != y->rank.group)
        return x->rank.group - y->rank.group;
    const double pairs[5][2] = {{x->rank.first, y->rank.first},
                                {x->rank.second, y->rank.second},
                                {x->rank.third, y->rank.third},
                                {x->newcomer, y->newcomer},
                                {(double)x->task->number, (double)y->task->number}};
    for (int i = 0; i < 5; i++) {
        if (pairs[i][0] != pairs[i][1])
            return pairs[i][0] < pairs[i][1] ? -1 : 1;
    }
    return 0;
}

/* All tasks of the board and `count` more, ordered. */
static void order(const struct bw_board *board, struct bw_task *const *more, int count,
                  struct bw_forecast *f)
{
    int all = board->count + count;
    for (int i = 0; i < all; i++) {
        f[i].newcomer = i >= board->count;
        f[i].task = f[i].newcomer ? more[i - board->count] : board->tasks[i];
        rank(board, &f[i]);
    }
    qsort(f, (size_t)all, sizeof *f, compare);
}

/* ---- time ---- */

/* The task's next call, an evaluation or the decoder's. */
static double call_ms(const struct bw_task *t, int rung)
{
    int r = rung < t->ladder->rungs ? rung : t->ladder->rungs - 1;
    double step =
        bw_ladder_rest_ms(t->ladder, r, t->step) - bw_ladder_rest_ms(t->ladder, r, t->step + 1);
    return step / bw_plan_stages(t->plan, t->step);
}

/* What is left to do on a rung, without the call some team is at. */
static double left_ms(const struct bw_task *t, int rung)
{
    int r = rung < t->ladder->rungs ? rung : t->ladder->rungs - 1;
    double rest = bw_ladder_rest_ms(t->ladder, r, t->step), call = call_ms(t, r);
    return rest - (t->half ? call : 0) - (t->team >= 0 ? call : 0);
}

/* Of that, the decoder's part; whatever the rung. */
static double decode_ms(const struct bw_task *t)
{
    return bw_ladder_rest_ms(t->ladder, 0, t->plan->steps);
}

/* Deal the tasks to the teams, all on one rung or (rung -1) each on its own. */
static void deal(const struct bw_board *board, struct bw_forecast *f, int count, int rung,
                 double now_ms)
{
    double free_ms[BW_MAX_TEAMS];
    assert(board->rules.teams > 0);
    for (int team = 0; team < board->rules.teams; team++)
        free_ms[team] = now_ms;
    for (int i = 0; i < count; i++) {
        if (f[i].task->team >= 0)
            free_ms[f[i].task->team] = fmax(now_ms, f[i].task->free_ms);
    }
    for (int i = 0; i < count; i++) {
        const struct bw_task *t = f[i].task;
        int team = 0;
        for (int other = 1; other < board->rules.teams; other++) {
            if (free_ms[other] < free_ms[team])
                team = other;
        }
        double begin_ms = t->team >= 0 ? fmax(free_ms[team], t->free_ms) : free_ms[team];
        double work_ms = left_ms(t, rung < 0 ? f[i].rung : rung) + board->finish_ms;
        f[i].end_ms = free_ms[team] = begin_ms + work_ms;
    }
}

/* The end if things go less well: calls are a little longer than their price, each by itself and
 * all together. */
static double cautious_ms(const struct bw_task *t, double end_ms, double margin, double now_ms)
{
    double step_ms = (bw_ladder_rest_ms(t->ladder, 0, 0) - decode_ms(t)) / t->plan->steps;
    return end_ms + margin * (end_ms - now_ms) + call_margin * fmax(step_ms, decode_ms(t));
}

static bool is_kept(const struct bw_forecast *f, double margin, double now_ms)
{
    return cautious_ms(f->task, f->end_ms, margin, now_ms) <= f->task->due_ms;
}

static int last_rung(const struct bw_board *board)
{
    return board->rules.policy == BW_POLICY_FULL ? BW_LADDER_RUNGS - 1 : 0;
}

/* How many promises cannot be kept even on the last rungs. Changes the ends. */
static int broken_promises(const struct bw_board *board, struct bw_forecast *f, double now_ms)
{
    int broken = 0;
    deal(board, f, board->count, last_rung(board), now_ms);
    for (int i = 0; i < board->count; i++)
        broken += f[i].task->promised && !is_kept(&f[i], step_margin, now_ms);
    return broken;
}

/* For each task with a due moment the first rung on which it is met; `last` if none is. */
static void find_needs(const struct bw_board *board, struct bw_forecast *f, int count, int last,
                       double now_ms)
{
    int open = 0;
    for (int i = 0; i < count; i++) {
        f[i].need = is_due(board, f[i].task) ? last : 0;
        open += is_due(board, f[i].task);
    }
    for (int rung = 0; rung < last && open; rung++) {
        deal(board, f, count, rung, now_ms);
        for (int i = 0; i < count; i++) {
            if (is_due(board, f[i].task) && f[i].need == last &&
                is_kept(&f[i], step_margin, now_ms)) {
                f[i].need = rung;
                open--;
            }
        }
    }
}

void bw_policy_forecast(const struct bw_board *board, struct bw_task *const *more, int count,
                        double now_ms, struct bw_forecast *forecasts)
{
    int all = board->count + count, level = 0;
    order(board, more, count, forecasts);
    find_needs(board, forecasts, all, last_rung(board), now_ms);
    for (int i = all - 1; i >= 0; i--) {
        const struct bw_ladder *ladder = forecasts[i].task->ladder;
        level = forecasts[i].need > level ? forecasts[i].need : level;
        forecasts[i].rung = level < ladder->rungs ? level : ladder->rungs - 1;
    }
    deal(board, forecasts, all, -1, now_ms);
}

/* ---- choice ---- */

/* The oldest of the rest, if it stands still, it is its turn, and no promise breaks for it; -1
 * otherwise. Changes the ends. */
static int oldest(const struct bw_board *board, struct bw_forecast *f, double now_ms)
{
    int found = -1;
    if (board->rules.policy == BW_POLICY_FIFO || (board->turns + 1) % SHARE_OF_OLDEST)
        return -1;
    for (int i = 0; i < board->count; i++) {
        const struct bw_task *t = f[i].task;
        if (!t->promised && (found < 0 || t->number < f[found].task->number))
            found = i;
    }
    if (found < 0 || f[found].task->team >= 0 ||
        now_ms - f[found].task->advanced_ms < standstill_ms)
        return -1;
    double turn_ms = call_ms(f[found].task, f[found].rung);
    int broken = broken_promises(board, f, now_ms);
    return broken_promises(board, f, now_ms + turn_ms) > broken ? -1 : found;
}

/* A call of the network, or the decoder's, as it is put together. */
struct call {
    struct bw_work work;
    struct bw_task **tasks;
    double alone_ms[BW_MAX_CALL]; // what each task's evaluation would take by itself
    int count;
    bool full; // nothing may join
};

static void add_work(struct bw_work *work, const struct bw_task *t, int rung)
{
    bw_work_add(work, t->arch, t->plan->width, t->plan->height,
                bw_ladder_mask(t->ladder, t->half ? t->rung : rung, t->step),
                bw_plan_passes(t->plan));
}

/* Does a call of that length keep the promise, if all evaluations until the task's end were like
 * it, and then its company were decoded in turn, up to itself? */
static bool bears(const struct bw_task *t, double alone_ms, double shared_ms, double decodes_ms,
                  double now_ms)
{
    double steps_ms = left_ms(t, t->rung) - decode_ms(t);
    double end_ms = now_ms + steps_ms * shared_ms / alone_ms + decodes_ms;
    return !t->promised || cautious_ms(t, end_ms, step_margin, now_ms) <= t->due_ms;
}

/* Add a task, if the call does not keep the team busy yet and nobody in it gets too late. */
static bool join(const struct bw_board *board, struct call *call, const struct bw_forecast *f,
                 double now_ms)
{
    struct bw_task *t = f->task;
    struct bw_work alone = {0}, both = call->work;
    if (bw_task_decodes(t)) {
        call->tasks[call->count++] = t;
        return call->full = true;
    }
    add_work(&alone, t, f->rung);
    add_work(&both, t, f->rung);
    double alone_ms = bw_price_ms(t->price, &alone);
    double both_ms = bw_price_ms(t->price, &both), decodes_ms = 0;
    if (!t->half)
        t->rung = f->rung;
    if (call->count && bw_work_reaches(&call->work, board->rules.busy_tokens))
        return false;
    for (int i = 0; i < call->count; i++) {
        decodes_ms += decode_ms(call->tasks[i]);
        if (!bears(call->tasks[i], call->alone_ms[i], both_ms, decodes_ms, now_ms))
            return false;
    }
    if (call->count && !bears(t, alone_ms, both_ms, decodes_ms + decode_ms(t), now_ms))
        return false;
    call->tasks[call->count] = t;
    call->alone_ms[call->count++] = alone_ms;
    call->work = both;
    return true;
}

/* All of a call are of one model, and one that is to be decoded is alone. Company may come from
 * behind pictures of other kinds, but not from behind a promised one, whose forecast knows of
 * nothing that goes before it. */
int bw_policy_choose(const struct bw_board *board, double now_ms, struct bw_forecast *forecasts,
                     struct bw_task **chosen)
{
    struct call call = {.tasks = chosen};
    bw_policy_forecast(board, NULL, 0, now_ms, forecasts);
    int first = oldest(board, forecasts, now_ms);
    if (first >= 0)
        join(board, &call, &forecasts[first], now_ms);
    for (int i = 0; i < board->count && !call.full && call.count < board->rules.most_pictures;
         i++) {
        const struct bw_task *t = forecasts[i].task;
        bool stranger = call.count && (t->price != call.tasks[0]->price || bw_task_decodes(t));
        if (t->team >= 0 || i == first || (stranger && !t->promised))
            continue;
        if (stranger || !join(board, &call, &forecasts[i], now_ms))
            break;
    }
    return call.count;
}

/* ---- admission ---- */

/* While others wait, promises leave them their turns. */
static double margin_of_promises(const struct bw_board *board)
{
    for (int i = 0; i < board->count; i++) {
        if (!board->tasks[i]->promised)
            return promise_margin + 1.0 / (SHARE_OF_OLDEST - 1);
    }
    return promise_margin;
}

/* Would a promise of the newcomers' not be kept with the full margin, or one on the board be put at
 * risk: end later than without them, in time without them, and no longer with the full margin? */
static bool breaks_promise(const struct bw_board *board, struct bw_task *const *tasks, int count,
                           double now_ms, struct bw_forecast *f)
{
    int all = board->count + count;
    double margin = margin_of_promises(board);
    order(board, tasks, 0, f);
    deal(board, f, board->count, last_rung(board), now_ms);
    for (int i = 0; i < board->count; i++)
        f[i].task->without_ms = f[i].end_ms;
    order(board, tasks, count, f);
    deal(board, f, all, last_rung(board), now_ms);
    for (int i = 0; i < all; i++) {
        const struct bw_task *t = f[i].task;
        if (!t->promised || is_kept(&f[i], margin, now_ms))
            continue;
        if (f[i].newcomer || (t->without_ms <= t->due_ms && f[i].end_ms > t->without_ms + 1e-6))
            return true;
    }
    return false;
}

/* When the last newcomer is answered. */
static double last_end_ms(const struct bw_forecast *f, int all)
{
    double end_ms = 0;
    for (int i = 0; i < all; i++)
        end_ms = f[i].newcomer ? fmax(end_ms, f[i].end_ms) : end_ms;
    return end_ms;
}

/* The moment that could be promised: behind all promises there are. */
static double best_promise_ms(const struct bw_board *board, struct bw_task *const *tasks, int count,
                              double now_ms, struct bw_forecast *f)
{
    double due_ms = tasks[0]->due_ms;
    for (int i = 0; i < count; i++)
        tasks[i]->due_ms = 1e300;
    order(board, tasks, count, f);
    deal(board, f, board->count + count, last_rung(board), now_ms);
    for (int i = 0; i < count; i++)
        tasks[i]->due_ms = due_ms;
    double end_ms = last_end_ms(f, board->count + count);
    return cautious_ms(tasks[0], end_ms, margin_of_promises(board), now_ms);
}

/* Work on the board and of the newcomers, of one client or (-1) of all, on the rungs of the
 * forecast. What is owed is no work of newcomers: however large, it waits only for the others. */
static double work_ms(const struct bw_forecast *f, int all, int client)
{
    double sum = 0;
    for (int i = 0; i < all; i++) {
        bool counts = !f[i].newcomer || !f[i].task->owed;
        if (counts && (client < 0 || f[i].task->client == client))
            sum += left_ms(f[i].task, f[i].rung);
    }
    return sum;
}

/* When the work on the board will be within bounds again: now_ms if it is. `f` holds the forecast
 * with the newcomers. */
static double room_ms(const struct bw_board *board, const struct bw_forecast *f, int count,
                      const struct bw_task *one, double now_ms)
{
    const struct bw_rules *rules = &board->rules;
    int all = board->count + count, over = all - rules->most_waiting - rules->teams;
    double room_ms = now_ms;
    if (board->count && rules->policy != BW_POLICY_FIFO && !one->promised) {
        double bound_ms = rules->most_work_ms * rules->teams;
        double all_ms = work_ms(f, all, -1), own_ms = work_ms(f, all, one->client);
        double most_own_ms = client_multiple * (bound_ms - all_ms);
        double excess_ms = fmax(all_ms - bound_ms, own_ms - fmax(most_own_ms, 0));
        room_ms += fmax(excess_ms / rules->teams, 0);
    }
    for (int i = 0; i < over && i < all; i++)
        room_ms = fmax(room_ms, f[i].end_ms);
    return over > 0 ? fmax(room_ms, now_ms + 1) : room_ms; // calls that are late end "now"
}

/* How long the newcomers alone would take at the least. */
static double alone_ms(const struct bw_board *board, struct bw_task *const *tasks, int count)
{
    int rounds = (count + board->rules.teams - 1) / board->rules.teams;
    double end_ms = rounds * (left_ms(tasks[0], last_rung(board)) + board->finish_ms);
    return cautious_ms(tasks[0], end_ms, promise_margin, 0);
}

struct bw_verdict bw_policy_admit(const struct bw_board *board, struct bw_task *const *tasks,
                                  int count, double now_ms, struct bw_forecast *f)
{
    struct bw_verdict v = {.refusal = BW_ADMITTED};
    int all = board->count + count;
    bool heeded = board->rules.policy != BW_POLICY_FIFO && tasks[0]->promised;
    if (heeded && breaks_promise(board, tasks, count, now_ms, f)) {
        double budget_ms = tasks[0]->due_ms - now_ms;
        v.refusal = BW_REFUSED_DEADLINE;
        v.best_ms = best_promise_ms(board, tasks, count, now_ms, f);
        v.retry_ms = alone_ms(board, tasks, count) > budget_ms
                         ? INFINITY
                         : fmax(now_ms, v.best_ms - budget_ms);
        return v;
    }
    bw_policy_forecast(board, tasks, count, now_ms, f);
    v.end_ms = last_end_ms(f, all);
    v.retry_ms = room_ms(board, f, count, tasks[0], now_ms);
    if (v.retry_ms > now_ms)
        v.refusal = BW_REFUSED_FULL;
    for (int i = 0; i < all; i++) {
        if (f[i].newcomer)
            f[i].task->rung = f[i].rung;
    }
    return v;
}
