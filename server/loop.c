/* Each handle is one heap block that begins with the libuv handle; it is freed in libuv's close
 * callback, so closing needs no bookkeeping by its owner. */
#include "server/loop.h"

#include <linux/close_range.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

struct bw_loop {
    uv_loop_t uv;
    uv_async_t wake;
    bw_loop_fn *on_wake;
    void *wake_context;
};

struct bw_watch {
    uv_poll_t poll;
    bw_loop_fn *fn, *writable; // writable: of a duplex one
    void *context;
    int wanted; // of a duplex one
};

struct bw_timer {
    uv_timer_t timer;
    bw_loop_fn *fn;
    void *context;
};

struct work {
    uv_work_t request;
    bw_loop_fn *work, *done;
    void *context;
};

struct child {
    uv_process_t process;
    bw_loop_fn *gone;
    void *context;
};

struct signal_watch {
    uv_signal_t signal;
    bw_loop_fn *fn;
    void *context;
};

static void release(uv_handle_t *handle)
{
    free(handle->data);
}

static void wake_up(uv_async_t *async)
{
    struct bw_loop *loop = async->loop->data;
    if (loop->on_wake)
        loop->on_wake(loop->wake_context);
}

int bw_loop_new(struct bw_loop **out, struct bw_err *err)
{
    struct bw_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    int failed = uv_loop_init(&loop->uv);
    if (!failed) {
        loop->uv.data = loop;
        failed = uv_async_init(&loop->uv, &loop->wake, wake_up);
        loop->wake.data = NULL; // part of the loop: nothing to free
        if (failed)
            uv_loop_close(&loop->uv);
    }
    if (failed) {
        free(loop);
        return bw_err_set(err, BW_EIO, "event loop: %s", uv_strerror(failed));
    }
    *out = loop;
    return BW_OK;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, release);
}

void bw_loop_free(struct bw_loop *loop)
{
    if (!loop)
        return;
    uv_walk(&loop->uv, close_handle, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT)) // returns early if it was told to stop before
        ;
    uv_loop_close(&loop->uv);
    free(loop);
}

void bw_loop_run(struct bw_loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void bw_loop_stop(struct bw_loop *loop)
{
    uv_stop(&loop->uv);
}

void bw_loop_wake(struct bw_loop *loop)
{
    uv_async_send(&loop->wake);
}

void bw_loop_on_wake(struct bw_loop *loop, bw_loop_fn *fn, void *context)
{
    loop->on_wake = fn;
    loop->wake_context = context;
}

static void on_work(uv_work_t *request)
{
    struct work *w = request->data;
    w->work(w->context);
}

static void on_done(uv_work_t *request, int status)
{
    struct work *w = request->data;
    (void)status; // nobody cancels
    w->done(w->context);
    free(w);
}

int bw_loop_work(struct bw_loop *loop, bw_loop_fn *work, bw_loop_fn *done, void *context)
{
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        return BW_ENOMEM;
    *w = (struct work){.request.data = w, .work = work, .done = done, .context = context};
    uv_queue_work(&loop->uv, &w->request, on_work, on_done); // fails for arguments only
    return BW_OK;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct signal_watch *watch = signal->data;
    (void)number;
    watch->fn(watch->context);
}

int bw_loop_on_signal(struct bw_loop *loop, int number, bw_loop_fn *fn, void *context,
                      struct bw_err *err)
{
    struct signal_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    watch->fn = fn;
    watch->context = context;
    uv_signal_init(&loop->uv, &watch->signal); // cannot fail once the loop stands
    watch->signal.data = watch;
    int failed = uv_signal_start(&watch->signal, on_signal, number);
    if (failed) {
        uv_close((uv_handle_t *)&watch->signal, release);
        return bw_err_set(err, BW_EIO, "signal %d: %s", number, uv_strerror(failed));
    }
    return BW_OK;
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal)
{
    struct child *child = process->data;
    (void)status, (void)signal;
    child->gone(child->context);
    uv_close((uv_handle_t *)process, release);
}

int bw_loop_spawn(struct bw_loop *loop, char **arguments, char **environment, const int *fds,
                  int count, bw_loop_fn *gone, void *context, int *pid, struct bw_err *err)
{
    uv_stdio_container_t streams[5];
    for (int i = 0; i < 3 + count; i++)
        streams[i] =
            (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = i < 3 ? i : fds[i - 3]};
    const uv_process_options_t options = {.exit_cb = on_exit_of,
                                          .file = arguments[0],
                                          .args = arguments,
                                          .env = environment,
                                          .stdio_count = 3 + count,
                                          .stdio = streams};
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    *child = (struct child){.process.data = child, .gone = gone, .context = context};
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); // libraries leave some open for any child
    int failed = uv_spawn(&loop->uv, &child->process, &options);
    if (failed) {
        uv_close((uv_handle_t *)&child->process, release); // even then, says its manual
        return bw_err_set(err, BW_EIO, "%s: %s", arguments[0], uv_strerror(failed));
    }
    *pid = child->process.pid;
    return BW_OK;
}

/* A status below zero means that the descriptor broke: for either kind reason enough to be called.
 */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct bw_watch *watch = poll->data;
    if (status < 0 || events & UV_DISCONNECT)
        uv_poll_stop(poll);
    watch->fn(watch->context);
}

/* One that does not watch yet; NULL without memory or for a descriptor that cannot be polled. */
static struct bw_watch *new_watch(struct bw_loop *loop, int fd, bw_loop_fn *fn, void *context)
{
    struct bw_watch *watch = calloc(1, sizeof *watch);
    if (!watch || uv_poll_init(&loop->uv, &watch->poll, fd)) {
        free(watch);
        return NULL;
    }
    watch->fn = fn;
    watch->context = context;
    watch->poll.data = watch;
    return watch;
}

struct bw_watch *bw_watch_new(struct bw_loop *loop, int fd, enum bw_watch_kind kind, bw_loop_fn *fn,
                              void *context)
{
    struct bw_watch *watch = new_watch(loop, fd, fn, context);
    if (!watch)
        return NULL;
    if (uv_poll_start(&watch->poll, kind == BW_WATCH_HANGUP ? UV_DISCONNECT : UV_READABLE,
                      on_poll)) {
        bw_watch_free(watch);
        return NULL;
    }
    return watch;
}

static void on_poll_duplex(uv_poll_t *poll, int status, int events)
{
    struct bw_watch *watch = poll->data;
    if (status < 0 || events & UV_READABLE)
        watch->fn(watch->context);
    if (events & UV_WRITABLE && !uv_is_closing((uv_handle_t *)poll))
        watch->writable(watch->context);
}

struct bw_watch *bw_watch_new_duplex(struct bw_loop *loop, int fd, bw_loop_fn *readable,
                                     bw_loop_fn *writable, void *context)
{
    struct bw_watch *watch = new_watch(loop, fd, readable, context);
    if (watch)
        watch->writable = writable;
    return watch;
}

void bw_watch_want(struct bw_watch *watch, int reading, int writing)
{
    int wanted = watch->wanted;
    if (reading >= 0)
        wanted = (wanted & ~UV_READABLE) | (reading ? UV_READABLE : 0);
    if (writing >= 0)
        wanted = (wanted & ~UV_WRITABLE) | (writing ? UV_WRITABLE : 0);
    if (wanted && wanted != watch->wanted)
        uv_poll_start(&watch->poll, wanted, on_poll_duplex);
    else if (!wanted)
        uv_poll_stop(&watch->poll);
    watch->wanted = wanted;
}

void bw_watch_free(struct bw_watch *watch)
{
    if (watch)
        uv_close((uv_handle_t *)&watch->poll, release); // also stops it, at once
}

static void on_timer(uv_timer_t *timer)
{
    struct bw_timer *t = timer->data;
    t->fn(t->context);
}

struct bw_timer *bw_timer_new(struct bw_loop *loop, bw_loop_fn *fn, void *context)
{
    struct bw_timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        return NULL;
    uv_timer_init(&loop->uv, &timer->timer);
    timer->timer.data = timer;
    timer->fn = fn;
    timer->context = context;
    return timer;
}

void bw_timer_start(struct bw_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    uv_timer_start(&timer->timer, on_timer, delay_ms, repeat_ms);
}

void bw_timer_stop(struct bw_timer *timer)
{
    uv_timer_stop(&timer->timer);
}

void bw_timer_free(struct bw_timer *timer)
{
    if (timer)
        uv_close((uv_handle_t *)&timer->timer, release);
}
