/* The bound, the order, and who wakes up. */
#include "server/queue.h"

#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <sched.h>

enum { JOBS = 64 };

static struct bw_job jobs[JOBS];

/* Link jobs[first..first+count) and push them for that owner. */
static int push(struct bw_queue *queue, int first, int count, void *owner)
{
    for (int i = first; i < first + count; i++) {
        jobs[i].owner = owner;
        jobs[i].next = i + 1 < first + count ? &jobs[i + 1] : NULL;
    }
    return bw_queue_push(queue, &jobs[first], count, NULL);
}

static int pop(struct bw_queue *queue)
{
    struct bw_job *job = bw_queue_pop(queue, false);
    CHECK(!job || !job->next);
    return job ? (int)(job - jobs) : -1;
}

static void first_in_first_out(void)
{
    struct bw_queue queue;
    bw_queue_init(&queue, JOBS);
    CHECK_INT(pop(&queue), -1);
    push(&queue, 0, 3, NULL);
    push(&queue, 3, 1, NULL);
    CHECK_INT(pop(&queue), 0);
    push(&queue, 4, 2, NULL);
    for (int i = 1; i < 6; i++)
        CHECK_INT(pop(&queue), i);
    CHECK_INT(pop(&queue), -1);
    push(&queue, 6, 1, NULL); // after it ran empty
    CHECK_INT(pop(&queue), 6);
    CHECK_INT(bw_queue_count(&queue), 0);
    bw_queue_release(&queue);
}

static void all_or_nothing(void)
{
    struct bw_queue queue;
    struct bw_err err = {0};
    bw_queue_init(&queue, 8);
    CHECK_INT(push(&queue, 0, 9, NULL), BW_EBUSY);
    CHECK_INT(bw_queue_count(&queue), 0);
    CHECK_INT(push(&queue, 0, 5, NULL), BW_OK);
    jobs[5].next = NULL;
    CHECK_INT(push(&queue, 5, 4, NULL), BW_EBUSY);
    CHECK_INT(bw_queue_push(&queue, &jobs[5], 4, &err), BW_EBUSY);
    CHECK_HOLDS(err.message, "5 of at most 8");
    CHECK_INT(push(&queue, 5, 3, NULL), BW_OK);
    CHECK_INT(push(&queue, 8, 1, NULL), BW_EBUSY);
    for (int i = 0; i < 8; i++)
        CHECK_INT(pop(&queue), i);
    CHECK_INT(push(&queue, 0, 8, NULL), BW_OK);
    bw_queue_release(&queue);
}

static void removing_keeps_the_order(void)
{
    int owners[3];
    uint64_t random = 9;
    for (int round = 0; round < 500; round++) {
        struct bw_queue queue;
        int count = random_int(&random, 0, JOBS - 2), removed = 0, wanted = 0;
        void *gone = &owners[random_int(&random, 0, 2)];
        bw_queue_init(&queue, JOBS);
        for (int i = 0; i < count; i++)
            push(&queue, i, 1, &owners[round % 4 ? random_int(&random, 0, 2) : 1]);
        for (int i = 0; i < count; i++)
            wanted += jobs[i].owner == gone;
        for (struct bw_job *job = bw_queue_remove(&queue, gone); job; job = job->next) {
            CHECK(job->owner == gone);
            removed++;
        }
        CHECK_INT(removed, wanted);
        CHECK_INT(bw_queue_count(&queue), count - wanted);
        push(&queue, count, 1, NULL); // the end is where it should be
        for (int i = 0; i <= count; i++) {
            if (jobs[i].owner != gone)
                CHECK_INT(pop(&queue), i);
        }
        CHECK_INT(pop(&queue), -1);
        CHECK(!bw_queue_remove(&queue, gone));
        bw_queue_release(&queue);
    }
}

static void *pop_until_closed(void *queue)
{
    long count = 0;
    while (bw_queue_pop(queue, true))
        count++;
    return (void *)count;
}

/* Sleepers are woken by work and by closing; whatever was popped was popped once. */
static void sleepers_wake(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct bw_queue queue;
    bw_queue_init(&queue, JOBS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, pop_until_closed, &queue);
    for (int i = 0; i < JOBS; i += 4)
        CHECK_INT(push(&queue, i, 4, NULL), BW_OK);
    while (bw_queue_count(&queue))
        sched_yield();
    bw_queue_close(&queue);
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *count;
        pthread_join(threads[i], &count);
        sum += (long)count;
    }
    CHECK_INT(sum, JOBS);
    bw_queue_release(&queue);
}

static void closed_gives_nothing(void)
{
    struct bw_queue queue;
    bw_queue_init(&queue, JOBS);
    push(&queue, 0, 3, jobs);
    bw_queue_close(&queue);
    CHECK(!bw_queue_pop(&queue, true) && !bw_queue_pop(&queue, false));
    CHECK_INT(bw_queue_count(&queue), 3);
    CHECK(bw_queue_remove(&queue, jobs) != NULL);
    bw_queue_release(&queue);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(first_in_first_out), TEST(all_or_nothing),
                                              TEST(removing_keeps_the_order), TEST(sleepers_wake),
                                              TEST(closed_gives_nothing)};
    return CHECK_RUN("queue", tests);
}
