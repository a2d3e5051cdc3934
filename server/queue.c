/* A singly linked list with a pointer to its last link, under one lock. The bound is checked and
 * the jobs are linked in the same breath, so a request gets in whole or not at all. */
#include "server/queue.h"

void bw_queue_init(struct bw_queue *queue, int bound)
{
    *queue = (struct bw_queue){.bound = bound};
    queue->end = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->arrived, NULL);
}

void bw_queue_release(struct bw_queue *queue)
{
    pthread_cond_destroy(&queue->arrived);
    pthread_mutex_destroy(&queue->lock);
}

int bw_queue_push(struct bw_queue *queue, struct bw_job *jobs, int count, struct bw_err *err)
{
    int code = BW_OK;
    pthread_mutex_lock(&queue->lock);
    if (queue->closed) {
        code = bw_err_set(err, BW_EBUSY, "the service is stopping");
    } else if (queue->count + count > queue->bound) {
        code =
            bw_err_set(err, BW_EBUSY, "%d of at most %d pictures wait already, %d more do not fit",
                       queue->count, queue->bound, count);
    } else {
        *queue->end = jobs;
        while (*queue->end)
            queue->end = &(*queue->end)->next;
        queue->count += count;
        pthread_cond_broadcast(&queue->arrived);
    }
    pthread_mutex_unlock(&queue->lock);
    return code;
}

struct bw_job *bw_queue_pop(struct bw_queue *queue, bool wait)
{
    pthread_mutex_lock(&queue->lock);
    while (wait && !queue->first && !queue->closed)
        pthread_cond_wait(&queue->arrived, &queue->lock);
    struct bw_job *job = queue->closed ? NULL : queue->first;
    if (job) {
        queue->first = job->next;
        if (!queue->first)
            queue->end = &queue->first;
        job->next = NULL;
        queue->count--;
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

struct bw_job *bw_queue_remove(struct bw_queue *queue, const void *owner)
{
    struct bw_job *removed = NULL, **at = &queue->first;
    pthread_mutex_lock(&queue->lock);
    while (*at) {
        struct bw_job *job = *at;
        if (job->owner == owner) {
            *at = job->next;
            job->next = removed;
            removed = job;
            queue->count--;
        } else {
            at = &job->next;
        }
    }
    queue->end = at;
    pthread_mutex_unlock(&queue->lock);
    return removed;
}

void bw_queue_close(struct bw_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->arrived);
    pthread_mutex_unlock(&queue->lock);
}

int bw_queue_count(struct bw_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    int count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}
