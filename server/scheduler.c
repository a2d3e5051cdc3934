/* Every function is one short critical section: the policy needs microseconds, an evaluation of the
 * network thousands of them. */
#include "server/scheduler.h"

#include "base/clock.h"

int bw_scheduler_init(struct bw_scheduler *scheduler, const struct bw_rules *rules,
                      struct bw_err *err)
{
    int code = bw_dispatch_init(&scheduler->dispatch, rules, err);
    if (code)
        return code;
    scheduler->closed = false;
    pthread_mutex_init(&scheduler->lock, NULL);
    pthread_cond_init(&scheduler->changed, NULL);
    return BW_OK;
}

void bw_scheduler_release(struct bw_scheduler *scheduler)
{
    if (!scheduler->dispatch.forecasts)
        return;
    bw_dispatch_release(&scheduler->dispatch);
    pthread_cond_destroy(&scheduler->changed);
    pthread_mutex_destroy(&scheduler->lock);
}

struct bw_price bw_scheduler_price(struct bw_scheduler *s, const struct bw_price *price)
{
    pthread_mutex_lock(&s->lock);
    struct bw_price copy = *price;
    pthread_mutex_unlock(&s->lock);
    return copy;
}

int bw_scheduler_offer(struct bw_scheduler *s, const char *client, struct bw_job *jobs, int count,
                       bool only_ask, struct bw_answer *answer, struct bw_err *err)
{
    pthread_mutex_lock(&s->lock);
    int code =
        bw_dispatch_offer(&s->dispatch, client, jobs, count, only_ask, bw_now_ms(), answer, err);
    if (!code && !only_ask)
        pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return code;
}

int bw_scheduler_take(struct bw_scheduler *s, int team, struct bw_job **jobs)
{
    int count = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->closed && !(count = bw_dispatch_take(&s->dispatch, team, bw_now_ms(), jobs)))
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return count;
}

int bw_scheduler_give(struct bw_scheduler *s, struct bw_job **jobs, int count, double began_ms)
{
    pthread_mutex_lock(&s->lock);
    int over = bw_dispatch_give(&s->dispatch, jobs, count, began_ms, bw_now_ms());
    pthread_cond_broadcast(&s->changed); // what this team had may now be taken by others
    pthread_mutex_unlock(&s->lock);
    return over;
}

void bw_scheduler_learn_finish(struct bw_scheduler *s, double ms)
{
    pthread_mutex_lock(&s->lock);
    bw_dispatch_learn_finish(&s->dispatch, ms);
    pthread_mutex_unlock(&s->lock);
}

struct bw_job *bw_scheduler_remove(struct bw_scheduler *s, const void *owner)
{
    pthread_mutex_lock(&s->lock);
    struct bw_job *removed = bw_dispatch_remove(&s->dispatch, owner);
    pthread_mutex_unlock(&s->lock);
    return removed;
}

struct bw_job *bw_scheduler_clear(struct bw_scheduler *s)
{
    return bw_scheduler_remove(s, NULL);
}

void bw_scheduler_close(struct bw_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int bw_scheduler_fresh(struct bw_scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    int fresh = bw_board_fresh(&s->dispatch.board);
    pthread_mutex_unlock(&s->lock);
    return fresh;
}
