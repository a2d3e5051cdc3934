/* brickworkd: load the models, serve until told to stop, finish what is running, exit. */
#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "engine/brick.h"
#include "server/handover.h"
#include "server/jobs.h"
#include "server/order.h"
#include "server/routes.h"
#include "server/simulate.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MEASURE_MS = 100, SIMULATED_MEASURE_MS = 1000 };   // for timing the network
enum { MOST_ARENAS = 2, OWN_PAGES_FROM_BYTES = 1 << 20 }; // of the C library's allocator
enum { TICK_MS = 1000, DRAINED_TICK_MS = 20, LOCKED_TICK_MS = 20 };

struct server {
    struct bw_config config;
    struct bw_service service;
    struct bw_timer *tick, *watchdog; // watchdog NULL: nobody wants to hear
    char **arguments;                 // of the program, as main() got them
    struct bw_sockets sockets;        // handed in, then all that are listening; -1: none
    bool handed_in;
    int successor;               // process that is to take our place; 0: none
    bool relieved;               // by us: our predecessor
    bool told, drained, aborted; // told by a signal to stop
    double lost_ms;              // when work was given up that dead workers have; 0: never
};

/* Nobody is connected any more; jobs may still be under way. */
static void on_drained(void *context)
{
    struct server *s = context;
    s->drained = true;
    bw_timer_start(s->tick, 0, DRAINED_TICK_MS);
}

/* Is all that is left to do what dead workers have, or would nobody do it? */
static bool only_dead_are_left(const struct server *s)
{
    int dead = bw_workers_dead(s->service.workers), left = s->service.in_progress;
    return left && dead &&
           (dead == s->config.workers || left == bw_workers_stuck(s->service.workers));
}

/* Draining, and nothing else will come: answer who waits, and leave when they have read it and the
 * jobs of others are written, or have had the time for it. */
static void leave_dead(struct server *s)
{
    double now_ms = bw_now_ms();
    int lost_jobs = bw_orders_lose(&s->service);
    if (s->lost_ms <= 0) {
        struct bw_log_line line;
        bw_log_begin(&line, BW_LOG_ERROR, "work-lost");
        bw_log_int(&line, "pictures", s->service.in_progress);
        bw_log_text(&line, "reason", "dead workers have it");
        bw_log_end(&line);
        s->lost_ms = now_ms;
    }
    bool done = s->drained && bw_jobs_pending(s->service.jobs) <= lost_jobs;
    if (done || now_ms - s->lost_ms > s->config.request_timeout_ms)
        bw_loop_stop(s->service.loop);
}

static void on_tick(void *context)
{
    struct server *s = context;
    bw_workers_watch(s->service.workers, bw_now_ms(), s->config.stall_ms);
    bw_jobs_tick(s->service.jobs);
    bw_orders_ping(&s->service, s->config.ping_ms);
    if (s->drained && !s->service.in_progress && !bw_jobs_pending(s->service.jobs))
        bw_loop_stop(s->service.loop);
    else if (bw_http_is_draining(s->service.http) && only_dead_are_left(s))
        leave_dead(s);
}

static void drain(struct server *s)
{
    bw_log_message(BW_LOG_INFO, "draining", "no new connections; finishing what was admitted");
    bw_http_drain(s->service.http, on_drained, s);
}

/* The first signal drains, unless a successor has seen to that; the second aborts. */
static void on_signal(void *context)
{
    struct server *s = context;
    if (s->told) {
        s->aborted = true;
        bw_log_message(BW_LOG_WARN, "aborting", "told to stop twice: work in progress is dropped");
        bw_loop_stop(s->service.loop);
        return;
    }
    s->told = true;
    if (bw_http_is_draining(s->service.http))
        return;
    bw_supervisor_tell("STOPPING=1\nSTATUS=Finishing what was admitted");
    if (s->successor)
        kill(s->successor, SIGTERM);
    drain(s);
}

/* The successor is ready: from now on it is the service, for the supervisor too. */
static void on_relieved(void *context)
{
    struct server *s = context;
    if (!s->successor || bw_http_is_draining(s->service.http))
        return;
    bw_supervisor_tell("MAINPID=%d", s->successor);
    if (s->watchdog)
        bw_timer_stop(s->watchdog);
    if (s->service.admin)
        bw_http_drain(s->service.admin, NULL, NULL);
    drain(s);
}

/* The files of models and of keys may have changed. */
static void on_hangup(void *context)
{
    struct server *s = context;
    struct bw_err err = {0};
    bw_supervisor_tell("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(bw_now_ms() * 1e3));
    if (bw_gate_reload(&s->service.gate, &err))
        bw_log_message(BW_LOG_ERROR, "keys-stay", err.message);
    else if (*s->config.keys_file)
        bw_log_message(BW_LOG_INFO, "keys-read", s->config.keys_file);
    bw_catalogue_rescan(s->service.catalogue, s->service.loop);
    bw_supervisor_tell("READY=1"); // models that are new are loaded while we serve
}

static void on_successor_gone(void *context)
{
    struct server *s = context;
    s->successor = 0;
    s->service.outlived = s->handed_in;
    bw_log_message(BW_LOG_ERROR, "successor-gone", "the process that was to take over has ended");
}

/* Have a new process take our place: the program or its settings may be others. */
static void on_replace(void *context)
{
    struct server *s = context;
    struct bw_err err = {0};
    if (s->successor || bw_http_is_draining(s->service.http))
        return;
    if (bw_handover_begin(s->service.loop, s->arguments, &s->sockets, on_successor_gone, s,
                          &s->successor, &err)) {
        bw_log_message(BW_LOG_ERROR, "no-successor", err.message);
        return;
    }
    s->service.outlived = true;
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_INFO, "successor");
    bw_log_int(&line, "pid", s->successor);
    bw_log_end(&line);
}

/* With a dead worker only a new process helps. */
static void on_watchdog(void *context)
{
    const struct server *s = context;
    if (!bw_workers_dead(s->service.workers))
        bw_supervisor_tell("WATCHDOG=1");
}

static void wake_loop(void *loop)
{
    bw_loop_wake(loop);
}

static void log_start(const struct server *s, const char *address, const char *admin,
                      double load_ms)
{
    const struct bw_model *model = bw_catalogue_at(s->service.catalogue, 0)->model;
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_INFO, "listening");
    bw_log_text(&line, "address", address);
    if (*admin)
        bw_log_text(&line, "admin", admin);
    bw_log_text(&line, "version", BW_VERSION);
    bw_log_int(&line, "models", bw_catalogue_count(s->service.catalogue));
    bw_log_text(&line, "model", model->arch.name);
    bw_log_text(&line, "digest", model->digest);
    bw_log_text(&line, "kernels", model->kernels->name);
    bw_log_int(&line, "workers", s->config.workers);
    bw_log_int(&line, "threads", s->config.threads);
    bw_log_ms(&line, "load_ms", load_ms);
    bw_log_end(&line);
}

static struct bw_rules rules_of(const struct bw_config *config)
{
    return (struct bw_rules){
        .policy = (enum bw_policy)config->policy,
        .teams = config->workers,
        .most_waiting = config->queue,
        .most_work_ms = config->queue_ms,
        .target_ms = config->target_latency_ms,
        .most_pictures = config->batch,
        .busy_tokens = config->threads * BW_BLOCK_TOKENS,
    };
}

/* Workers, and who decides what they do. */
static int start_work(struct server *s, struct bw_err *err)
{
    struct bw_service *service = &s->service;
    const struct bw_rules rules = rules_of(&s->config);
    int code = bw_workers_new(&service->workers, s->config.workers, err);
    if (!code)
        code = bw_scheduler_init(&service->scheduler, &rules, err);
    if (!code)
        code = bw_workers_start(service->workers, &service->scheduler, &service->metrics, wake_loop,
                                service->loop, err);
    return code;
}

static int start_ticking(struct server *s, struct bw_err *err)
{
    int64_t watchdog_ms = bw_supervisor_watchdog_ms();
    s->tick = bw_timer_new(s->service.loop, on_tick, s);
    if (watchdog_ms)
        s->watchdog = bw_timer_new(s->service.loop, on_watchdog, s);
    if (!s->tick || (watchdog_ms && !s->watchdog))
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    bw_timer_start(s->tick, TICK_MS, TICK_MS);
    if (watchdog_ms)
        bw_timer_start(s->watchdog, 0, (uint64_t)watchdog_ms / 2);
    return BW_OK;
}

static int watch_signals(struct server *s, struct bw_err *err)
{
    static const struct {
        int number;
        bw_loop_fn *fn;
    } signals[] = {{SIGTERM, on_signal},
                   {SIGINT, on_signal},
                   {SIGHUP, on_hangup},
                   {SIGUSR2, on_replace},
                   {BW_RELIEVED, on_relieved}};
    int code = BW_OK;
    for (size_t i = 0; !code && i < sizeof signals / sizeof *signals; i++)
        code = bw_loop_on_signal(s->service.loop, signals[i].number, signals[i].fn, s, err);
    return code;
}

/* Once: a predecessor that is about to end has no handler for the signal any more. */
static void relieve(struct server *s)
{
    if (!s->relieved)
        bw_handover_relieve();
    s->relieved = true;
}

/* One process at a time has a directory of jobs. A predecessor lets go of it when it has ended;
 * connections wait in the queue of the socket meanwhile. It is relieved for that when nothing else
 * is missing any more. */
static int start_jobs(struct server *s, struct bw_err *err)
{
    struct bw_service *service = &s->service;
    for (;;) {
        bool wait = bw_handover_has_predecessor();
        int code = bw_jobs_new(&service->jobs, service, err);
        if (code != BW_EBUSY || !wait)
            return code;
        relieve(s);
        *err = (struct bw_err){0};
        nanosleep(&(struct timespec){.tv_nsec = LOCKED_TICK_MS * 1000000}, NULL);
    }
}

/* The sockets that were handed in, else new ones; the admin's if there is to be one. */
static int open_sockets(struct server *s, struct bw_err *err)
{
    int code = BW_OK;
    if (s->sockets.main < 0)
        code = bw_listen(s->config.listen, &s->sockets.main, err);
    if (!code && s->sockets.admin < 0 && *s->config.admin_listen)
        code = bw_listen(s->config.admin_listen, &s->sockets.admin, err);
    return code;
}

/* Serve on the sockets, and say where they are. */
static int start_http(struct server *s, char address[BW_ADDRESS_CHARS],
                      char admin[BW_ADDRESS_CHARS], struct bw_err *err)
{
    struct bw_service *service = &s->service;
    const struct bw_http_limits limits = {.connections = s->config.connections,
                                          .request_timeout_ms = s->config.request_timeout_ms,
                                          .body_limit_bytes = (size_t)s->config.max_body_bytes};
    struct bw_sockets *sockets = &s->sockets;
    bw_listen_address(sockets->main, address);
    bool exposed = !bw_listen_is_local(sockets->main) && !*s->config.keys_file;
    const struct bw_http_calls calls = {service, bw_routes_greet, bw_routes_handle,
                                        bw_routes_observe};
    int code = bw_http_new(&service->http, service->loop, sockets->main, &limits, &calls, err);
    if (!code && sockets->admin >= 0) {
        bw_listen_address(sockets->admin, admin);
        const struct bw_http_calls fewer = {service, NULL, bw_routes_handle_admin,
                                            bw_routes_observe};
        code = bw_http_new(&service->admin, service->loop, sockets->admin, &limits, &fewer, err);
    }
    if (!code && exposed)
        bw_log_message(BW_LOG_WARN, "open-access",
                       "other machines may reach this address, and there are no keys");
    return code;
}

static int start(struct server *s, struct bw_err *err)
{
    struct bw_service *service = &s->service;
    char address[BW_ADDRESS_CHARS], admin[BW_ADDRESS_CHARS] = "";
    double began_ms = bw_now_ms();
    int code = bw_gate_init(&service->gate, &s->config, err);
    if (!code)
        code = bw_catalogue_new(&service->catalogue, &s->config, MEASURE_MS, err);
    if (!code)
        code = bw_loop_new(&service->loop, err);
    if (code)
        return code;
    service->started_ms = bw_now_ms();
    code = start_work(s, err);
    if (!code)
        code = watch_signals(s, err);
    if (!code)
        code = open_sockets(s, err);
    if (!code)
        code = start_jobs(s, err);
    if (!code)
        code = start_ticking(s, err);
    if (code)
        return code;
    bw_loop_on_wake(service->loop, bw_orders_collect, service);
    bw_jobs_resume(service->jobs);
    code = start_http(s, address, admin, err);
    if (code)
        return code;
    log_start(s, address, admin, bw_now_ms() - began_ms);
    bw_supervisor_tell("READY=1\nSTATUS=Serving on %s", address);
    relieve(s);
    return BW_OK;
}

/* In an order in which everything still finds what it points to. False if a dead worker may still
 * find all of it. */
static bool tear_down(struct server *s)
{
    bw_http_free(s->service.http);
    bw_http_free(s->service.admin);
    bw_jobs_quiet(s->service.jobs);
    if (!bw_workers_stop(s->service.workers, s->config.stall_ms))
        return false;
    if (s->service.workers)
        bw_orders_collect(&s->service);
    bw_workers_free(s->service.workers);
    bw_loop_free(s->service.loop);
    bw_jobs_free(s->service.jobs);
    bw_scheduler_release(&s->service.scheduler);
    bw_metrics_release(&s->service.metrics);
    bw_catalogue_free(s->service.catalogue);
    bw_gate_release(&s->service.gate);
    return true;
}

/* Pictures are allocated on one thread and freed on another, and models come and go: an arena for
 * each thread would keep what it once had for ever, and large blocks would lie between small ones.
 */
static void settle_allocator(void)
{
    mallopt(M_ARENA_MAX, MOST_ARENAS);
    mallopt(M_MMAP_THRESHOLD, OWN_PAGES_FROM_BYTES);
}

static int serve(struct server *s)
{
    struct bw_err err = {0};
    settle_allocator();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow is an error of its writer
    signal(SIGHUP, SIG_IGN);  // until there is something to look at again
    signal(SIGUSR2, SIG_IGN); // likewise
    bw_log_setup((enum bw_log_level)s->config.log_level, (enum bw_log_format)s->config.log_format);
    s->service.config = &s->config;
    bw_metrics_init(&s->service.metrics);
    int code = bw_supervisor_sockets(bw_handover_is_successor(), &s->sockets, &err);
    s->service.outlived = s->handed_in = !code && s->sockets.main >= 0;
    if (!code)
        code = start(s, &err);
    if (code)
        bw_log_message(BW_LOG_ERROR, "cannot-start", err.message);
    else
        bw_loop_run(s->service.loop);
    if (!tear_down(s)) {
        bw_log_message(BW_LOG_ERROR, "stopped", "a worker is dead, and what it had is lost");
        _exit(EXIT_FAILURE); // its thread may wake up while exit() takes things down
    }
    if (!code)
        bw_log_message(s->lost_ms > 0 ? BW_LOG_ERROR : BW_LOG_INFO, "stopped",
                       s->aborted       ? "aborted"
                       : s->lost_ms > 0 ? "work was lost"
                                        : "all work is finished");
    return code || s->aborted || s->lost_ms > 0;
}

/* The default model is timed on a real team, the rest is virtual. */
static int simulate(struct server *s)
{
    struct bw_err err = {0}, reason = {0};
    struct bw_buf text = {0}, report = {0};
    struct bw_trace trace = {0};
    struct bw_fate *fates = NULL;
    struct bw_catalogue *catalogue = NULL;
    int code = bw_buf_add_file(&text, s->config.simulate, &err);
    if (!code && bw_trace_parse(&trace, text.data ? text.data : "", text.length_bytes, &reason))
        code = bw_err_set(&err, reason.code, "%s: %s", s->config.simulate, reason.message);
    if (!code && !(fates = calloc((size_t)trace.count + 1, sizeof *fates)))
        code = bw_err_set(&err, BW_ENOMEM, "out of memory for %d requests", trace.count);
    if (!code)
        code = bw_catalogue_new(&catalogue, &s->config, SIMULATED_MEASURE_MS, &err);
    if (!code) {
        const struct bw_rules rules = rules_of(&s->config);
        code = bw_simulate(&trace, &rules, &bw_catalogue_at(catalogue, 0)->price,
                           s->config.max_area, fates, &err);
    }
    if (!code)
        bw_simulate_report(&trace, fates, &report);
    fputs(code ? "" : report.data, stdout);
    if (code)
        fprintf(stderr, "brickworkd: %s\n", err.message);
    bw_catalogue_free(catalogue);
    bw_trace_release(&trace);
    free(fates);
    bw_buf_release(&text);
    bw_buf_release(&report);
    return code ? 2 : 0;
}

int main(int count, char **arguments)
{
    static struct server server = {.sockets = {-1, -1}};
    struct bw_err err = {0};
    struct bw_buf text = {0};
    server.arguments = arguments;
    if (bw_config_read(&server.config, count - 1, arguments + 1, &err)) {
        fprintf(stderr, "brickworkd: %s\n", err.message);
        return 2;
    }
    bool talk = server.config.help || server.config.version || server.config.check_only;
    if (server.config.help)
        bw_config_help(&text);
    else if (server.config.version)
        bw_buf_add_text(&text, "brickworkd " BW_VERSION "\n");
    else if (server.config.check_only)
        bw_config_show(&server.config, &text);
    if (text.data)
        fputs(text.data, stdout);
    bw_buf_release(&text);
    if (talk)
        return 0;
    return server.config.simulate ? simulate(&server) : serve(&server);
}
