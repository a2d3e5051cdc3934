/* Counters are written at most a few times per request and per evaluation, so one lock costs
 * nothing that could be measured; the text is made while it is held, so a scrape sees one moment.
 */
#include "server/metrics.h"

#include "base/version.h"

#include <string.h>

/* Seconds, from a health check to a large picture under load; and pictures for the batch histogram.
 */
static const double second_bounds[BW_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                 0.25,  0.5,    1,     2.5,  5,     10,   30};
static const double batch_bounds[BW_BUCKETS] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 56, 64};

static const double error_bounds[BW_BUCKETS] = {0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15,
                                                0.2,  0.3,  0.5,  0.7,  1,    2,   5};

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

void bw_metrics_request(struct bw_metrics *m, const char *route, int status, double duration_ms,
                        size_t sent_bytes)
{
    pthread_mutex_lock(&m->lock);
    int i = 0;
    while (i < m->series_count &&
           (m->requests[i].route != route || m->requests[i].status != status))
        i++;
    if (i == m->series_count && i < BW_MAX_SERIES)
        m->requests[m->series_count++] = (struct bw_series){route, status, 0};
    if (i < BW_MAX_SERIES)
        m->requests[i].count++;
    m->sent_bytes += sent_bytes;
    observe(&m->request_s, second_bounds, duration_ms / 1e3);
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
    observe(&m->step_s, second_bounds, duration_ms / 1e3);
    observe(&m->batch, batch_bounds, count);
    double speed = flops / (duration_ms > 1e-3 ? duration_ms : 1e-3);
    m->flops_per_ms = m->flops_per_ms > 0 ? 0.95 * m->flops_per_ms + 0.05 * speed : speed;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_admission(struct bw_metrics *m, enum bw_admission admission)
{
    pthread_mutex_lock(&m->lock);
    m->admissions[admission]++;
    pthread_mutex_unlock(&m->lock);
}

void bw_metrics_prediction(struct bw_metrics *m, double predicted_ms, double actual_ms,
                           bool has_deadline, bool met)
{
    pthread_mutex_lock(&m->lock);
    double error = (actual_ms - predicted_ms) / (actual_ms > 1e-3 ? actual_ms : 1e-3);
    observe(&m->error, error_bounds, error < 0 ? -error : error);
    m->deadlines_met += has_deadline && met;
    m->deadlines_missed += has_deadline && !met;
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

static void histogram(struct bw_buf *out, const char *name, const char *help,
                      const struct bw_histogram *h, const double bounds[BW_BUCKETS])
{
    uint64_t sum = 0;
    family(out, name, "histogram", help);
    for (int i = 0; i < BW_BUCKETS; i++) {
        sum += h->counts[i];
        bw_buf_addf(out, "brickwork_%s_bucket{le=\"%g\"} %llu\n", name, bounds[i],
                    (unsigned long long)sum);
    }
    sum += h->counts[BW_BUCKETS];
    bw_buf_addf(out, "brickwork_%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)sum);
    bw_buf_addf(out, "brickwork_%s_sum %.9g\nbrickwork_%s_count %llu\n", name, h->sum, name,
                (unsigned long long)sum);
}

static void render_work(const struct bw_metrics *m, int brick_count, struct bw_buf *out)
{
    static const char *const outcomes[BW_OUTCOMES] = {"done", "failed", "cancelled"};
    family(out, "pictures_total", "counter", "Pictures that left the service.");
    for (int i = 0; i < BW_OUTCOMES; i++)
        bw_buf_addf(out, "brickwork_pictures_total{outcome=\"%s\"} %llu\n", outcomes[i],
                    (unsigned long long)m->pictures[i]);
    static const char *const admissions[BW_ADMISSIONS] = {"admitted", "queue_full", "deadline"};
    family(out, "admissions_total", "counter", "Requests for pictures, and what was said to them.");
    for (int i = 0; i < BW_ADMISSIONS; i++)
        bw_buf_addf(out, "brickwork_admissions_total{decision=\"%s\"} %llu\n", admissions[i],
                    (unsigned long long)m->admissions[i]);
    family(out, "deadlines_total", "counter", "Promised deadlines that came.");
    bw_buf_addf(out,
                "brickwork_deadlines_total{outcome=\"met\"} %llu\n"
                "brickwork_deadlines_total{outcome=\"missed\"} %llu\n",
                (unsigned long long)m->deadlines_met, (unsigned long long)m->deadlines_missed);
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
    histogram(out, "step_seconds", "One call of the network for a batch.", &m->step_s,
              second_bounds);
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
    value(out, "workers", "gauge", "Workers.", g->workers);
    value(out, "worker_threads", "gauge", "Threads of each worker.", g->threads);
    pthread_mutex_lock(&m->lock);
    family(out, "requests_total", "counter", "Requests by route and status; 499: the client left.");
    for (int i = 0; i < m->series_count; i++)
        bw_buf_addf(out, "brickwork_requests_total{route=\"%s\",status=\"%d\"} %llu\n",
                    m->requests[i].route, m->requests[i].status,
                    (unsigned long long)m->requests[i].count);
    value(out, "sent_bytes_total", "counter", "Bytes of response bodies.", (double)m->sent_bytes);
    histogram(out, "request_seconds", "From a request's headers to the end of its answer.",
              &m->request_s, second_bounds);
    render_work(m, g->brick_count, out);
    pthread_mutex_unlock(&m->lock);
}
