/* Metrics: what the service counts, as Prometheus text (exposition format 0.0.4).
 *
 * Thread: any; one lock guards all.
 */
#ifndef BW_SERVER_METRICS_H
#define BW_SERVER_METRICS_H

#include "base/buf.h"
#include "base/picture.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    BW_BUCKETS = 17,
    BW_MAX_ROUTES = 32,   // the service's, and "none" for all other paths
    BW_MAX_SERIES = 4096, // more than there are routes times methods times statuses
};

struct bw_histogram {
    uint64_t counts[BW_BUCKETS + 1]; // the last: above all bounds
    double sum;
};

enum bw_admission { BW_TAKEN, BW_TURNED_AWAY_FULL, BW_TURNED_AWAY_DEADLINE, BW_ADMISSIONS };

enum bw_outcome { BW_DONE, BW_FAILED, BW_CANCELLED, BW_OUTCOMES };

/* What became of a webhook: an attempt that is to be followed by another, or the last one. */
enum bw_delivery { BW_DELIVERED, BW_RETRIED, BW_GIVEN_UP, BW_DROPPED, BW_DELIVERIES };

/* What happens between replicas that share jobs: one took a job that another had, or had it taken.
 */
enum bw_lease_fate { BW_LEASE_CLAIMED, BW_LEASE_LOST, BW_LEASE_FATES };

struct bw_metrics {
    pthread_mutex_t lock;
    struct bw_series {
        const char *route, *method; // static texts
        int status;
        uint64_t count;
    } requests[BW_MAX_SERIES]; // in order of first appearance
    int series_count;
    struct bw_route_time {
        const char *route;
        struct bw_histogram seconds;
    } routes[BW_MAX_ROUTES]; // likewise
    int route_count;
    uint64_t sent_bytes, received_bytes, pictures[BW_OUTCOMES], steps;
    uint64_t jobs[BW_OUTCOMES], leases[BW_LEASE_FATES], webhooks[BW_DELIVERIES];
    uint64_t bricks_run[BW_MAX_BRICKS], bricks_skipped[BW_MAX_BRICKS]; // per evaluation
    uint64_t admissions[BW_ADMISSIONS], deadlines_met, deadlines_missed;
    struct bw_histogram queue_s, step_s, decode_s, batch, error;
    double flops_per_ms; // of one worker, smoothed; 0 before the first step
};

/* What is true at the moment of asking. */
struct bw_gauges {
    const char *kernels;
    int model_count;
    const struct bw_model_label {
        const char *name, *digest;
    } * models;      // [model_count] in service
    int brick_count; // of the model that has most
    int queued, queue_bound, in_progress, connections, streams, workers, workers_dead, threads;
    int jobs_open, jobs_kept; // not over; over and not forgotten yet
    size_t jobs_bytes;        // of all of these
    int store_up;             // the store of jobs can be reached
    double uptime_s;
};

void bw_metrics_init(struct bw_metrics *metrics);
void bw_metrics_release(struct bw_metrics *metrics);

/* A request was answered. `route` must be static text, one of fewer than BW_MAX_ROUTES. */
void bw_metrics_request(struct bw_metrics *metrics, const char *route, const char *method,
                        int status, double duration_ms, size_t received_bytes, size_t sent_bytes);

/* A picture left the service after so long in the queue. */
void bw_metrics_picture(struct bw_metrics *metrics, enum bw_outcome outcome, double queue_ms);

/* A worker evaluated the network for `count` pictures with these masks in one call. */
void bw_metrics_step(struct bw_metrics *metrics, const uint8_t *masks, int count, int brick_count,
                     double duration_ms, double flops);

/* A worker decoded a picture. */
void bw_metrics_decode(struct bw_metrics *metrics, double duration_ms);

/* A request was admitted or not; one that was took so long, which was predicted otherwise; and what
 * was promised with its deadline was kept or not. */
void bw_metrics_admission(struct bw_metrics *metrics, enum bw_admission admission);
void bw_metrics_prediction(struct bw_metrics *metrics, double predicted_ms, double actual_ms);
void bw_metrics_deadline(struct bw_metrics *metrics, bool met);

/* A job is over; BW_CANCELLED: it was deleted before. */
void bw_metrics_job(struct bw_metrics *metrics, enum bw_outcome outcome);

void bw_metrics_lease(struct bw_metrics *metrics, enum bw_lease_fate fate);

/* `metrics` may be NULL. */
void bw_metrics_webhook(struct bw_metrics *metrics, enum bw_delivery delivery);

void bw_metrics_render(struct bw_metrics *metrics, const struct bw_gauges *gauges,
                       struct bw_buf *out);

#endif
