/* Counters are written at most a few times per request and per evaluation, so one lock costs
 * nothing that could be measured; the text is made while it is held, so a scrape sees one moment.
 */
#include "server/metrics.h"

#include "base/version.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Seconds, from a health check to a large picture under load; of one call of the network; pictures
 * in such a call; and shares of the time something took.
 */
static const double second_bounds[BW_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
static const double step_bounds[BW_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01,
                                               0.015,  0.02,  0.03,   0.05,  0.075,  0.1,
                                               0.15,   0.25,  0.5,    1,     5};
static const double batch_bounds[BW_BUCKETS] = {1,  2,  3,  4,  5,  6,  8,  10, 12,
                                                14, 16, 20, 24, 32, 40, 48, 64};
static const double error_bounds[BW_BUCKETS] = {0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2,
                                                0.25,  0.3,  0.4,  0.5,  0.7,  1,    2,   5};

void bw_metrics_init(struct bw_metrics *metrics)
{
    memset(metrics, 0, sizeof *metrics);
    pthread_mutex_init(&metrics->lock, NULL);
}

void bw_metrics_release(struct bw_metrics *metrics)
{
    pthread_mutex_destroy(&metrics->lock);
}

static void observe(struct bw_histogram *h, const double bounds[BW_BUCKETS], double value)
{
    int bucket = 0;
    while (bucket < BW_BUCKETS && value > bounds[bucket])
        bucket++;
    h->counts[bucket]++;
    h->sum += value;
}

/* Clients may invent methods, and each would be a series of its own. */
static const char *known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(method, known[i]) == 0)
            return known[i];
    }
    return "other";
}

/* The series of these labels, a new one if need be. */
static struct bw_series *find_series(struct bw_metrics *m, const char *route, const char *method,
                                     int status)
{
    for (int i = 0; i < m->series_count; i++) {
        struct bw_series *s = &m->requests[i];
        if (s->route == route && s->method == method && s->status == status)
            return s;
    }
    assert(m->series_count < BW_MAX_SERIES);
    m->requests[m->series_count] = (struct bw_series){route, method, status, 0};
    return &m->requests[m->series_count++];
}

static struct bw_histogram *find_route(struct bw_metrics *m, const char *route)
{
    for (int i = 0; i < m->route_count; i++) {
        if (m->routes[i].route == route)
            return &m->routes[i].seconds;
    }
    assert(m->route_count < BW_MAX_ROUTES);
    m->routes[m->route_count].route = route;
    return &m->routes[m->route_count++].seconds;
}

void bw_metrics_request(struct bw_metrics *m, const char *route, const char *method, int status,
                        double duration_ms, size_t received_bytes, size_t sent_bytes)
{
    pthread_mutex_lock(&m->lock);
    find_series(m, route, known_method(method), status)->count++;
    observe(find_route(m, route), second_bounds, duration_ms / 1e3);
    m->received_bytes += received_bytes;
    m->sent_bytes += sent_bytes;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_picture(struct bw_metrics *m, enum bw_outcome outcome, double queue_ms)
{
    pthread_mutex_lock(&m->lock);
    m->pictures[outcome]++;
    observe(&m->queue_s, second_bounds, queue_ms / 1e3);
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_step(struct bw_metrics *m, const uint8_t *masks, int count, int brick_count,
                     double duration_ms, double flops)
{
    pthread_mutex_lock(&m->lock);
    m->steps++;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < brick_count; k++)
            (masks[i] >> k & 1 ? m->bricks_run : m->bricks_skipped)[k]++;
    }
    observe(&m->step_s, step_bounds, duration_ms / 1e3);
    observe(&m->batch, batch_bounds, count);
    double speed = flops / (duration_ms > 1e-3 ? duration_ms : 1e-3);
    m->flops_per_ms = m->flops_per_ms > 0 ? 0.95 * m->flops_per_ms + 0.05 * speed : speed;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_decode(struct bw_metrics *m, double duration_ms)
{
    pthread_mutex_lock(&m->lock);
    observe(&m->decode_s, second_bounds, duration_ms / 1e3);
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_admission(struct bw_metrics *m, enum bw_admission admission)
{
    pthread_mutex_lock(&m->lock);
    m->admissions[admission]++;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_prediction(struct bw_metrics *m, double predicted_ms, double actual_ms)
{
    pthread_mutex_lock(&m->lock);
    double error = (actual_ms - predicted_ms) / (actual_ms > 1e-3 ? actual_ms : 1e-3);
    observe(&m->error, error_bounds, error < 0 ? -error : error);
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_deadline(struct bw_metrics *m, bool met)
{
    pthread_mutex_lock(&m->lock);
    m->deadlines_met += met;
    m->deadlines_missed += !met;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_job(struct bw_metrics *m, enum bw_outcome outcome)
{
    pthread_mutex_lock(&m->lock);
    m->jobs[outcome]++;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_lease(struct bw_metrics *m, enum bw_lease_fate fate)
{
    pthread_mutex_lock(&m->lock);
    m->leases[fate]++;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_webhook(struct bw_metrics *m, enum bw_delivery delivery)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->webhooks[delivery]++;
    pthread_mutex_unlock(&m->lock);
}

/* A label's value between its quotes. */
static void add_label(struct bw_buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            bw_buf_addf(out, "\\%c", *text);
        else if (*text == '\n')
            bw_buf_add_text(out, "\\n");
        else
            bw_buf_add(out, text, 1);
    }
}

static void family(struct bw_buf *out, const char *name, const char *type, const char *help)
{
    bw_buf_addf(out, "# HELP brickwork_%s %s\n# TYPE brickwork_%s %s\n", name, help, name, type);
}

static void value(struct bw_buf *out, const char *name, const char *type, const char *help,
                  double number)
{
    family(out, name, type, help);
    bw_buf_addf(out, "brickwork_%s %.15g\n", name, number);
}

/* The samples of a histogram; `labels` is all they have besides, "" or `name="value"`. */
static void samples(struct bw_buf *out, const char *name, const char *labels,
                    const struct bw_histogram *h, const double bounds[BW_BUCKETS])
{
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    unsigned long long sum = 0;
    for (int i = 0; i < BW_BUCKETS; i++) {
        sum += h->counts[i];
        bw_buf_addf(out, "brickwork_%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma,
                    bounds[i], sum);
    }
    sum += h->counts[BW_BUCKETS];
    bw_buf_addf(out, "brickwork_%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma, sum);
    bw_buf_addf(out, "brickwork_%s_sum%s%s%s %.9g\n", name, open, labels, close, h->sum);
    bw_buf_addf(out, "brickwork_%s_count%s%s%s %llu\n", name, open, labels, close, sum);
}

static void histogram(struct bw_buf *out, const char *name, const char *help,
                      const struct bw_histogram *h, const double bounds[BW_BUCKETS])
{
    family(out, name, "histogram", help);
    samples(out, name, "", h, bounds);
}

/* A family of counters, one for each value of a label. */
static void counters(struct bw_buf *out, const char *name, const char *help, const char *label,
                     const char *const *values, const uint64_t *counts, int count)
{
    family(out, name, "counter", help);
    for (int i = 0; i < count; i++)
        bw_buf_addf(out, "brickwork_%s{%s=\"%s\"} %llu\n", name, label, values[i],
                    (unsigned long long)counts[i]);
}

static void render_requests(const struct bw_metrics *m, struct bw_buf *out)
{
    char labels[128];
    family(out, "requests_total", "counter",
           "Requests by route, method and status; 499: the client left.");
    for (int i = 0; i < m->series_count; i++) {
        const struct bw_series *s = &m->requests[i];
        bw_buf_addf(out,
                    "brickwork_requests_total{route=\"%s\",method=\"%s\",status=\"%d\"} %llu\n",
                    s->route, s->method, s->status, (unsigned long long)s->count);
    }
    family(out, "request_duration_seconds", "histogram",
           "From a request's headers to the end of its answer.");
    for (int i = 0; i < m->route_count; i++) {
        snprintf(labels, sizeof labels, "route=\"%s\"", m->routes[i].route);
        samples(out, "request_duration_seconds", labels, &m->routes[i].seconds, second_bounds);
    }
    value(out, "received_bytes_total", "counter", "Bytes of request bodies.",
          (double)m->received_bytes);
    value(out, "sent_bytes_total", "counter", "Bytes of response bodies.", (double)m->sent_bytes);
}

static const char *const outcomes[BW_OUTCOMES] = {"done", "failed", "cancelled"};

static void render_jobs(const struct bw_metrics *m, const struct bw_gauges *g, struct bw_buf *out)
{
    static const char *const deliveries[BW_DELIVERIES] = {"delivered", "retried", "given_up",
                                                          "dropped"};
    family(out, "stored_jobs", "gauge", "Jobs not over, and those over whose results are kept.");
    bw_buf_addf(
        out, "brickwork_stored_jobs{state=\"open\"} %d\nbrickwork_stored_jobs{state=\"kept\"} %d\n",
        g->jobs_open, g->jobs_kept);
    value(out, "stored_jobs_bytes", "gauge", "Bytes of all jobs: requests, results and pictures.",
          (double)g->jobs_bytes);
    counters(out, "jobs_total", "Jobs that are over; cancelled: deleted before.", "outcome",
             outcomes, m->jobs, BW_OUTCOMES);
    value(out, "job_store_up", "gauge", "1 if the store of jobs can be reached.", g->store_up);
    counters(out, "job_leases_total", "Jobs taken over from another replica, and lost to another.",
             "fate", (const char *[]){"claimed", "lost"}, m->leases, BW_LEASE_FATES);
    counters(out, "webhooks_total",
             "Webhooks that came to an end, and attempts that will be followed by others.",
             "outcome", deliveries, m->webhooks, BW_DELIVERIES);
}

static void render_work(const struct bw_metrics *m, int brick_count, struct bw_buf *out)
{
    static const char *const admissions[BW_ADMISSIONS] = {"admitted", "queue_full", "deadline"};
    counters(out, "pictures_total", "Pictures that left the service.", "outcome", outcomes,
             m->pictures, BW_OUTCOMES);
    counters(out, "admissions_total", "Requests for pictures, and what was said to them.",
             "decision", admissions, m->admissions, BW_ADMISSIONS);
    counters(out, "deadlines_total", "Promised deadlines that came.", "outcome",
             (const char *[]){"met", "missed"},
             (const uint64_t[]){m->deadlines_met, m->deadlines_missed}, 2);
    histogram(out, "prediction_error_ratio", "|predicted - actual| / actual time to the answer.",
              &m->error, error_bounds);
    family(out, "bricks_total", "counter", "Bricks run and skipped, counted per evaluation.");
    for (int k = 0; k < brick_count; k++)
        bw_buf_addf(out,
                    "brickwork_bricks_total{brick=\"%d\",action=\"run\"} %llu\n"
                    "brickwork_bricks_total{brick=\"%d\",action=\"skipped\"} %llu\n",
                    k, (unsigned long long)m->bricks_run[k], k,
                    (unsigned long long)m->bricks_skipped[k]);
    value(out, "evaluation_calls_total", "counter", "Calls of the network, each for a batch.",
          (double)m->steps);
    value(out, "worker_flops", "gauge",
          "Floating-point operations a second of one worker, smoothed.", m->flops_per_ms * 1e3);
    histogram(out, "queue_wait_seconds", "From admission to the first step.", &m->queue_s,
              second_bounds);
    histogram(out, "step_duration_seconds", "One call of the network for a batch.", &m->step_s,
              step_bounds);
    histogram(out, "decode_duration_seconds", "Decoding a picture of a model of latents.",
              &m->decode_s, second_bounds);
    histogram(out, "batch_pictures", "Pictures in one call of the network.", &m->batch,
              batch_bounds);
}

void bw_metrics_render(struct bw_metrics *m, const struct bw_gauges *g, struct bw_buf *out)
{
    family(out, "build_info", "gauge", "What is running; always 1.");
    bw_buf_addf(out, "brickwork_build_info{version=\"" BW_VERSION "\",kernels=\"%s\"} 1\n",
                g->kernels);
    family(out, "model_info", "gauge", "A model in service; always 1.");
    for (int i = 0; i < g->model_count; i++) {
        bw_buf_add_text(out, "brickwork_model_info{model=\"");
        add_label(out, g->models[i].name);
        bw_buf_addf(out, "\",digest=\"%s\"} 1\n", g->models[i].digest);
    }
    value(out, "uptime_seconds", "gauge", "Seconds since the start.", g->uptime_s);
    value(out, "queue_pictures", "gauge", "Pictures waiting for a worker.", g->queued);
    value(out, "queue_bound_pictures", "gauge", "Pictures that may wait.", g->queue_bound);
    value(out, "in_progress_pictures", "gauge", "Pictures admitted and not answered.",
          g->in_progress);
    value(out, "connections", "gauge", "Open connections.", g->connections);
    value(out, "streams", "gauge", "Open streams of events.", g->streams);
    value(out, "workers", "gauge", "Workers.", g->workers);
    value(out, "workers_dead", "gauge", "Workers that have ended or make no progress.",
          g->workers_dead);
    value(out, "worker_threads", "gauge", "Threads of each worker.", g->threads);
    pthread_mutex_lock(&m->lock);
    render_requests(m, out);
    render_jobs(m, g, out);
    render_work(m, g->brick_count, out);
    pthread_mutex_unlock(&m->lock);
}
