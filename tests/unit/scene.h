/* Scene: a board built by hand and a virtual machine whose calls take exactly what the price says.
 */
#ifndef BW_TESTS_UNIT_SCENE_H
#define BW_TESTS_UNIT_SCENE_H

#include "server/policy.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

enum { MOST = 64 }; // pictures of a scene

static const double eval_ms =
    10; // of one evaluation with every brick, unless a test says otherwise
static const double never = INFINITY;

static struct bw_arch arch;
static struct bw_price price, other_price; // of the model, and of another of the same shape

struct picture {
    struct bw_plan plan;
    struct bw_ladder ladder;
    struct bw_task task;
    double end_ms; // 0: not over
};

/* What a team is doing in the virtual machine. */
struct machine {
    struct bw_task *tasks[BW_MAX_CALL];
    int count;
    double began_ms, until_ms;
};

static struct scene {
    struct bw_board board;
    struct picture pictures[MOST];
    int made;
    struct bw_forecast forecasts[2 * MOST];
    struct machine machines[4];
    double now_ms;
    int kept, missed;  // promises, of pictures that are over
    int shared, mixed; // calls of several pictures, of several models
} scene;

/* Prices on a line: so much for a call whatever it does, the rest in proportion to its work. The
 * other model is twice as dear. */
static inline void set_price(double fixed_ms)
{
    struct bw_work one = {0};
    bw_work_add(&one, &arch, 128, 128, 7, 1);
    double slope = (eval_ms - fixed_ms) / bw_work_gigaflops(&one);
    price = (struct bw_price){.arch = &arch, .overall = 1};
    for (int k = 0; k < 3; k++)
        price.lines[k] =
            (struct bw_price_line){.count = 2,
                                   .gigaflops = {1, 2},
                                   .ms = {fixed_ms / 3 + slope, fixed_ms / 3 + 2 * slope}};
    other_price = price;
    other_price.overall = 2;
}

static inline void begin_scene(int teams)
{
    const struct bw_rules rules = {
        .teams = teams, .most_waiting = MOST, .most_work_ms = 1e9, .most_pictures = 1};
    memset(&scene, 0, sizeof scene);
    set_price(0);
    if (bw_board_init(&scene.board, &rules, 2 * MOST, NULL))
        abort();
}

static inline void end_scene(void)
{
    for (int i = 0; i < scene.made; i++)
        bw_ladder_release(&scene.pictures[i].ladder);
    bw_board_release(&scene.board);
}

static inline struct picture *picture_of(const struct bw_task *task)
{
    return (struct picture *)((char *)task - offsetof(struct picture, task));
}

/* A new place, or that of a picture that is over. */
static inline struct picture *free_place(void)
{
    if (scene.made < MOST)
        return &scene.pictures[scene.made++];
    for (int i = 0; i < MOST; i++) {
        if (scene.pictures[i].end_ms) {
            bw_ladder_release(&scene.pictures[i].ladder);
            return &scene.pictures[i];
        }
    }
    abort();
}

/* A picture of a model that arrives now, not yet on the board. `due_ms`: a deadline, or never. */
static inline struct bw_task *make_of(struct bw_price *model, int steps, bool automatic,
                                      double due_ms)
{
    struct picture *p = free_place();
    p->end_ms = 0;
    p->plan = (struct bw_plan){.width = 128,
                               .height = 128,
                               .label = -1,
                               .steps = steps,
                               .solver = BW_EULER,
                               .guidance = 1};
    memset(p->plan.masks, 7, (size_t)steps);
    if (bw_ladder_init(&p->ladder, &arch, &p->plan, automatic, model, NULL))
        abort();
    p->task = (struct bw_task){.arch = &arch,
                               .price = model,
                               .ladder = &p->ladder,
                               .plan = &p->plan,
                               .automatic = automatic,
                               .priority = BW_PRIORITY_NORMAL,
                               .gigaflops = bw_plan_flops(&p->plan, &arch) / 1e9,
                               .arrived_ms = scene.now_ms,
                               .due_ms = due_ms,
                               .promised = isfinite(due_ms),
                               .client = 1,
                               .team = -1};
    return &p->task;
}

static inline struct bw_task *make(int steps, bool automatic, double due_ms)
{
    return make_of(&price, steps, automatic, due_ms);
}

static inline struct bw_task *put(int steps, bool automatic, double due_ms)
{
    struct bw_task *task = make(steps, automatic, due_ms);
    bw_board_add(&scene.board, task);
    return task;
}

/* The same, of the other model. */
static inline struct bw_task *put_other(int steps, bool automatic, double due_ms)
{
    struct bw_task *task = make_of(&other_price, steps, automatic, due_ms);
    bw_board_add(&scene.board, task);
    return task;
}

/* The same, of another client than the first. */
static inline struct bw_task *put_for(int client, int steps, double due_ms)
{
    struct bw_task *task = make(steps, false, due_ms);
    task->client = client;
    bw_board_add(&scene.board, task);
    return task;
}

static inline struct bw_verdict admit(struct bw_task *const *tasks, int count)
{
    return bw_policy_admit(&scene.board, tasks, count, scene.now_ms, scene.forecasts);
}

static inline struct bw_task *first_choice(void)
{
    struct bw_task *chosen[BW_MAX_CALL];
    int count = bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, chosen);
    return count ? chosen[0] : NULL;
}

static inline const struct bw_forecast *forecast_of(const struct bw_task *task)
{
    bw_policy_forecast(&scene.board, NULL, 0, scene.now_ms, scene.forecasts);
    for (int i = 0; i < scene.board.count; i++) {
        if (scene.forecasts[i].task == task)
            return &scene.forecasts[i];
    }
    abort();
}

/* ---- the virtual machine ---- */

static inline void end_call(struct machine *m)
{
    bw_board_end(&scene.board, m->tasks, m->count, m->began_ms, scene.now_ms);
    for (int i = 0; i < m->count; i++) {
        struct bw_task *t = m->tasks[i];
        if (!bw_task_is_done(t))
            continue;
        bw_board_remove(&scene.board, t);
        m->until_ms += scene.board.finish_ms;
        picture_of(t)->end_ms = m->until_ms;
        scene.kept += t->promised && m->until_ms <= t->due_ms + 1e-6;
        scene.missed += t->promised && m->until_ms > t->due_ms + 1e-6;
    }
    m->count = 0;
}

static inline void begin_call(int team)
{
    struct machine *m = &scene.machines[team];
    struct bw_work work = {0};
    m->count = bw_policy_choose(&scene.board, scene.now_ms, scene.forecasts, m->tasks);
    if (!m->count)
        return;
    bw_board_begin(&scene.board, team, m->tasks, m->count, scene.now_ms);
    scene.shared += m->count > 1;
    bool decodes = bw_task_decodes(m->tasks[0]);
    for (int i = 0; i < m->count && !decodes; i++) {
        scene.mixed += m->tasks[i]->price != m->tasks[0]->price;
        bw_work_add(&work, &arch, 128, 128, m->tasks[i]->plan->masks[m->tasks[i]->step], 1);
    }
    m->began_ms = scene.now_ms;
    m->until_ms = scene.now_ms + (decodes ? bw_price_decode_ms(m->tasks[0]->price, 128, 128)
                                          : bw_price_ms(m->tasks[0]->price, &work));
    for (int i = 0; i < m->count; i++)
        m->tasks[i]->free_ms = m->until_ms;
}

/* Calls take what the price says, until that moment or until all is done. */
static inline void work_until(double moment_ms)
{
    for (;;) {
        double next_ms = never;
        for (int team = 0; team < scene.board.rules.teams; team++) {
            struct machine *m = &scene.machines[team];
            if (m->until_ms <= scene.now_ms && !m->count)
                begin_call(team);
            if (m->count || m->until_ms > scene.now_ms)
                next_ms = fmin(next_ms, m->until_ms);
        }
        if (next_ms > moment_ms || isinf(next_ms))
            break;
        scene.now_ms = next_ms;
        for (int team = 0; team < scene.board.rules.teams; team++) {
            if (scene.machines[team].count && scene.machines[team].until_ms <= next_ms)
                end_call(&scene.machines[team]);
        }
    }
    if (isfinite(moment_ms))
        scene.now_ms = moment_ms;
}

static inline double end_of(const struct bw_task *task)
{
    return picture_of(task)->end_ms;
}

#endif
