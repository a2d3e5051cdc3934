/* One word of state decides everything: `ticket` holds the round, the number of its tasks and the
 * next one to take. Taking a task is one compare-and-swap on it, and what to do is read only
 * afterwards, while the task taken keeps its round from ending: a member that wakes late can
 * neither take a task twice nor see half of a new round. */
#include "engine/team.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum { MAX_THREADS = 1024, SPINS = 4000, TASK_BITS = 20, MAX_TASKS = 1 << TASK_BITS };

struct bw_team {
    int threads;
    int started;        // threads that run, to be joined
    pthread_t *members; // [threads]; the caller, member 0, has no entry in use

    // Written by the caller before a round opens, read by members that took a task of it.
    bw_team_fn *fn;
    void *context;
    int first; // the number of the round's first task

    _Atomic uint64_t ticket; // round << 40 | count << 20 | next task
    atomic_int left;         // tasks of the round not finished yet
    atomic_bool stop;

    pthread_mutex_t lock; // for sleeping only
    pthread_cond_t opened, finished;
    int sleepers;
    bool caller_sleeps;
};

struct member {
    struct bw_team *team;
    int number;
};

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static uint64_t round_of(uint64_t ticket)
{
    return ticket >> (2 * TASK_BITS);
}

static int count_of(uint64_t ticket)
{
    return (int)(ticket >> TASK_BITS & (MAX_TASKS - 1));
}

static int next_of(uint64_t ticket)
{
    return (int)(ticket & (MAX_TASKS - 1));
}

/* Take and run tasks until none is left to take. */
static void work(struct bw_team *team, int member)
{
    uint64_t ticket = atomic_load(&team->ticket);
    while (next_of(ticket) < count_of(ticket)) {
        if (!atomic_compare_exchange_weak(&team->ticket, &ticket, ticket + 1))
            continue;
        team->fn(team->context, team->first + next_of(ticket), member);
        if (atomic_fetch_sub(&team->left, 1) == 1 && member > 0) {
            pthread_mutex_lock(&team->lock);
            if (team->caller_sleeps)
                pthread_cond_signal(&team->finished);
            pthread_mutex_unlock(&team->lock);
        }
        ticket = atomic_load(&team->ticket);
    }
}

/* Wait until a round other than `seen` is open or the team stops; returns the round. */
static uint64_t wait_for_round(struct bw_team *team, uint64_t seen)
{
    for (int i = 0; i < SPINS; i++) {
        uint64_t round = round_of(atomic_load(&team->ticket));
        if (round != seen || atomic_load(&team->stop))
            return round;
        spin_pause();
    }
    pthread_mutex_lock(&team->lock);
    team->sleepers++;
    while (round_of(atomic_load(&team->ticket)) == seen && !atomic_load(&team->stop))
        pthread_cond_wait(&team->opened, &team->lock);
    team->sleepers--;
    pthread_mutex_unlock(&team->lock);
    return round_of(atomic_load(&team->ticket));
}

static void *member_main(void *argument)
{
    struct member me = *(struct member *)argument;
    free(argument);
    uint64_t round = 0;
    while (!atomic_load(&me.team->stop)) {
        round = wait_for_round(me.team, round);
        work(me.team, me.number);
    }
    return NULL;
}

static int start_member(struct bw_team *team, int number)
{
    struct member *me = malloc(sizeof *me);
    if (!me)
        return -1;
    *me = (struct member){team, number};
    if (pthread_create(&team->members[number], NULL, member_main, me)) {
        free(me);
        return -1;
    }
    team->started = number;
    return 0;
}

int bw_team_new(struct bw_team **out, int threads, struct bw_err *err)
{
    assert(threads >= 1 && threads <= MAX_THREADS);
    struct bw_team *team = calloc(1, sizeof *team);
    if (team)
        team->members = calloc((size_t)threads, sizeof *team->members);
    if (!team || !team->members) {
        free(team);
        return bw_err_set(err, BW_ENOMEM, "out of memory for a team of %d threads", threads);
    }
    team->threads = threads;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->opened, NULL);
    pthread_cond_init(&team->finished, NULL);
    for (int number = 1; number < threads; number++) {
        if (start_member(team, number)) {
            bw_team_free(team);
            return bw_err_set(err, BW_EIO, "the system refuses thread %d of %d", number, threads);
        }
    }
    *out = team;
    return BW_OK;
}

void bw_team_free(struct bw_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->stop, true);
    pthread_cond_broadcast(&team->opened);
    pthread_mutex_unlock(&team->lock);
    for (int number = 1; number <= team->started; number++)
        pthread_join(team->members[number], NULL);
    pthread_cond_destroy(&team->finished);
    pthread_cond_destroy(&team->opened);
    pthread_mutex_destroy(&team->lock);
    free(team->members);
    free(team);
}

int bw_team_threads(const struct bw_team *team)
{
    return team->threads;
}

static void open_round(struct bw_team *team, int count)
{
    pthread_mutex_lock(&team->lock);
    uint64_t round = round_of(atomic_load(&team->ticket)) + 1;
    atomic_store(&team->ticket, (round << TASK_BITS | (uint64_t)count) << TASK_BITS);
    if (team->sleepers)
        pthread_cond_broadcast(&team->opened);
    pthread_mutex_unlock(&team->lock);
}

static void wait_until_finished(struct bw_team *team)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&team->left) == 0)
            return;
        spin_pause();
    }
    pthread_mutex_lock(&team->lock);
    team->caller_sleeps = true;
    while (atomic_load(&team->left) > 0)
        pthread_cond_wait(&team->finished, &team->lock);
    team->caller_sleeps = false;
    pthread_mutex_unlock(&team->lock);
}

void bw_team_run(struct bw_team *team, bw_team_fn *fn, void *context, int count)
{
    if (team->threads == 1 || count <= 1) {
        for (int task = 0; task < count; task++)
            fn(context, task, 0);
        return;
    }
    for (int first = 0; first < count; first += MAX_TASKS - 1) {
        int tasks = count - first < MAX_TASKS - 1 ? count - first : MAX_TASKS - 1;
        team->fn = fn; // every task of the last round is finished: nobody reads these now
        team->context = context;
        team->first = first;
        atomic_store(&team->left, tasks);
        open_round(team, tasks);
        work(team, 0);
        wait_until_finished(team);
    }
}
