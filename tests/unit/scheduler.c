/* Requests on the board and off again: in virtual time where it matters what is decided, with
 * threads where it matters that nothing is lost. */
#include "server/scheduler.h"

#include "base/clock.h"
#include "engine/schedule.h"
#include "tests/unit/check.h"
#include "tests/unit/weights.h"

enum { REQUESTS = 150, EACH = 3, TEAMS = 3 };

static const double eval_ms = 10; // of one evaluation with every brick

static struct bw_arch arch;
static struct bw_price price, other_price; // the scheduler's while there is one

static void set_prices(void)
{
    struct bw_work one = {0};
    bw_work_add(&one, &arch, 128, 128, 7, 1);
    price = (struct bw_price){.arch = &arch, .overall = 1};
    double slope = eval_ms / bw_work_gigaflops(&one);
    for (int k = 0; k < arch.brick_count; k++)
        price.lines[k] =
            (struct bw_price_line){.count = 2, .gigaflops = {1, 2}, .ms = {slope, 2 * slope}};
    other_price = price;
}

static struct bw_rules rules_of(int teams, int waiting)
{
    return (struct bw_rules){.teams = teams,
                             .most_waiting = waiting,
                             .most_work_ms = 1e9,
                             .most_pictures = 4,
                             .busy_tokens = 1 << 20};
}

/* `count` jobs of one request. deadline_ms 0: none. */
static void make_jobs(struct bw_job *jobs, int count, int steps, bool automatic, double now_ms,
                      double deadline_ms)
{
    memset(jobs, 0, (size_t)count * sizeof *jobs);
    for (int i = 0; i < count; i++) {
        jobs[i].owner = jobs;
        jobs[i].plan = (struct bw_plan){.width = 128,
                                        .height = 128,
                                        .label = -1,
                                        .steps = steps,
                                        .solver = BW_EULER,
                                        .guidance = 1,
                                        .index = (uint32_t)i};
        memset(jobs[i].plan.masks, 7, (size_t)steps);
        jobs[i].task = (struct bw_task){.arch = &arch,
                                        .price = &price,
                                        .automatic = automatic,
                                        .priority = BW_PRIORITY_NORMAL,
                                        .arrived_ms = now_ms,
                                        .due_ms = deadline_ms ? now_ms + deadline_ms : INFINITY,
                                        .promised = deadline_ms > 0};
    }
}

static void release_jobs(struct bw_job *jobs, int count)
{
    for (int i = 0; i < count; i++)
        bw_ladder_release(&jobs[i].ladder);
}

static void begin_dispatch(struct bw_dispatch *d, int teams, int waiting)
{
    struct bw_rules rules = rules_of(teams, waiting);
    set_prices();
    if (bw_dispatch_init(d, &rules, NULL))
        abort();
}

static int offer(struct bw_dispatch *d, struct bw_job *jobs, int count, bool only_ask,
                 double now_ms, struct bw_answer *answer)
{
    struct bw_err err = {0};
    return bw_dispatch_offer(d, "client", jobs, count, only_ask, now_ms, answer, &err);
}

/* ---- what is decided ---- */

static void asking_changes_nothing(void)
{
    static struct bw_dispatch d, before;
    struct bw_job jobs[2];
    struct bw_answer asked, answered;
    begin_dispatch(&d, 1, 8);
    make_jobs(jobs, 2, 10, true, 0, 150);
    bw_board_client(&d.board, "client");
    before = d;
    CHECK_INT(offer(&d, jobs, 2, true, 0, &asked), BW_OK);
    CHECK_INT(d.board.count, 0);
    CHECK(d.board.admitted == before.board.admitted && d.board.turns == before.board.turns);
    CHECK(memcmp(d.board.clients, before.board.clients, sizeof d.board.clients) == 0);
    CHECK(jobs[0].ladder.rungs == BW_LADDER_RUNGS && jobs[0].task.rung > 0);
    release_jobs(jobs, 2);
    make_jobs(jobs, 2, 10, true, 0, 150);
    CHECK_INT(offer(&d, jobs, 2, false, 0, &answered), BW_OK);
    CHECK_INT(d.board.count, 2);
    CHECK_NEAR(asked.verdict.end_ms, answered.verdict.end_ms, 1e-9);
    CHECK_NEAR(jobs[1].predicted_ms, answered.verdict.end_ms, 1e-9);
    release_jobs(jobs, 2);
    bw_dispatch_release(&d);
}

/* Fewer bricks first; then fewer steps, the most that do, at least half. */
static void steps_are_the_last_resort(void)
{
    static struct bw_dispatch d;
    struct bw_job job;
    struct bw_answer answer;
    int before = 20, fewer = 0, refused = 0;
    begin_dispatch(&d, 1, 8);
    for (double deadline_ms = 230; deadline_ms > 10; deadline_ms -= 1) {
        make_jobs(&job, 1, 20, true, 0, deadline_ms);
        int code = offer(&d, &job, 1, true, 0, &answer);
        if (code) {
            CHECK_INT(code, BW_EBUSY);
            CHECK_INT(answer.verdict.refusal, BW_REFUSED_DEADLINE);
            CHECK(answer.verdict.best_ms > deadline_ms);
            refused++;
        } else {
            int steps = job.plan.steps, last = BW_LADDER_RUNGS - 1;
            CHECK_OF(!refused, "%g ms are promised and more were not", deadline_ms);
            CHECK_OF(steps >= 10 && steps <= before, "%d", steps);
            CHECK(bw_ladder_rest_ms(&job.ladder, job.task.rung, 0) <= deadline_ms);
            if (steps < 20) // one step more would not do with the fewest bricks
                CHECK(bw_ladder_rest_ms(&job.ladder, last, 0) * (steps + 1.5) / steps * 1.1 +
                          0.25 * bw_ladder_rest_ms(&job.ladder, 0, 0) / steps >
                      deadline_ms);
            fewer += steps < 20;
            before = steps;
        }
        release_jobs(&job, 1);
    }
    CHECK_OF(before == 10 && fewer >= 5 && refused >= 5, "%d steps, %d, %d", before, fewer,
             refused);
    bw_dispatch_release(&d);
}

/* Who did not leave the schedule to the service keeps it, but hears what "auto" could have. */
static void settled_requests_are_only_told(void)
{
    static struct bw_dispatch d;
    struct bw_job job;
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    make_jobs(&job, 1, 20, false, 0, 100); // takes 200
    CHECK_INT(offer(&d, &job, 1, false, 0, &answer), BW_EBUSY);
    CHECK_INT(answer.verdict.refusal, BW_REFUSED_DEADLINE);
    CHECK(isinf(answer.verdict.retry_ms));
    CHECK_OF(answer.steps >= 10 && answer.steps <= 20, "%d", answer.steps);
    CHECK_INT(job.plan.steps, 20);
    CHECK_INT(job.ladder.rungs, 1);
    CHECK_OF(job.task.rung == 0, "rung %d of 1", job.task.rung);
    for (int i = 0; i < 20; i++)
        CHECK_INT(job.plan.masks[i], 7);
    int steps = answer.steps;
    release_jobs(&job, 1);
    make_jobs(&job, 1, steps, true, 0, 100);
    CHECK_INT(offer(&d, &job, 1, false, 0, &answer), BW_OK);
    CHECK_INT(job.plan.steps, steps);
    release_jobs(&job, 1);
    bw_dispatch_release(&d);
}

/* Refused now, but an idle service would take it with fewer steps: asking again makes sense. */
static void later_means_with_fewer_steps_too(void)
{
    static struct bw_dispatch d;
    struct bw_job ahead, job;
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    make_jobs(&job, 1, 20, true, 0, 0);
    REQUIRE(offer(&d, &job, 1, true, 0, &answer) == BW_OK);
    double deadline_ms = 0.75 * bw_ladder_rest_ms(&job.ladder, BW_LADDER_RUNGS - 1, 0);
    release_jobs(&job, 1);
    make_jobs(&job, 1, 20, true, 0, deadline_ms);
    REQUIRE(offer(&d, &job, 1, true, 0, &answer) == BW_OK);
    REQUIRE(job.plan.steps < 20);
    release_jobs(&job, 1);
    make_jobs(&ahead, 1, 5, false, 0, 60);
    REQUIRE(offer(&d, &ahead, 1, false, 0, &answer) == BW_OK);
    make_jobs(&job, 1, 20, true, 0, deadline_ms);
    CHECK_INT(offer(&d, &job, 1, false, 0, &answer), BW_EBUSY);
    CHECK(isfinite(answer.verdict.retry_ms));
    release_jobs(&job, 1);
    release_jobs(&ahead, 1);
    bw_dispatch_release(&d);
}

static void all_or_none(void)
{
    static struct bw_dispatch d;
    static struct bw_job jobs[3][8];
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    for (int i = 0; i < 3; i++)
        make_jobs(jobs[i], 8, 10, false, 0, 0);
    CHECK_INT(offer(&d, jobs[0], 8, false, 0, &answer), BW_OK);
    CHECK_INT(offer(&d, jobs[1], 8, false, 0, &answer), BW_EBUSY);
    CHECK_INT(answer.verdict.refusal, BW_REFUSED_FULL);
    CHECK_INT(d.board.count, 8);
    CHECK_INT(offer(&d, jobs[2], 1, false, 0, &answer), BW_OK);
    CHECK_INT(d.board.count, 9);
    for (int i = 0; i < 3; i++)
        release_jobs(jobs[i], 8);
    bw_dispatch_release(&d);
}

/* Done, failed and cancelled jobs come back at the end of the array, and only those. */
static void the_end_of_jobs(void)
{
    static struct bw_dispatch d;
    static struct bw_job jobs[4];
    struct bw_job *taken[BW_MAX_CALL];
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    make_jobs(jobs, 4, 2, false, 0, 0);
    CHECK_INT(offer(&d, jobs, 4, false, 0, &answer), BW_OK);
    REQUIRE(bw_dispatch_take(&d, 0, 0, taken) == 4);
    CHECK_INT(bw_dispatch_take(&d, 0, 0, (struct bw_job *[BW_MAX_CALL]){0}), 0);
    bw_err_set(&jobs[1].err, BW_ENOMEM, "failed");
    atomic_store(&jobs[0].cancelled, true);
    CHECK_INT(bw_dispatch_give(&d, taken, 4, 0, 10), 2);
    CHECK((taken[2] == &jobs[0] && taken[3] == &jobs[1]) ||
          (taken[3] == &jobs[0] && taken[2] == &jobs[1]));
    CHECK_INT(d.board.count, 2);
    REQUIRE(bw_dispatch_take(&d, 0, 10, taken) == 2);
    CHECK_INT(bw_dispatch_give(&d, taken, 2, 10, 20), 2);
    CHECK(jobs[2].task.step == 2 && jobs[3].task.step == 2 && jobs[0].task.step < 2);
    CHECK_INT(d.board.count, 0);
    release_jobs(jobs, 4);
    bw_dispatch_release(&d);
}

/* What failed half-way says nothing about prices. */
static void failures_teach_nothing(void)
{
    static struct bw_dispatch d;
    struct bw_job job, *taken[BW_MAX_CALL];
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    make_jobs(&job, 1, 5, false, 0, 0);
    CHECK_INT(offer(&d, &job, 1, false, 0, &answer), BW_OK);
    REQUIRE(bw_dispatch_take(&d, 0, 0, taken) == 1);
    atomic_store(&job.cancelled, true);
    CHECK_INT(bw_dispatch_give(&d, taken, 1, 0, 5000), 1);
    CHECK_NEAR(price.overall, 1, 0);
    release_jobs(&job, 1);
    bw_dispatch_release(&d);
}

/* A team gets pictures of one model at a time, and what a call teaches is about that model. */
static void models_are_kept_apart(void)
{
    static struct bw_dispatch d;
    static struct bw_job jobs[2][3];
    struct bw_job *taken[BW_MAX_CALL];
    struct bw_answer answer;
    struct bw_work work = {0};
    int calls = 0, left = 6;
    for (int i = 0; i < 3; i++)
        bw_work_add(&work, &arch, 128, 128, 7, 1);
    begin_dispatch(&d, 1, 8);
    for (int model = 0; model < 2; model++) {
        make_jobs(jobs[model], 3, 4, false, 0, 0);
        for (int i = 0; model && i < 3; i++)
            jobs[model][i].task.price = &other_price;
        REQUIRE(offer(&d, jobs[model], 3, false, 0, &answer) == BW_OK);
    }
    for (double now_ms = 0; left; calls++, now_ms += 100) {
        int count = bw_dispatch_take(&d, 0, now_ms, taken);
        REQUIRE(count == 3);
        struct bw_price *learns = taken[0]->task.price;
        struct bw_price before = learns == &price ? other_price : price;
        for (int i = 1; i < count; i++)
            CHECK(taken[i]->task.price == learns);
        CHECK_NEAR(taken[0]->task.free_ms - now_ms, bw_price_ms(learns, &work), 1e-9);
        left -= bw_dispatch_give(&d, taken, count, now_ms, now_ms + 60);
        CHECK(learns->overall > 1);
        CHECK(memcmp(learns == &price ? &other_price : &price, &before, sizeof before) == 0);
    }
    CHECK_INT(calls, 8);
    for (int model = 0; model < 2; model++)
        release_jobs(jobs[model], 3);
    bw_dispatch_release(&d);
}

/* Only what no team has can be removed, and only the owner's. */
static void removal(void)
{
    static struct bw_dispatch d;
    static struct bw_job mine[3], others[2];
    struct bw_job *taken[BW_MAX_CALL];
    struct bw_answer answer;
    begin_dispatch(&d, 1, 8);
    d.board.rules.busy_tokens = 0; // one picture in a call
    make_jobs(mine, 3, 5, false, 0, 0);
    make_jobs(others, 2, 50, false, 0, 0);
    CHECK_INT(offer(&d, mine, 3, false, 0, &answer), BW_OK);
    CHECK_INT(offer(&d, others, 2, false, 0, &answer), BW_OK);
    REQUIRE(bw_dispatch_take(&d, 0, 0, taken) == 1);
    REQUIRE(taken[0]->owner == mine);
    int removed = 0;
    for (struct bw_job *job = bw_dispatch_remove(&d, mine); job; job = job->next) {
        CHECK(job->owner == mine && job != taken[0]);
        removed++;
    }
    CHECK_INT(removed, 2);
    CHECK_INT(d.board.count, 3);
    bw_dispatch_give(&d, taken, 1, 0, 10); // now it is parked
    CHECK(bw_dispatch_remove(&d, mine) == taken[0]);
    CHECK(!bw_dispatch_remove(&d, mine));
    struct bw_job *rest = bw_dispatch_remove(&d, NULL);
    CHECK(rest && rest->next && !rest->next->next && d.board.count == 0);
    release_jobs(mine, 3);
    release_jobs(others, 2);
    bw_dispatch_release(&d);
}

/* ---- with threads ---- */

static struct bw_scheduler scheduler;
static struct bw_job crowd[REQUESTS][EACH];
static atomic_int done, failed, cancelled, strange;

struct team {
    pthread_t thread;
    int number;
};

/* A worker whose network does nothing; some jobs fail under its hands. */
static void *team_main(void *argument)
{
    struct team *team = argument;
    struct bw_job *jobs[BW_MAX_CALL];
    int count;
    while ((count = bw_scheduler_take(&scheduler, team->number, jobs)) > 0) {
        double began_ms = bw_now_ms();
        for (int i = 0; i < count; i++) {
            bool mine =
                jobs[i]->task.team == team->number && jobs[i]->plan.masks[jobs[i]->task.step];
            atomic_fetch_add(&strange, !mine);
            if (jobs[i]->plan.seed == 7 && jobs[i]->task.step == 1)
                bw_err_set(&jobs[i]->err, BW_ENOMEM, "failed");
        }
        int over = bw_scheduler_give(&scheduler, jobs, count, began_ms);
        for (int i = count - over; i < count; i++) {
            if (jobs[i]->err.code)
                atomic_fetch_add(&failed, 1);
            else if (jobs[i]->task.step == jobs[i]->plan.steps)
                atomic_fetch_add(&done, 1);
            else
                atomic_fetch_add(&cancelled, 1);
        }
        bw_scheduler_learn_finish(&scheduler, 0.01);
    }
    return NULL;
}

static int count_list(struct bw_job *job)
{
    int count = 0;
    for (; job; job = job->next)
        count++;
    return count;
}

/* Three teams, and a loop that offers, asks and takes back: every job comes back exactly once. */
static void nothing_is_lost(void)
{
    struct bw_rules rules = rules_of(TEAMS, REQUESTS * EACH);
    set_prices();
    struct team teams[TEAMS];
    int admitted = 0, removed = 0;
    REQUIRE(bw_scheduler_init(&scheduler, &rules, NULL) == BW_OK);
    atomic_store(&done, 0), atomic_store(&failed, 0), atomic_store(&cancelled, 0);
    for (int i = 0; i < TEAMS; i++) {
        teams[i].number = i;
        REQUIRE(pthread_create(&teams[i].thread, NULL, team_main, &teams[i]) == 0);
    }
    for (int i = 0; i < REQUESTS; i++) {
        struct bw_answer answer;
        struct bw_err err = {0};
        char client[8];
        snprintf(client, sizeof client, "%d", i % 5);
        make_jobs(crowd[i], EACH, 2 + i % 9, i % 2, bw_now_ms(), i % 3 ? 0 : 1e5);
        crowd[i][0].plan.seed = i % 10 ? 0 : 7;
        bool ask = i % 7 == 6;
        int code = bw_scheduler_offer(&scheduler, client, crowd[i], EACH, ask, &answer, &err);
        admitted += code || ask ? 0 : EACH;
        if (i % 4 == 3) {
            for (int j = 0; j < EACH; j++)
                atomic_store(&crowd[i - 1][j].cancelled, true);
            removed += count_list(bw_scheduler_remove(&scheduler, crowd[i - 1]));
        }
    }
    CHECK(bw_scheduler_fresh(&scheduler) >= 0);
    while (atomic_load(&done) + atomic_load(&failed) + atomic_load(&cancelled) < admitted - removed)
        sched_yield();
    bw_scheduler_close(&scheduler);
    for (int i = 0; i < TEAMS; i++)
        pthread_join(teams[i].thread, NULL);
    CHECK(!bw_scheduler_clear(&scheduler));
    CHECK_INT(atomic_load(&strange), 0);
    CHECK_INT(done + failed + cancelled + removed, admitted);
    CHECK(admitted > REQUESTS && done > 0);
    for (int i = 0; i < REQUESTS; i++)
        release_jobs(crowd[i], EACH);
    bw_scheduler_release(&scheduler);
}

/* Teams that sleep or work when the service stops: they end, and what is on the board is handed
 * back. */
static void closing(void)
{
    struct bw_rules rules = rules_of(TEAMS, 64);
    set_prices();
    struct team teams[TEAMS];
    struct bw_answer answer;
    struct bw_err err = {0};
    struct bw_job *jobs[BW_MAX_CALL];
    REQUIRE(bw_scheduler_init(&scheduler, &rules, NULL) == BW_OK);
    for (int i = 0; i < TEAMS; i++) {
        teams[i].number = i;
        REQUIRE(pthread_create(&teams[i].thread, NULL, team_main, &teams[i]) == 0);
    }
    bw_scheduler_close(&scheduler);
    for (int i = 0; i < TEAMS; i++)
        pthread_join(teams[i].thread, NULL);
    make_jobs(crowd[0], EACH, 5, true, bw_now_ms(), 0);
    bw_scheduler_offer(&scheduler, "late", crowd[0], EACH, false, &answer, &err);
    CHECK_INT(bw_scheduler_take(&scheduler, 0, jobs), 0);
    int left = count_list(bw_scheduler_clear(&scheduler));
    CHECK(left == 0 || left == EACH);
    CHECK_INT(bw_scheduler_fresh(&scheduler), 0);
    release_jobs(crowd[0], EACH);
    bw_scheduler_release(&scheduler);
    bw_scheduler_release(&(struct bw_scheduler){0}); // one that was never made
}

int main(void)
{
    static const struct check_test tests[] = {TEST(asking_changes_nothing),
                                              TEST(steps_are_the_last_resort),
                                              TEST(settled_requests_are_only_told),
                                              TEST(later_means_with_fewer_steps_too),
                                              TEST(all_or_none),
                                              TEST(the_end_of_jobs),
                                              TEST(failures_teach_nothing),
                                              TEST(models_are_kept_apart),
                                              TEST(removal),
                                              TEST(nothing_is_lost),
                                              TEST(closing)};
    arch = weights_arch_of(POMOLOGY);
    int status = CHECK_RUN("scheduler", tests);
    bw_arch_release(&arch);
    return status;
}
