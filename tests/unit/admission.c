/* Who may come, and whether what was promised is kept. */
#include "server/policy.h"

#include "tests/unit/scene.h"

/* One picture of the reference: what follows from the rule, one evaluation after the other. */
struct item {
    struct bw_task *task;
    int step;
    double ready_ms, end_ms;
};

static bool goes_before(const struct bw_task *a, const struct bw_task *b)
{
    if (a->promised != b->promised)
        return a->promised;
    return a->promised && a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->number < b->number;
}

static double reference_eval_ms(const struct bw_task *t, int step)
{
    struct bw_work work = {0};
    bw_work_add(&work, &arch, 128, 128, bw_ladder_mask(t->ladder, t->ladder->rungs - 1, step), 1);
    return bw_price_ms(&price, &work);
}

/* Whenever a team is free it runs one step of the most urgent picture that no team has, with the
 * fewest bricks. Fills in end_ms. */
static void simulate(struct item *items, int count)
{
    double free_ms[4];
    int teams = scene.board.rules.teams;
    for (int team = 0; team < teams; team++)
        free_ms[team] = scene.now_ms;
    for (int i = 0; i < count; i++) {
        const struct bw_task *t = items[i].task;
        items[i] = (struct item){.task = items[i].task, .step = t->step, .ready_ms = scene.now_ms};
        if (t->team < 0)
            continue;
        items[i].step++;
        items[i].ready_ms = free_ms[t->team] = items[i].end_ms = t->free_ms;
    }
    for (;;) {
        struct item *next = NULL;
        int team = 0;
        double soonest_ms = never;
        for (int other = 1; other < teams; other++)
            team = free_ms[other] < free_ms[team] ? other : team;
        for (int i = 0; i < count; i++) {
            if (items[i].step == items[i].task->plan->steps)
                continue;
            soonest_ms = fmin(soonest_ms, items[i].ready_ms);
            if (items[i].ready_ms <= free_ms[team] &&
                (!next || goes_before(items[i].task, next->task)))
                next = &items[i];
        }
        if (isinf(soonest_ms))
            return;
        if (!next) {
            free_ms[team] = soonest_ms;
            continue;
        }
        next->ready_ms = free_ms[team] += reference_eval_ms(next->task, next->step++);
        next->end_ms = next->ready_ms;
    }
}

/* With a reserve: a share of the time it takes, and some of a call. */
static bool in_time(const struct item *item, double reserve)
{
    double took_ms = (item->end_ms - scene.now_ms) * (1 + reserve) + reserve * eval_ms;
    return !item->task->promised || took_ms <= item->task->due_ms - scene.now_ms;
}

static struct bw_task *random_picture(uint64_t *random, bool promised)
{
    int steps = random_int(random, 1, 20);
    double due_ms = scene.now_ms + eval_ms * steps * (0.2 + 6 * random_unit(random));
    return make(steps, random_unit(random) < 0.5, promised ? due_ms : never);
}

/* A board of up to 6 pictures, one of which may be at work. False if one of its promises is neither
 * comfortable nor lost: for those the margin decides. */
static bool random_board(uint64_t *random, int teams, bool others)
{
    struct item items[8];
    begin_scene(teams);
    scene.now_ms = 1000;
    int count = random_int(random, 0, 6);
    for (int i = 0; i < count; i++) {
        struct bw_task *t = random_picture(random, !others || random_unit(random) < 0.7);
        bw_board_add(&scene.board, t);
        items[i].task = t;
    }
    if (count && random_int(random, 0, 1)) {
        bw_board_begin(&scene.board, random_int(random, 0, teams - 1), scene.board.tasks, 1, 1000);
        scene.board.tasks[0]->free_ms = 1000 + eval_ms * random_unit(random);
    }
    simulate(items, count);
    for (int i = 0; i < count; i++) {
        if (in_time(&items[i], 0) && !in_time(&items[i], 0.4))
            return false;
    }
    return true;
}

/* Whether one verdict was right, from what the reference says with and without the newcomers. */
static void check_verdict(struct bw_task *const *newcomers, int count, int round)
{
    struct item before[12], after[12];
    int old = scene.board.count;
    for (int i = 0; i < old; i++)
        before[i].task = after[i].task = scene.board.tasks[i];
    for (int i = 0; i < count; i++)
        after[old + i].task = newcomers[i];
    simulate(before, old);
    simulate(after, old + count);
    bool admitted = admit(newcomers, count).refusal == BW_ADMITTED, breaks = false, tight = false;
    for (int i = 0; i < old + count; i++) {
        bool had = i >= old || in_time(&before[i], 0);
        breaks = breaks || (had && !in_time(&after[i], 0));
        tight = tight || (had && !in_time(&after[i], 0.25)); // margins and the turns of others
    }
    CHECK_OF(!admitted || !breaks, "round %d: admitted", round);
    CHECK_OF(admitted || tight, "round %d: refused", round);
}

/* Newcomers that are refused would have broken a promise; those that are not break none. */
static void check_admission(int teams, bool others)
{
    uint64_t random = 11;
    int checked = 0, refused = 0;
    for (int round = 0; round < 1000; round++) {
        if (random_board(&random, teams, others)) {
            struct bw_task *newcomers[3];
            int count = random_int(&random, 1, 3);
            newcomers[0] = random_picture(&random, true);
            for (int i = 1; i < count; i++)
                newcomers[i] =
                    make(newcomers[0]->plan->steps, newcomers[0]->automatic, newcomers[0]->due_ms);
            check_verdict(newcomers, count, round);
            refused += admit(newcomers, count).refusal == BW_REFUSED_DEADLINE;
            checked++;
        }
        end_scene();
    }
    CHECK_OF(checked >= 200 && refused >= 50 && checked - refused >= 50, "%d of %d", refused,
             checked);
}

static void admission_of_one_team(void)
{
    check_admission(1, false);
}

static void admission_of_several_teams(void)
{
    check_admission(2, false);
    check_admission(3, false);
}

static void admission_beside_others(void)
{
    check_admission(1, true);
    check_admission(2, true);
}

/* A promise is one until it is broken: that its reserve is used up makes nobody free to break it.
 */
static void thin_promises_are_kept(void)
{
    begin_scene(1);
    put(100, false, 1030); // 1000 ms of work: less in reserve than a new promise needs
    struct bw_task *newcomer = make(50, false, 600);
    CHECK_INT(admit(&newcomer, 1).refusal, BW_REFUSED_DEADLINE);
    end_scene();
}

/* What is offered instead can be had. */
static void check_best(int teams)
{
    uint64_t random = 5;
    int refused = 0;
    for (int round = 0; round < 600; round++) {
        if (random_board(&random, teams, false)) {
            struct bw_task *newcomer = random_picture(&random, true);
            newcomer->due_ms = fmin(newcomer->due_ms, 1000 + eval_ms * newcomer->plan->steps / 2);
            struct bw_verdict verdict = admit(&newcomer, 1);
            if (verdict.refusal) {
                newcomer->due_ms = verdict.best_ms;
                CHECK_OF(admit(&newcomer, 1).refusal == BW_ADMITTED, "%d teams, round %d", teams,
                         round);
                refused++;
            }
        }
        end_scene();
    }
    CHECK_OF(refused >= 50, "%d", refused);
}

static void best_moment_of_one_team(void)
{
    check_best(1);
}

static void best_moment_of_several_teams(void)
{
    check_best(2);
    check_best(3);
}

/* Asking again when told to; never, if the picture alone takes longer than it may. */
static void retries_come_true(void)
{
    uint64_t random = 9;
    int later = 0, in_vain = 0;
    for (int round = 0; round < 300; round++) {
        begin_scene(1);
        scene.now_ms = 500;
        for (int i = random_int(&random, 1, 5); i > 0; i--)
            put(random_int(&random, 5, 30), false, 1e6);
        int steps = random_int(&random, 5, 20);
        double budget_ms = eval_ms * steps * (0.5 + 1.5 * random_unit(&random));
        struct bw_task *newcomer = make(steps, false, 500 + budget_ms);
        struct bw_verdict verdict = admit(&newcomer, 1);
        if (verdict.refusal && isinf(verdict.retry_ms)) {
            CHECK_OF(eval_ms * steps * 1.1 > budget_ms, "round %d", round);
            in_vain++;
        } else if (verdict.refusal) {
            CHECK_OF(eval_ms * steps <= budget_ms && verdict.retry_ms > 500, "round %d", round);
            work_until(verdict.retry_ms + 1);
            newcomer = make(steps, false, scene.now_ms + budget_ms);
            CHECK_OF(admit(&newcomer, 1).refusal == BW_ADMITTED, "round %d", round);
            later++;
        }
        end_scene();
    }
    CHECK_OF(in_vain >= 10, "%d in vain", in_vain);
    (void)later; // earliest deadline first: a promise far away makes nobody wait
}

/* Behind promises that are due as soon, asking again later helps. */
static void retries_behind_promises(void)
{
    begin_scene(1);
    put(50, false, 550);
    struct bw_task *newcomer = make(20, false, 400);
    struct bw_verdict verdict = admit(&newcomer, 1);
    CHECK_INT(verdict.refusal, BW_REFUSED_DEADLINE);
    CHECK_OF(verdict.retry_ms > 0 && verdict.retry_ms < 550, "%g", verdict.retry_ms);
    REQUIRE(isfinite(verdict.retry_ms));
    work_until(verdict.retry_ms);
    newcomer = make(20, false, verdict.retry_ms + 400);
    CHECK_INT(admit(&newcomer, 1).refusal, BW_ADMITTED);
    end_scene();
}

/* A newcomer stands behind who is its equal, and is told so. */
static void newcomers_queue_up(void)
{
    static const enum bw_policy policies[] = {BW_POLICY_FULL, BW_POLICY_FIFO};
    for (int i = 0; i < 2; i++) {
        begin_scene(1);
        scene.board.rules.policy = policies[i];
        put(10, false, never);
        put(10, false, never);
        struct bw_task *newcomer = make(10, false, never);
        CHECK_NEAR(admit(&newcomer, 1).end_ms, 30 * eval_ms, 1e-6);
        end_scene();
    }
}

/* ---- bounds ---- */

static void number_is_bounded(void)
{
    begin_scene(2);
    scene.board.rules.most_waiting = 8;
    for (int i = 0; i < 8; i++)
        put(10, false, never);
    struct bw_task *newcomers[3] = {make(10, false, never), make(10, false, never),
                                    make(10, false, never)};
    CHECK_INT(admit(newcomers, 2).refusal, BW_ADMITTED);
    struct bw_verdict verdict = admit(newcomers, 3);
    CHECK_INT(verdict.refusal, BW_REFUSED_FULL);
    CHECK_OF(verdict.retry_ms > 0 && isfinite(verdict.retry_ms), "%g", verdict.retry_ms);
    work_until(verdict.retry_ms);
    CHECK_INT(admit(newcomers, 3).refusal, BW_ADMITTED);
    end_scene();
}

/* The board has no more room because a call takes longer than was expected. */
static void number_is_bounded_when_calls_are_late(void)
{
    begin_scene(1);
    scene.board.rules.most_waiting = 8;
    for (int i = 0; i < 9; i++)
        put(1, false, never);
    bw_board_begin(&scene.board, 0, scene.board.tasks, 9, 0);
    for (int i = 0; i < 9; i++)
        scene.board.tasks[i]->free_ms = 50;
    scene.now_ms = 60;
    struct bw_task *newcomer = make(1, false, never);
    CHECK_INT(admit(&newcomer, 1).refusal, BW_REFUSED_FULL);
    newcomer->promised = true;
    newcomer->due_ms = 1e6;
    CHECK_INT(admit(&newcomer, 1).refusal, BW_REFUSED_FULL);
    end_scene();
}

static void work_is_bounded(void)
{
    begin_scene(2);
    scene.board.rules.most_work_ms = 500;
    struct bw_task *alone = make(200, false, never);
    CHECK_INT(admit(&alone, 1).refusal, BW_ADMITTED); // nothing else is there
    for (int i = 0; i < 4; i++)
        put_for(i + 1, 20, never);
    struct bw_task *fits = make(10, false, never), *large = make(40, false, never);
    fits->client = large->client = 9;
    CHECK_INT(admit(&fits, 1).refusal, BW_ADMITTED);
    large->owed = true;
    CHECK_INT(admit(&large, 1).refusal, BW_ADMITTED); // others are within the bound
    large->owed = false;
    struct bw_verdict verdict = admit(&large, 1);
    CHECK_INT(verdict.refusal, BW_REFUSED_FULL);
    CHECK_OF(verdict.retry_ms > 0 && verdict.retry_ms <= 1000, "%g", verdict.retry_ms);
    work_until(verdict.retry_ms);
    CHECK_INT(admit(&large, 1).refusal, BW_ADMITTED);
    large->promised = true; // a promise is bounded by deadlines instead
    large->due_ms = scene.now_ms + 1e5;
    CHECK_INT(admit(&large, 1).refusal, BW_ADMITTED);
    end_scene();
}

/* Whoever sends as much as is taken leaves room for somebody else. */
static void floods_leave_room(void)
{
    begin_scene(1);
    scene.board.rules.most_work_ms = 1000;
    int taken = 0;
    struct bw_task *more = make(5, false, never);
    while (taken < 40 && admit(&more, 1).refusal == BW_ADMITTED) {
        bw_board_add(&scene.board, more);
        taken++;
        more = make(5, false, never);
    }
    CHECK_OF(taken >= 10 && taken <= 19, "%d", taken);
    CHECK_INT(admit(&more, 1).refusal, BW_REFUSED_FULL);
    more->client = 2;
    CHECK_INT(admit(&more, 1).refusal, BW_ADMITTED);
    end_scene();
}

/* ---- the long run ---- */

struct weather {
    int teams, most_pictures;
    double fixed_ms, finish_ms;
    double others;    // share of requests without a deadline
    double strangers; // share of requests for the other model
};

static void arrive(const struct weather *w, uint64_t *random)
{
    struct bw_task *tasks[3];
    int count = random_int(random, 1, 3), steps = random_int(random, 1, 40);
    bool promised = random_unit(random) >= w->others, automatic = random_int(random, 0, 1);
    struct bw_price *model = random_unit(random) < w->strangers ? &other_price : &price;
    double budget_ms = eval_ms * model->overall * steps * count * (0.5 + 4 * random_unit(random));
    for (int i = 0; i < count; i++) {
        tasks[i] = make_of(model, steps, automatic, promised ? scene.now_ms + budget_ms : never);
        tasks[i]->client = random_int(random, 1, 3);
    }
    for (int i = 1; i < count; i++)
        tasks[i]->client = tasks[0]->client;
    bool admitted =
        scene.board.count + count < MOST / 2 && admit(tasks, count).refusal == BW_ADMITTED;
    for (int i = 0; i < count; i++) {
        if (admitted)
            bw_board_add(&scene.board, tasks[i]);
        else
            picture_of(tasks[i])->end_ms = -1; // its place is free
    }
}

/* When calls take what the price says, no promise is broken. */
static void check_promises(const struct weather *w)
{
    uint64_t random = 17;
    begin_scene(w->teams);
    set_price(w->fixed_ms);
    scene.board.rules.most_pictures = w->most_pictures;
    scene.board.rules.busy_tokens = 1 << 20;
    scene.board.finish_ms = w->finish_ms;
    for (int i = 0; i < 1500; i++) {
        double gap_ms = -log(1 - random_unit(&random)) * 300 / w->teams;
        work_until(scene.now_ms + gap_ms);
        arrive(w, &random);
    }
    work_until(never);
    CHECK_INT(scene.board.count, 0);
    CHECK_INT(scene.mixed, 0);
    CHECK_OF(w->most_pictures == 1 || scene.shared >= 300, "%d shared calls", scene.shared);
    CHECK_OF(scene.kept >= 300, "%d promises kept", scene.kept);
    CHECK_OF(scene.missed == 0, "%d of %d promises broken", scene.missed,
             scene.missed + scene.kept);
    end_scene();
}

static void promises_are_kept(void)
{
    check_promises(&(struct weather){.teams = 1, .most_pictures = 1});
}

static void promises_are_kept_by_teams(void)
{
    check_promises(&(struct weather){.teams = 2, .most_pictures = 1});
    check_promises(&(struct weather){.teams = 4, .most_pictures = 1});
}

static void promises_are_kept_beside_others(void)
{
    check_promises(&(struct weather){.teams = 1, .most_pictures = 1, .others = 0.4});
}

static void promises_are_kept_in_shared_calls(void)
{
    check_promises(&(struct weather){.teams = 1, .most_pictures = 16, .fixed_ms = 6});
}

/* Whichever models they are of, alone and in company. */
static void promises_are_kept_across_models(void)
{
    check_promises(&(struct weather){.teams = 1, .most_pictures = 1, .strangers = 0.5});
    check_promises(&(struct weather){
        .teams = 1, .most_pictures = 16, .fixed_ms = 6, .others = 0.4, .strangers = 0.5});
    check_promises(&(struct weather){
        .teams = 3, .most_pictures = 16, .fixed_ms = 6, .others = 0.4, .strangers = 0.5});
}

static void promises_are_kept_while_finishing(void)
{
    check_promises(&(struct weather){.teams = 1, .most_pictures = 1, .finish_ms = 1});
}

int main(void)
{
    static const struct check_test tests[] = {TEST(admission_of_one_team),
                                              TEST(admission_of_several_teams),
                                              TEST(admission_beside_others),
                                              TEST(thin_promises_are_kept),
                                              TEST(best_moment_of_one_team),
                                              TEST(best_moment_of_several_teams),
                                              TEST(retries_come_true),
                                              TEST(retries_behind_promises),
                                              TEST(newcomers_queue_up),
                                              TEST(number_is_bounded),
                                              TEST(number_is_bounded_when_calls_are_late),
                                              TEST(work_is_bounded),
                                              TEST(floods_leave_room),
                                              TEST(promises_are_kept),
                                              TEST(promises_are_kept_by_teams),
                                              TEST(promises_are_kept_beside_others),
                                              TEST(promises_are_kept_in_shared_calls),
                                              TEST(promises_are_kept_across_models),
                                              TEST(promises_are_kept_while_finishing)};
    arch = weights_arch_of(POMOLOGY);
    int status = CHECK_RUN("admission", tests);
    bw_arch_release(&arch);
    return status;
}
