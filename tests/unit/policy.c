/* Who goes next, and with which bricks. */
#include "server/policy.h"

#include "engine/schedule.h"
#include "tests/unit/scene.h"

enum { LAST = BW_LADDER_RUNGS - 1 };

/* ---- order ---- */

static void deadlines_first(void)
{
    begin_scene(1);
    struct bw_task *urgent_rest = put(1, false, never), *late = put(20, false, 9000);
    struct bw_task *soon = put(30, false, 5000), *same = put(1, false, 5000);
    urgent_rest->priority = BW_PRIORITY_HIGH;
    late->priority = BW_PRIORITY_HIGH; // of no account before a deadline
    struct bw_task *order[4] = {soon, same, late, urgent_rest};
    bw_policy_forecast(&scene.board, NULL, 0, 0, scene.forecasts);
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        CHECK_OF(scene.forecasts[i].task == order[i], "place %d", i);
        CHECK(scene.forecasts[i].end_ms > sum);
        sum = scene.forecasts[i].end_ms;
    }
    CHECK(first_choice() == soon);
    end_scene();
}

static void priorities_among_the_rest(void)
{
    begin_scene(1);
    struct bw_task *low = put_for(2, 1, never), *normal = put(5, false, never);
    struct bw_task *high = put(50, false, never);
    low->priority = BW_PRIORITY_LOW;
    high->priority = BW_PRIORITY_HIGH;
    scene.board.clients[1].used_ms = 500;
    scene.board.clients[2].used_ms = -2000;
    CHECK(first_choice() == high);
    bw_board_remove(&scene.board, high);
    CHECK(first_choice() == normal);
    bw_board_remove(&scene.board, normal);
    CHECK(first_choice() == low);
    end_scene();
}

/* The client that has had least; the one whose turn it is keeps it for a moment. */
static void clients_in_turn(void)
{
    begin_scene(1);
    struct bw_task *one = put(3, false, never), *two = put_for(2, 9, never);
    scene.board.turn_of = 1;
    scene.board.clients[1].used_ms = 0;
    scene.board.clients[2].used_ms = -100;
    CHECK(first_choice() == one);
    scene.board.clients[2].used_ms = -1000;
    CHECK(first_choice() == two);
    scene.board.turn_of = 2;
    scene.board.clients[1].used_ms = -1100;
    CHECK(first_choice() == two);
    end_scene();
}

/* Two clients, one of which has ten times as many pictures, get the same time. */
static void shares_are_equal(void)
{
    double ms[2] = {0};
    begin_scene(1);
    for (int i = 0; i < 22; i++)
        put_for(i < 20 ? 1 : 2, 200, never);
    strcpy(scene.board.clients[1].name, "one");
    strcpy(scene.board.clients[2].name, "two");
    scene.board.clients[1].used_ms = scene.board.clients[2].used_ms = 0;
    work_until(3800);
    for (int i = 0; i < 22; i++)
        ms[i >= 20] += eval_ms * scene.pictures[i].task.step;
    CHECK_NEAR(ms[0] + ms[1], 3800, 20);
    CHECK_OF(fabs(ms[0] - ms[1]) <= 500, "%g ms and %g ms", ms[0], ms[1]);
    end_scene();
}

static void least_work_first(void)
{
    begin_scene(1);
    struct bw_task *longer = put(20, false, never), *shorter = put(5, false, never);
    CHECK(first_choice() == shorter);
    longer->step = 16; // what counts is what is left
    CHECK(first_choice() == longer);
    struct bw_task *equal = put(4, false, never);
    CHECK(first_choice() == longer && equal->number > longer->number);
    end_scene();
}

/* What is dearer on one ladder than on another because the price has moved is not more work. */
static void equals_keep_their_order(void)
{
    begin_scene(1);
    struct bw_task *earlier = put(8, false, never);
    price.overall = 0.5;
    put(8, false, never);
    CHECK(first_choice() == earlier);
    price.overall = 2;
    put(8, false, never);
    CHECK(first_choice() == earlier);
    end_scene();
}

/* Every eighth turn, if it has stood still: no sooner and for no promised picture. */
static void nobody_starves(void)
{
    begin_scene(1);
    struct bw_task *old = put(100, false, never);
    old->priority = BW_PRIORITY_LOW;
    put(100, false, never);
    struct bw_task *urgent = put(100, false, 1e6);
    scene.now_ms = 1500;
    for (int turn = 0; turn < 32; turn++) {
        scene.board.turns = (uint64_t)turn;
        CHECK_OF(first_choice() == (turn % 8 == 7 ? old : urgent), "turn %d", turn);
    }
    old->advanced_ms = 600; // not a second ago
    scene.pictures[1].task.advanced_ms = 600;
    CHECK(first_choice() == urgent);
    end_scene();
}

static void starving_ends_in_the_run(void)
{
    begin_scene(1);
    struct bw_task *old = put(20, false, never);
    old->priority = BW_PRIORITY_LOW;
    for (int i = 0; i < 20; i++)
        put(200, false, never);
    work_until(20 * 8 * eval_ms + 1000 * 21);
    CHECK_OF(old->step == 20 || end_of(old) > 0, "%d steps done", old->step);
    end_scene();
}

/* ---- calls ---- */

/* Calls are shared until they keep the team busy, up to the operator's bound. */
static void calls_are_filled(void)
{
    struct bw_task *chosen[BW_MAX_CALL];
    begin_scene(2);
    for (int i = 0; i < 12; i++)
        put(4 + i, false, never);
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 1);
    scene.board.rules.most_pictures = 5;
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 1);
    scene.board.rules.busy_tokens = 1 << 20;
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 5);
    CHECK(chosen[0] == &scene.pictures[0].task && chosen[4] == &scene.pictures[4].task);
    scene.board.rules.busy_tokens = 2 * 256 + 1; // the coarse bricks make 256 of a picture
    int count = bw_policy_choose(&scene.board, 0, scene.forecasts, chosen);
    CHECK_INT(count, 3);
    bw_board_begin(&scene.board, 1, chosen, count, 0);
    scene.board.rules.busy_tokens = 1 << 20;
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 5);
    for (int i = 0; i < 5; i++)
        CHECK(chosen[i]->team < 0 && chosen[i] == &scene.pictures[count + i].task);
    bw_board_begin(&scene.board, 0, &scene.board.tasks[0], scene.board.count, 0);
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 0);
    end_scene();
}

/* Company that would make a promised picture late is not for it. */
static void company_breaks_no_promise(void)
{
    struct bw_task *chosen[BW_MAX_CALL];
    begin_scene(1);
    set_price(0.9 * eval_ms);
    scene.board.rules.most_pictures = 16;
    scene.board.rules.busy_tokens = 1 << 20;
    struct bw_task *tight = put(20, false, 205);
    for (int i = 0; i < 12; i++)
        put(20, false, never);
    tight->due_ms = 206.5; // alone it takes 200, with one more 220
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 1);
    tight->due_ms = 1000;
    CHECK(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen) > 2);
    CHECK(chosen[0] == tight);
    end_scene();
}

/* A call is of one model. Company comes from behind pictures of the other, unless one of them was
 * promised: what goes before it would make it late. */
static void calls_are_of_one_model(void)
{
    struct bw_task *chosen[BW_MAX_CALL];
    begin_scene(1);
    scene.board.rules.most_pictures = 16;
    scene.board.rules.busy_tokens = 1 << 20;
    struct bw_task *first = put(1, false, never), *other = put_other(2, false, never);
    struct bw_task *third = put(3, false, never), *last = put_other(4, false, never);
    REQUIRE(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen) == 2);
    CHECK(chosen[0] == first && chosen[1] == third);
    bw_board_begin(&scene.board, 0, chosen, 2, 0);
    REQUIRE(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen) == 2);
    CHECK(chosen[0] == other && chosen[1] == last);
    bw_board_end(&scene.board, (struct bw_task *[]){first, third}, 2, 0, 0);
    first->promised = other->promised = true;
    first->due_ms = 1e5;
    other->due_ms = 2e5;
    first->step = 0;
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 1);
    CHECK(chosen[0] == first);
    other->team = 0; // it goes ahead elsewhere, so nothing goes before it
    CHECK_INT(bw_policy_choose(&scene.board, 0, scene.forecasts, chosen), 2);
    CHECK(chosen[0] == first && chosen[1] == third);
    end_scene();
}

static void empty_board(void)
{
    begin_scene(1);
    CHECK(!first_choice());
    end_scene();
}

/* ---- bricks ---- */

static void all_bricks_without_need(void)
{
    begin_scene(1);
    struct bw_task *timely = put(20, true, 1000), *free_one = put(20, true, never);
    CHECK_INT(forecast_of(timely)->rung, 0);
    CHECK_INT(forecast_of(free_one)->rung, 0);
    work_until(never);
    for (int i = 0; i < 20; i++)
        CHECK(timely->plan->masks[i] == 7 && free_one->plan->masks[i] == 7);
    end_scene();
}

/* What several automatic pictures take one after the other on a rung. */
static double row_ms(struct bw_task *const *tasks, int count, int rung)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        for (int step = tasks[i]->step; step < tasks[i]->plan->steps; step++) {
            struct bw_work work = {0};
            bw_work_add(&work, &arch, 128, 128, bw_ladder_mask(tasks[i]->ladder, rung, step), 1);
            sum += bw_price_ms(&price, &work);
        }
    }
    return sum;
}

/* All before one deadline on the same rung: the first that keeps it with a little to spare. */
static void first_rung_that_does(void)
{
    uint64_t random = 3;
    int degraded = 0;
    for (int round = 0; round < 300; round++) {
        struct bw_task *row[6];
        int count = random_int(&random, 1, 6);
        begin_scene(1);
        scene.now_ms = 77;
        double share = 0.3 + random_unit(&random), full = 0;
        for (int i = 0; i < count; i++) {
            row[i] = put(random_int(&random, 4, 40), true, 1e6);
            row[i]->step = random_int(&random, 0, 3);
        }
        full = row_ms(row, count, 0);
        for (int i = 0; i < count; i++)
            row[i]->due_ms = scene.now_ms + share * full;
        int rung = forecast_of(row[count - 1])->rung;
        double took = row_ms(row, count, rung), due = share * full;
        for (int i = 0; i < count; i++)
            CHECK_OF(forecast_of(row[i])->rung == rung, "round %d, picture %d", round, i);
        if (rung < LAST)
            CHECK_OF(took <= due, "round %d: rung %d takes %g of %g ms", round, rung, took, due);
        if (rung > 0)
            CHECK_OF(row_ms(row, count, rung - 1) * 1.05 + 0.25 * eval_ms > due,
                     "round %d, rung %d", round, rung);
        degraded += rung > 0 && rung < LAST;
        end_scene();
    }
    CHECK_OF(degraded >= 50, "%d", degraded);
}

/* The later deadline asks something of the earlier picture, not the other way round. */
static void later_deadlines_reach_back(void)
{
    begin_scene(1);
    struct bw_task *early = put(20, true, 1000);
    CHECK_INT(forecast_of(early)->rung, 0);
    struct bw_task *pressed = put(20, true, 310);
    early->due_ms = 300;
    int rung = forecast_of(pressed)->rung;
    CHECK(rung > 0);
    CHECK_INT(forecast_of(early)->rung, rung);
    CHECK_INT(forecast_of(early)->need, 0);
    end_scene();
}

static void up_again_when_it_is_quiet(void)
{
    begin_scene(1);
    struct bw_task *kept = put(40, true, 1e6), *other = put(40, true, 1e6);
    kept->due_ms = other->due_ms = 500;
    REQUIRE(first_choice() == kept);
    int pressed = kept->rung;
    CHECK(pressed > 0);
    bw_board_begin(&scene.board, 0, &kept, 1, 0);
    bw_board_end(&scene.board, &kept, 1, 0, eval_ms);
    scene.now_ms = eval_ms;
    CHECK_INT(kept->plan->masks[0], bw_ladder_mask(kept->ladder, pressed, 0));
    bw_board_remove(&scene.board, other);
    work_until(never);
    CHECK(end_of(kept) > 0 && end_of(kept) <= 500);
    for (int i = 1; i < 40; i++)
        CHECK_INT(kept->plan->masks[i], 7);
    end_scene();
}

/* The second evaluation of a step runs what the first ran. */
static void half_steps_keep_their_rung(void)
{
    begin_scene(1);
    struct bw_task *t = put(20, true, never);
    t->plan->solver = BW_HEUN;
    t->rung = LAST;
    t->half = true;
    CHECK(first_choice() == t && t->rung == LAST);
    t->half = false;
    CHECK(first_choice() == t && t->rung == 0);
    end_scene();
}

static void settled_schedules_stay(void)
{
    begin_scene(1);
    struct bw_task *settled = make(20, false, 100), *other = put(20, true, 110);
    for (int i = 0; i < 20; i++)
        settled->plan->masks[i] = (uint8_t)(1 + i % 7);
    bw_ladder_release(settled->ladder);
    REQUIRE(bw_ladder_init(settled->ladder, &arch, settled->plan, false, &price, NULL) == BW_OK);
    bw_board_add(&scene.board, settled);
    work_until(never);
    for (int i = 0; i < 20; i++)
        CHECK_OF(settled->plan->masks[i] == 1 + i % 7, "step %d", i);
    CHECK(memcmp(other->plan->masks, settled->plan->masks, 20) != 0);
    CHECK(bw_schedule_excess(&arch, other->plan->masks, 20) > 0);
    end_scene();
}

/* Without a deadline an automatic picture gives up bricks for the operator's target only. */
static void target_presses_automatic_pictures(void)
{
    begin_scene(1);
    struct bw_task *row[4];
    for (int i = 0; i < 4; i++) {
        row[i] = put(20, true, never);
        row[i]->due_ms = 500; // what the target makes of it; no promise
    }
    int rung = forecast_of(row[0])->rung;
    CHECK_OF(rung > 0 && rung <= LAST, "%d", rung);
    for (int i = 0; i < 3; i++)
        bw_board_remove(&scene.board, row[i]);
    CHECK_INT(forecast_of(row[3])->rung, 0);
    end_scene();
}

static void other_policies(void)
{
    begin_scene(1);
    struct bw_task *first = put(20, true, never), *pressed = put(20, true, 100);
    scene.board.rules.policy = BW_POLICY_FIFO;
    CHECK(first_choice() == first);
    CHECK(forecast_of(pressed)->rung == 0 && forecast_of(first)->rung == 0);
    struct bw_task *hopeless = make(20, true, 1);
    CHECK_INT(admit(&hopeless, 1).refusal, BW_ADMITTED);
    scene.board.rules.policy = BW_POLICY_REJECT;
    CHECK(first_choice() == pressed);
    CHECK_INT(forecast_of(pressed)->rung, 0);
    CHECK_INT(admit(&hopeless, 1).refusal, BW_REFUSED_DEADLINE);
    bw_board_remove(&scene.board, pressed);
    bw_board_remove(&scene.board, first);
    struct bw_task *on_last_rung = make(20, true, 150); // full takes 200
    CHECK_INT(admit(&on_last_rung, 1).refusal, BW_REFUSED_DEADLINE);
    scene.board.rules.policy = BW_POLICY_FULL;
    CHECK_INT(admit(&on_last_rung, 1).refusal, BW_ADMITTED);
    CHECK(on_last_rung->rung > 0);
    end_scene();
}

int main(void)
{
    static const struct check_test tests[] = {TEST(deadlines_first),
                                              TEST(priorities_among_the_rest),
                                              TEST(clients_in_turn),
                                              TEST(shares_are_equal),
                                              TEST(least_work_first),
                                              TEST(equals_keep_their_order),
                                              TEST(nobody_starves),
                                              TEST(starving_ends_in_the_run),
                                              TEST(calls_are_filled),
                                              TEST(company_breaks_no_promise),
                                              TEST(calls_are_of_one_model),
                                              TEST(empty_board),
                                              TEST(all_bricks_without_need),
                                              TEST(first_rung_that_does),
                                              TEST(later_deadlines_reach_back),
                                              TEST(up_again_when_it_is_quiet),
                                              TEST(half_steps_keep_their_rung),
                                              TEST(settled_schedules_stay),
                                              TEST(target_presses_automatic_pictures),
                                              TEST(other_policies)};
    arch = weights_arch_of(POMOLOGY);
    int status = CHECK_RUN("policy", tests);
    bw_arch_release(&arch);
    return status;
}
