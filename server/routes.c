/* One table of paths; everything but making pictures is answered on the spot. */
#include "server/routes.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/assets.h"
#include "server/cards.h"
#include "server/generate.h"
#include "server/jobs.h"
#include "server/order.h"
#include "server/pages.h"
#include "server/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void respond(struct bw_exchange *x, const char *type, char *body, size_t length)
{
    const struct bw_header headers[] = {
        {"Content-Type", type}, {"Cache-Control", "no-cache"}, {NULL, NULL}};
    bw_exchange_respond(x, 200, headers, body, length);
}

static void respond_buf(struct bw_exchange *x, const char *type, struct bw_buf *text)
{
    size_t length = text->length_bytes;
    respond(x, type, bw_buf_steal(text), length);
}

static void respond_status(struct bw_exchange *x, const char *status)
{
    struct bw_buf text = {0};
    bw_buf_addf(&text, "{\"status\":\"%s\"}", status);
    respond_buf(x, "application/json", &text);
}

/* Whoever supervises the process is to start another. True if the exchange was refused. */
static bool refuse_dead(const struct bw_service *service, struct bw_exchange *x)
{
    struct bw_err err = {0};
    int dead = bw_workers_dead(service->workers);
    if (!dead)
        return false;
    bw_err_set(&err, BW_EBUSY, "%d of %d workers have ended or make no progress", dead,
               service->config->workers);
    bw_exchange_refuse(x, BW_PROBLEM_STALLED, &err, &(struct bw_header){"Retry-After", "1"});
    return true;
}

static void handle_livez(struct bw_service *service, struct bw_exchange *x)
{
    if (!refuse_dead(service, x))
        respond_status(x, "alive");
}

static void handle_readyz(struct bw_service *service, struct bw_exchange *x)
{
    if (!refuse_dead(service, x) && !bw_generate_refuse_draining(service, x))
        respond_status(x, "ready");
}

static void handle_metrics(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_model_label models[BW_MAX_MODELS];
    int count = bw_catalogue_count(service->catalogue), most_bricks = 0;
    for (int i = 0; i < count; i++) {
        const struct bw_model *m = bw_catalogue_at(service->catalogue, i)->model;
        models[i] = (struct bw_model_label){m->arch.name, m->digest};
        most_bricks = m->arch.brick_count > most_bricks ? m->arch.brick_count : most_bricks;
    }
    const struct bw_store_use jobs = bw_jobs_use(service->jobs);
    const struct bw_gauges gauges = {
        .kernels = bw_catalogue_at(service->catalogue, 0)->model->kernels->name,
        .model_count = count,
        .models = models,
        .brick_count = most_bricks,
        .queued = bw_scheduler_fresh(&service->scheduler),
        .queue_bound = service->config->queue,
        .in_progress = service->in_progress,
        .connections = bw_http_connections(service->http),
        .streams = bw_orders_streams(service) + bw_jobs_streams(service->jobs),
        .workers = service->config->workers,
        .workers_dead = bw_workers_dead(service->workers),
        .threads = service->config->threads,
        .jobs_open = jobs.open,
        .jobs_kept = jobs.over,
        .jobs_bytes = jobs.bytes,
        .store_up = bw_jobs_reachable(service->jobs),
        .uptime_s = (bw_now_ms() - service->started_ms) / 1e3,
    };
    struct bw_buf text = {0};
    bw_metrics_render(&service->metrics, &gauges, &text);
    bw_process_render(&text);
    respond_buf(x, "text/plain; version=0.0.4; charset=utf-8", &text);
}

static void handle_openapi(struct bw_service *service, struct bw_exchange *x)
{
    struct bw_buf text = {0};
    (void)service;
    bw_buf_add(&text, bw_asset_openapi, (size_t)(bw_asset_openapi_end - bw_asset_openapi));
    respond_buf(x, "application/json", &text);
}

static void handle_capabilities(struct bw_service *service, struct bw_exchange *x)
{
    const struct bw_config *config = service->config;
    const struct bw_features features = {.keys = *config->keys_file,
                                         .webhooks = *config->webhook_allow,
                                         .durable_jobs = *config->jobs};
    bw_cards_capabilities(service, x, config->jobs_keep_s, features);
}

static const struct route {
    const char *method, *pattern;
    void (*handle)(struct bw_service *service, struct bw_exchange *exchange);
} routes[] = {
    {"POST", "/v1/generate", bw_generate_handle},
    {"GET", "/v1/generate", bw_generate_handle_get},
    {"POST", "/v1/images/generations", bw_generate_handle_openai},
    {"POST", "/v1/quote", bw_generate_quote},
    {"PUT", "/v1/jobs/{id}", bw_jobs_put},
    {"GET", "/v1/jobs/{id}", bw_jobs_get},
    {"DELETE", "/v1/jobs/{id}", bw_jobs_delete},
    {"GET", "/v1/jobs/{id}/events", bw_jobs_events},
    {"GET", "/v1/jobs/{id}/images/{i}", bw_jobs_image},
    {"POST", "/sdapi/v1/txt2img", bw_generate_handle_sdapi},
    {"GET", "/sdapi/v1/progress", bw_generate_sd_progress},
    {"GET", "/v1/models", bw_cards_models},
    {"GET", "/v1/models/{id}", bw_cards_model},
    {"GET", "/v1/capabilities", handle_capabilities},
    {"GET", "/livez", handle_livez},
    {"GET", "/readyz", handle_readyz},
    {"GET", "/metrics", handle_metrics},
    {"GET", "/openapi.json", handle_openapi},
    {"GET", "/docs", bw_pages_handle},
    {"GET", "/", bw_pages_handle},
    {"GET", "/assets/{name}", bw_pages_handle},
};

enum { ROUTES = sizeof routes / sizeof *routes };
_Static_assert((int)ROUTES < (int)BW_MAX_ROUTES, "the metrics know every route");

bool bw_route_matches(const char *pattern, const char *path)
{
    while (*pattern && *path) {
        if (*pattern == '{') {
            size_t length = strcspn(path, "/");
            if (!length)
                return false;
            pattern += strcspn(pattern, "}") + 1;
            path += length;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return !*pattern && !*path;
}

/* HEAD is GET whose body is kept back by the HTTP library. */
static bool takes_method(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

/* The methods that the path takes, as Allow lists them. */
static void list_methods(const char *path, char *out, size_t room)
{
    size_t used = 0;
    for (int i = 0; i < ROUTES; i++) {
        if (bw_route_matches(routes[i].pattern, path))
            used +=
                (size_t)snprintf(out + used, room - used, "%s%s%s", used ? ", " : "",
                                 routes[i].method, strcmp(routes[i].method, "GET") ? "" : ", HEAD");
    }
}

/* The route of the path that takes the method, else one of the path, else NULL. */
static const struct route *find_route(const char *path, const char *method)
{
    const struct route *found = NULL;
    for (int i = 0; i < ROUTES; i++) {
        if (!bw_route_matches(routes[i].pattern, path))
            continue;
        if (takes_method(&routes[i], method))
            return &routes[i];
        found = &routes[i];
    }
    return found;
}

/* Who besides the holders of keys may ask for a path. */
static const struct audience {
    const char *pattern;
    bool open;  // anyone
    bool admin; // whoever reaches the admin listener
} audiences[] = {
    {"/livez", true, true},          {"/readyz", true, true}, {"/metrics", false, true},
    {"/openapi.json", true, false},  {"/docs", true, false},  {"/", true, false},
    {"/assets/{name}", true, false},
};

static struct audience audience_of(const char *path)
{
    for (size_t i = 0; i < sizeof audiences / sizeof *audiences; i++) {
        if (bw_route_matches(audiences[i].pattern, path))
            return audiences[i];
    }
    return (struct audience){.pattern = path};
}

/* What only the admin listener may be asked for is only there, if there is one. */
static bool is_elsewhere(const struct bw_service *service, const char *path, bool admin)
{
    const struct audience audience = audience_of(path);
    return admin ? !audience.admin : service->admin && audience.admin && !audience.open;
}

static void answer(struct bw_service *service, struct bw_exchange *x, bool admin)
{
    const char *path = bw_exchange_path(x), *method = bw_exchange_method(x);
    const struct route *route = find_route(path, method);
    struct bw_err err = {0};
    if (route && is_elsewhere(service, path, admin))
        route = NULL;
    if (route)
        bw_exchange_set_route(x, route->pattern);
    if (!admin && !bw_gate_admit(&service->gate, x, !route || audience_of(path).open))
        return;
    if (route && takes_method(route, method)) {
        route->handle(service, x);
    } else if (route) {
        char allow[64];
        list_methods(path, allow, sizeof allow);
        bw_err_set(&err, BW_ERANGE, "this path takes %s", allow);
        bw_exchange_refuse(x, BW_PROBLEM_METHOD, &err, &(struct bw_header){"Allow", allow});
    } else {
        bw_err_set(&err, BW_ENOTFOUND, "GET /openapi.json lists the paths there are");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_FOUND, &err, NULL);
    }
}

void bw_routes_greet(void *context, struct bw_exchange *x)
{
    struct bw_service *service = context;
    bw_gate_greet(&service->gate, x);
}

void bw_routes_handle(void *service, struct bw_exchange *x)
{
    answer(service, x, false);
}

void bw_routes_handle_admin(void *service, struct bw_exchange *x)
{
    answer(service, x, true);
}

void bw_routes_observe(void *context, const struct bw_http_done *done)
{
    struct bw_service *service = context;
    const struct bw_caller *caller = done->caller;
    struct bw_log_line line;
    bw_gate_leave(&service->gate, caller);
    bw_metrics_request(&service->metrics, done->route, done->method, done->status,
                       done->duration_ms, done->received_bytes, done->sent_bytes);
    bw_log_begin(&line, BW_LOG_INFO, "request");
    bw_log_text(&line, "id", done->request_id);
    bw_log_text(&line, "peer", caller->address);
    if (*caller->key)
        bw_log_text(&line, "client", caller->key);
    if (*caller->trace.trace)
        bw_log_text(&line, "trace", caller->trace.trace);
    bw_log_text(&line, "method", done->method);
    bw_log_text(&line, "path", done->path);
    bw_log_text(&line, "route", done->route);
    bw_log_int(&line, "status", done->status);
    bw_log_int(&line, "bytes", (int64_t)done->sent_bytes);
    bw_log_ms(&line, "duration_ms", done->duration_ms);
    for (int i = 0; i < done->note_count; i++)
        bw_log_ms(&line, done->notes[i].key, done->notes[i].ms);
    bw_log_end(&line);
}
