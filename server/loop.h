/* Loop: the event loop, and the only place that knows libuv.
 *
 * Everything registered here is owned by the loop's memory: freeing a watch or timer silences it at
 * once and releases it when libuv lets go, so its owner need not wait. Thread: everything on the
 * loop's thread, except bw_loop_wake(), which any thread may call.
 */
#ifndef BW_SERVER_LOOP_H
#define BW_SERVER_LOOP_H

#include "base/err.h"

#include <stdint.h>

struct bw_loop;
struct bw_watch;
struct bw_timer;

typedef void bw_loop_fn(void *context);

/* BW_ENOMEM, BW_EIO. */
int bw_loop_new(struct bw_loop **loop, struct bw_err *err);

/* Release the loop and all that is registered. NULL is allowed. */
void bw_loop_free(struct bw_loop *loop);

/* Run until bw_loop_stop(). */
void bw_loop_run(struct bw_loop *loop);
void bw_loop_stop(struct bw_loop *loop);

/* Call fn soon on the loop's thread; several wakes may become one call. Any thread. */
void bw_loop_wake(struct bw_loop *loop);
void bw_loop_on_wake(struct bw_loop *loop, bw_loop_fn *fn, void *context);

/* Call work(context) on another thread, then done(context) on the loop's; bw_loop_free() waits for
 * both. 0 or BW_ENOMEM. */
int bw_loop_work(struct bw_loop *loop, bw_loop_fn *work, bw_loop_fn *done, void *context);

/* Call fn for every signal of that number. */
int bw_loop_on_signal(struct bw_loop *loop, int number, bw_loop_fn *fn, void *context,
                      struct bw_err *err);

/* Start a program: `arguments` from its name on and `environment` end with NULL; it has our
 * standard streams and `fds` [count], at most 2, as its descriptors from 3 on, and nothing else of
 * ours. `gone` is called when it ends. BW_EIO, BW_ENOMEM. */
int bw_loop_spawn(struct bw_loop *loop, char **arguments, char **environment, const int *fds,
                  int count, bw_loop_fn *gone, void *context, int *pid, struct bw_err *err);

enum bw_watch_kind {
    BW_WATCH_READABLE, // there is something to read
    BW_WATCH_HANGUP,   // the peer closed its side; fires once
};

/* Call fn for that event of a descriptor. NULL if the system refuses. */
struct bw_watch *bw_watch_new(struct bw_loop *loop, int fd, enum bw_watch_kind kind, bw_loop_fn *fn,
                              void *context);
/* Watch both ways of a descriptor, neither at first. One that breaks counts as readable. */
struct bw_watch *bw_watch_new_duplex(struct bw_loop *loop, int fd, bw_loop_fn *readable,
                                     bw_loop_fn *writable, void *context);
/* Of such a watch, whether to watch each way from now on: 1, 0, or -1 for as it is. */
void bw_watch_want(struct bw_watch *watch, int reading, int writing);

/* Stop watching; fn is not called again. NULL is allowed. */
void bw_watch_free(struct bw_watch *watch);

/* A timer that is not running yet. NULL without memory. */
struct bw_timer *bw_timer_new(struct bw_loop *loop, bw_loop_fn *fn, void *context);
/* Call fn after delay_ms and then every repeat_ms (0: once). Restarts a running timer. */
void bw_timer_start(struct bw_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void bw_timer_stop(struct bw_timer *timer);
void bw_timer_free(struct bw_timer *timer);

#endif
