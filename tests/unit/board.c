/* Clients and their accounts, and what a call does to the pictures in it. */
#include "server/board.h"

#include "tests/unit/check.h"

enum { ROOM = 300, STEPS = 6 };

static struct bw_board board;
static struct bw_plan plans[ROOM];
static struct bw_ladder ladder; // two rungs of masks: 7 and 1
static struct bw_task tasks[ROOM];

static void begin_board(int teams)
{
    static uint8_t masks[2 * STEPS];
    static double rest_ms[2 * (STEPS + 1)];
    const struct bw_rules rules = {.teams = teams, .most_waiting = ROOM};
    if (bw_board_init(&board, &rules, ROOM, NULL))
        abort();
    memset(masks, 7, STEPS);
    memset(masks + STEPS, 1, STEPS);
    ladder = (struct bw_ladder){.steps = STEPS, .rungs = 2, .masks = masks, .rest_ms = rest_ms};
    memset(plans, 0, sizeof plans);
    memset(tasks, 0, sizeof tasks);
}

static struct bw_task *put(int i, int client)
{
    plans[i].steps = STEPS;
    tasks[i] = (struct bw_task){
        .plan = &plans[i], .ladder = &ladder, .client = client, .due_ms = INFINITY};
    bw_board_add(&board, &tasks[i]);
    return &tasks[i];
}

/* One call of one picture. */
static void run(struct bw_task *task, double began_ms, double ended_ms)
{
    bw_board_begin(&board, 0, &task, 1, began_ms);
    bw_board_end(&board, &task, 1, began_ms, ended_ms);
}

/* A client of that name, with a picture: one that has none may be forgotten. */
static int client_with(int i, const char *name)
{
    int client = bw_board_client(&board, name);
    put(i, client);
    board.clients[client].used_ms = 0;
    return client;
}

static const char *name_of(int i)
{
    static char name[24];
    snprintf(name, sizeof name, "10.0.0.%d", i);
    return name;
}

static void clients_are_known_again(void)
{
    begin_board(1);
    int one = client_with(0, "10.0.0.1"), two = client_with(1, "::1");
    CHECK(one > 0 && two > 0 && one != two);
    CHECK_INT(bw_board_client(&board, "10.0.0.1"), one);
    CHECK_INT(bw_board_client(&board, "::1"), two);
    CHECK_INT(bw_board_client(&board, ""), 0);
    CHECK_TEXT(board.clients[one].name, "10.0.0.1");
    bw_board_release(&board);
}

/* Two names that begin alike are one client at worst; the same long name always is. */
static void long_names(void)
{
    char name[2 * BW_CLIENT_CHARS];
    begin_board(1);
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    int client = bw_board_client(&board, name);
    CHECK(client > 0);
    CHECK_INT(bw_board_client(&board, name), client);
    CHECK_INT((long long)strlen(board.clients[client].name), BW_CLIENT_CHARS - 1);
    bw_board_release(&board);
}

/* A full table: those with pictures stay, of the others the one that has had least makes room, and
 * who finds none shares place 0. */
static void the_table_is_bounded(void)
{
    begin_board(1);
    for (int i = 1; i < BW_MAX_CLIENTS; i++) {
        int client = bw_board_client(&board, name_of(i));
        CHECK_OF(client > 0, "%d", i);
        put(i, client);
    }
    CHECK_INT(bw_board_client(&board, "late"), 0);
    int known = bw_board_client(&board, name_of(7));
    CHECK(known > 0);
    run(&tasks[7], 0, 500);
    bw_board_remove(&board, &tasks[7]);
    int freed = tasks[9].client;
    bw_board_remove(&board, &tasks[9]);
    CHECK_INT(bw_board_client(&board, name_of(7)), known); // both are still known
    CHECK_INT(bw_board_client(&board, name_of(9)), freed);
    CHECK_INT(bw_board_client(&board, "late"), freed); // which has had less than the other
    CHECK_TEXT(board.clients[freed].name, "late");
    CHECK_INT(board.clients[freed].tasks, 0);
    bw_board_release(&board);
}

/* Pictures of one call share its time. */
static void calls_are_paid_by_all_in_them(void)
{
    begin_board(2);
    int a = client_with(0, "a"), b = client_with(1, "b");
    struct bw_task *both[3] = {&tasks[0], &tasks[1], put(2, b)};
    bw_board_begin(&board, 1, both, 3, 0);
    bw_board_end(&board, both, 3, 0, 300);
    CHECK_NEAR(board.clients[a].used_ms, 100, 1e-9);
    CHECK_NEAR(board.clients[b].used_ms, 200, 1e-9);
    bw_board_release(&board);
}

/* Who pauses neither saves up for ever nor has to pay for ever. */
static void pauses_are_forgotten_in_part(void)
{
    static const struct {
        double before_ms, after_ms;
    } cases[] = {{-1e6, 8000}, {7000, 8000}, {9000, 9000}, {11000, 11000}, {1e6, 12000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_board(1);
        int busy = client_with(0, "busy"), busier = client_with(1, "busier");
        int back = bw_board_client(&board, "back");
        board.clients[busy].used_ms = 10000;
        board.clients[busier].used_ms = 10500;
        board.clients[back].used_ms = cases[i].before_ms;
        put(2, back);
        CHECK_NEAR(board.clients[back].used_ms, cases[i].after_ms, 1e-9);
        put(3, back); // not again while it has pictures
        CHECK_NEAR(board.clients[back].used_ms, cases[i].after_ms, 1e-9);
        bw_board_release(&board);
    }
}

static void first_clients_begin_at_nothing(void)
{
    begin_board(1);
    int first = bw_board_client(&board, "first");
    put(0, first);
    CHECK_NEAR(board.clients[first].used_ms, 0, 0);
    int second = bw_board_client(&board, "second");
    put(1, second);
    CHECK_NEAR(board.clients[second].used_ms, -2000, 0);
    bw_board_release(&board);
}

static void tasks_come_and_go(void)
{
    begin_board(1);
    for (int i = 0; i < 5; i++)
        put(i, 1 + i % 2);
    CHECK_INT(board.count, 5);
    CHECK_INT(bw_board_fresh(&board), 5);
    CHECK(board.clients[1].tasks == 3 && board.clients[2].tasks == 2);
    for (int i = 0; i < 5; i++)
        CHECK_INT((long long)tasks[i].number, i);
    run(&tasks[3], 0, 10);
    CHECK_INT(bw_board_fresh(&board), 4);
    bw_board_remove(&board, &tasks[0]);
    bw_board_remove(&board, &tasks[4]);
    CHECK_INT(board.count, 3);
    CHECK_INT(board.clients[1].tasks, 1);
    int seen = 0;
    for (int i = 0; i < board.count; i++)
        seen |= 1 << (board.tasks[i] - tasks);
    CHECK_INT(seen, 1 << 1 | 1 << 2 | 1 << 3);
    CHECK_INT((long long)put(5, 1)->number, 5); // numbers are not used again
    bw_board_release(&board);
}

/* Masks are those of the rung at the moment a step begins, and both evaluations of a step of Heun's
 * run the same. */
static void steps_advance(void)
{
    begin_board(1);
    struct bw_task *t = put(0, 1);
    plans[0].solver = BW_HEUN;
    uint8_t wanted[STEPS] = {7, 1, 1, 7, 7, 1};
    int calls = 0;
    while (t->step < STEPS) {
        int step = t->step;
        CHECK_INT(t->half, calls % 2);
        t->rung =
            t->half ? wanted[step] == 7 : wanted[step] == 1; // changed in the middle: too late
        bw_board_begin(&board, 0, &t, 1, calls);
        CHECK(t->team == 0 && t->started);
        CHECK_INT(plans[0].masks[step], wanted[step]);
        bw_board_end(&board, &t, 1, calls, calls + 1);
        CHECK_INT(t->team, -1);
        CHECK_NEAR(t->advanced_ms, calls + 1, 0);
        calls++;
    }
    CHECK_INT(calls, 2 * STEPS - 1); // the last step has no second evaluation
    CHECK(!t->half && memcmp(plans[0].masks, wanted, STEPS) == 0);
    CHECK_INT((long long)board.turns, calls);
    bw_board_release(&board);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(clients_are_known_again),
                                              TEST(long_names),
                                              TEST(the_table_is_bounded),
                                              TEST(first_clients_begin_at_nothing),
                                              TEST(calls_are_paid_by_all_in_them),
                                              TEST(pauses_are_forgotten_in_part),
                                              TEST(tasks_come_and_go),
                                              TEST(steps_advance)};
    return CHECK_RUN("board", tests);
}
