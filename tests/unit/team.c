/* Every task exactly once, on every number of threads, however fast the rounds follow. */
#include "engine/team.h"

#include "tests/unit/check.h"

#include <stdatomic.h>

enum { MOST = 5000 };

struct tally {
    atomic_int runs[MOST];
    int written[MOST]; // plain memory: visible after the run only if the team makes it so
    int threads;
    atomic_int strangers; // members that cannot be
};

static void count_task(void *context, int task, int member)
{
    struct tally *t = context;
    atomic_fetch_add(&t->runs[task], 1);
    t->written[task] += task + 1;
    if (member < 0 || member >= t->threads)
        atomic_fetch_add(&t->strangers, 1);
}

static void every_task_once(void)
{
    static const int counts[] = {0, 1, 2, 3, 7, 64, 1000, MOST};
    static struct tally tally;
    for (int threads = 1; threads <= 6; threads++) {
        struct bw_team *team;
        REQUIRE(bw_team_new(&team, threads, NULL) == 0);
        CHECK_INT(bw_team_threads(team), threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            memset(&tally, 0, sizeof tally);
            tally.threads = threads;
            bw_team_run(team, count_task, &tally, counts[c]);
            for (int i = 0; i < MOST; i++) {
                CHECK_OF(tally.runs[i] == (i < counts[c]), "task %d of %d: %d runs", i, counts[c],
                         tally.runs[i]);
                CHECK(tally.written[i] == (i < counts[c] ? i + 1 : 0));
            }
            CHECK_INT(tally.strangers, 0);
        }
        bw_team_free(team);
    }
}

static void add_one(void *context, int task, int member)
{
    (void)member;
    ((int *)context)[task]++;
}

static void rounds_back_to_back(void)
{
    enum { ROUNDS = 100000 };
    int sums[5] = {0}, expected[5] = {0};
    struct bw_team *team;
    REQUIRE(bw_team_new(&team, 3, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int count = round % 6;
        bw_team_run(team, add_one, sums, count);
        for (int i = 0; i < count; i++)
            expected[i]++;
        if (memcmp(sums, expected, sizeof sums)) {
            CHECK_OF(false, "round %d", round);
            break;
        }
    }
    bw_team_free(team);
}

/* Between rounds the caller changes what tasks read and where they write. */
struct relay {
    int *from, *to;
};

static void copy_and_add(void *context, int task, int member)
{
    const struct relay *relay = context;
    (void)member;
    relay->to[task] = relay->from[(task + 1) % 16] + 1;
}

static void each_round_sees_the_last(void)
{
    int a[16] = {0}, b[16] = {0};
    struct bw_team *team;
    REQUIRE(bw_team_new(&team, 4, NULL) == 0);
    for (int round = 0; round < 20000; round++) {
        struct relay relay = round % 2 ? (struct relay){b, a} : (struct relay){a, b};
        bw_team_run(team, copy_and_add, &relay, 16);
        for (int i = 0; i < 16; i++)
            CHECK_OF(relay.to[i] == round + 1, "round %d task %d", round, i);
    }
    bw_team_free(team);
}

static void teams_come_and_go(void)
{
    for (int i = 0; i < 300; i++) {
        struct bw_team *team;
        int sums[4] = {0};
        REQUIRE(bw_team_new(&team, 1 + i % 5, NULL) == 0);
        if (i % 3)
            bw_team_run(team, add_one, sums, 4);
        CHECK_INT(sums[0] + sums[1] + sums[2] + sums[3], i % 3 ? 4 : 0);
        bw_team_free(team);
    }
    bw_team_free(NULL);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(every_task_once), TEST(rounds_back_to_back),
                                              TEST(each_round_sees_the_last),
                                              TEST(teams_come_and_go)};
    return CHECK_RUN("team", tests);
}
