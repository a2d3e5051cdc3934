/* The text is read as a Prometheus server reads it. */
#include "server/metrics.h"

#include "base/clock.h"
#include "base/version.h"
#include "server/process.h"
#include "tests/unit/check.h"

#include <ctype.h>

static struct bw_metrics metrics;

static void fill(void)
{
    static const uint8_t masks[] = {7, 1, 6};
    bw_metrics_init(&metrics);
    for (int i = 0; i < 40; i++)
        bw_metrics_request(&metrics, i % 3 ? "/v1/generate" : "/livez", i % 7 ? "POST" : "BREW",
                           i % 5 ? 200 : 422, pow(2, i) / 1e3, 3, 10);
    for (int i = 0; i < BW_OUTCOMES; i++)
        bw_metrics_picture(&metrics, (enum bw_outcome)i, 1000 * i);
    bw_metrics_step(&metrics, masks, 3, 3, 20, 4e9);
    bw_metrics_step(&metrics, masks, 70, 0, 1e9, 4e9);
}

static struct bw_buf rendered(const char *model)
{
    struct bw_buf text = {0};
    const struct bw_model_label models[] = {{model, "d"}, {"another", "e"}};
    const struct bw_gauges gauges = {.kernels = "k",
                                     .model_count = 2,
                                     .models = models,
                                     .brick_count = 3,
                                     .queued = 5,
                                     .streams = 2,
                                     .jobs_open = 3,
                                     .jobs_kept = 4,
                                     .jobs_bytes = (size_t)5 << 32,
                                     .store_up = 1,
                                     .uptime_s = 1.5};
    bw_metrics_render(&metrics, &gauges, &text);
    return text;
}

/* "name{label="value",...} number", to the letter of the format. */
static bool well_formed(const char *line)
{
    const char *c = line;
    while (isalnum((unsigned char)*c) || *c == '_')
        c++;
    if (c == line || isdigit((unsigned char)*line))
        return false;
    if (*c == '{') {
        do {
            c++;
            while (isalnum((unsigned char)*c) || *c == '_')
                c++;
            if (*c++ != '=' || *c++ != '"')
                return false;
            for (; *c != '"'; c++) {
                if (!*c || (*c == '\\' && !strchr("\\\"n", *++c)))
                    return false;
            }
            c++;
        } while (*c == ',');
        if (*c++ != '}')
            return false;
    }
    char *end;
    if (*c != ' ')
        return false;
    strtod(c + 1, &end);
    return end != c + 1 && !*end;
}

static void check_lines(char *text)
{
    char *rest = text, *line;
    CHECK(text[strlen(text) - 1] == '\n');
    while ((line = strsep(&rest, "\n")) && rest) {
        const char *name = *line == '#' ? line + strlen("# HELP ") : line;
        CHECK_OF(name == line || strncmp(line, "# HELP ", 7) == 0 ||
                     strncmp(line, "# TYPE ", 7) == 0,
                 "%s", line);
        CHECK_OF(strncmp(name, "brickwork_", 10) == 0 || strncmp(name, "process_", 8) == 0, "%s",
                 line);
        CHECK_OF(*line == '#' || well_formed(line), "%s", line);
    }
}

static void every_line_is_well_formed(void)
{
    fill();
    struct bw_buf text = rendered("pomology-128");
    check_lines(text.data);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

/* The name of a model is whatever its file says. */
static void labels_are_escaped(void)
{
    fill();
    struct bw_buf text = rendered("a\"b\\c\nforged 1");
    check_lines(text.data);
    CHECK(!strstr(text.data, "\nforged"));
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

/* The number after that text, or -1. */
static double number_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtod(at + strlen(name), NULL) : -1;
}

static void check_histogram(const char *text, const char *name, const char *labels, double count)
{
    char line[128], braces[64];
    double before = 0, bound = -1, value = 0;
    int buckets = 0;
    snprintf(line, sizeof line, "\nbrickwork_%s_bucket{%s%sle=\"", name, labels,
             *labels ? "," : "");
    snprintf(braces, sizeof braces, *labels ? "{%s}" : "%s", labels);
    for (const char *at = strstr(text, line); at; at = strstr(at + 1, line)) {
        char *end;
        double le = strtod(at + strlen(line), &end);
        value = strtod(end + 2, NULL);
        CHECK_OF(le > bound && value >= before, "%s %g: %g", name, le, value);
        bound = le;
        before = value;
        buckets++;
    }
    CHECK_INT(buckets, BW_BUCKETS + 1);
    CHECK(isinf(bound));
    snprintf(line, sizeof line, "\nbrickwork_%s_count%s ", name, braces);
    CHECK_NEAR(number_of(text, line), value, 0);
    CHECK_NEAR(value, count, 0);
    snprintf(line, sizeof line, "\nbrickwork_%s_sum%s ", name, braces);
    CHECK(number_of(text, line) > 0);
}

static void histograms_are_cumulative(void)
{
    fill();
    struct bw_buf text = rendered("m");
    check_histogram(text.data, "request_duration_seconds", "route=\"/v1/generate\"", 26);
    check_histogram(text.data, "request_duration_seconds", "route=\"/livez\"", 14);
    check_histogram(text.data, "queue_wait_seconds", "", 3);
    check_histogram(text.data, "step_duration_seconds", "", 2);
    check_histogram(text.data, "batch_pictures", "", 2);
    CHECK_NEAR(number_of(text.data, "brickwork_queue_wait_seconds_bucket{le=\"1\"} "), 2, 0);
    CHECK_NEAR(number_of(text.data, "brickwork_batch_pictures_bucket{le=\"3\"} "), 1, 0);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

static void counters_count(void)
{
    fill();
    struct bw_buf text = rendered("m");
    const char *t = text.data;
    const char *requests[] = {"{route=\"/livez\",method=\"POST\",status=\"422\"} ",
                              "{route=\"/v1/generate\",method=\"POST\",status=\"200\"} ",
                              "{route=\"/v1/generate\",method=\"other\",status=\"200\"} "};
    const int counts[] = {2, 18, 3};
    for (int i = 0; i < 3; i++) {
        const char *at = strstr(t, requests[i]);
        CHECK_OF(at && atoi(at + strlen(requests[i])) == counts[i], "%s", requests[i]);
    }
    CHECK_NEAR(number_of(t, "\nbrickwork_received_bytes_total "), 120, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_sent_bytes_total "), 400, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_streams "), 2, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_stored_jobs{state=\"open\"} "), 3, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_stored_jobs{state=\"kept\"} "), 4, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_job_store_up "), 1, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_stored_jobs_bytes "), 5.0 * (1LL << 32), 0);
    CHECK_NEAR(number_of(t, "bricks_total{brick=\"0\",action=\"run\"} "), 2, 0);
    CHECK_NEAR(number_of(t, "bricks_total{brick=\"2\",action=\"skipped\"} "), 1, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_queue_pictures "), 5, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_build_info{version=\"" BW_VERSION "\",kernels=\"k\"} "), 1,
               0);
    CHECK_NEAR(number_of(t, "\nbrickwork_model_info{model=\"m\",digest=\"d\"} "), 1, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_model_info{model=\"another\",digest=\"e\"} "), 1, 0);
    CHECK_NEAR(number_of(t, "\nbrickwork_uptime_seconds "), 1.5, 0);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

static void predictions_are_judged(void)
{
    bw_metrics_init(&metrics);
    bw_metrics_prediction(&metrics, 95, 100);
    bw_metrics_prediction(&metrics, 300, 100);
    bw_metrics_prediction(&metrics, 1, 0);
    bw_metrics_deadline(&metrics, true);
    bw_metrics_deadline(&metrics, false);
    bw_metrics_admission(&metrics, BW_TAKEN);
    bw_metrics_admission(&metrics, BW_TURNED_AWAY_DEADLINE);
    struct bw_buf text = {0};
    bw_metrics_render(&metrics, &(struct bw_gauges){.kernels = "k"}, &text);
    CHECK_NEAR(number_of(text.data, "deadlines_total{outcome=\"met\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "deadlines_total{outcome=\"missed\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "admissions_total{decision=\"admitted\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "admissions_total{decision=\"queue_full\"} "), 0, 0);
    CHECK_NEAR(number_of(text.data, "admissions_total{decision=\"deadline\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "prediction_error_ratio_bucket{le=\"0.05\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "prediction_error_ratio_bucket{le=\"2\"} "), 2, 0);
    CHECK_NEAR(number_of(text.data, "prediction_error_ratio_count "), 3, 0);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

static void ends_are_counted(void)
{
    bw_metrics_init(&metrics);
    bw_metrics_job(&metrics, BW_DONE);
    bw_metrics_job(&metrics, BW_DONE);
    bw_metrics_job(&metrics, BW_CANCELLED);
    bw_metrics_lease(&metrics, BW_LEASE_LOST);
    bw_metrics_webhook(&metrics, BW_RETRIED);
    bw_metrics_webhook(&metrics, BW_DELIVERED);
    bw_metrics_webhook(NULL, BW_DELIVERED);
    struct bw_buf text = rendered("m");
    CHECK_NEAR(number_of(text.data, "_jobs_total{outcome=\"done\"} "), 2, 0);
    CHECK_NEAR(number_of(text.data, "_jobs_total{outcome=\"failed\"} "), 0, 0);
    CHECK_NEAR(number_of(text.data, "_jobs_total{outcome=\"cancelled\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "_job_leases_total{fate=\"claimed\"} "), 0, 0);
    CHECK_NEAR(number_of(text.data, "_job_leases_total{fate=\"lost\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "_webhooks_total{outcome=\"delivered\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "_webhooks_total{outcome=\"retried\"} "), 1, 0);
    CHECK_NEAR(number_of(text.data, "_webhooks_total{outcome=\"dropped\"} "), 0, 0);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

/* Every route with every method, known or not, and more statuses than are in use. */
static void no_request_is_lost(void)
{
    static const char *const methods[] = {"GET",  "HEAD", "POST",    "PUT",
                                          "BREW", "WHEN", "OPTIONS", "DELETE"};
    static char routes[BW_MAX_ROUTES][12];
    bw_metrics_init(&metrics);
    for (int i = 0; i < BW_MAX_ROUTES * 8 * 18; i++) {
        char *route = routes[i / 18 / 8];
        snprintf(route, sizeof routes[0], "/%d", i / 18 / 8);
        bw_metrics_request(&metrics, route, methods[i / 18 % 8], 400 + i % 18, 1, 1, 1);
    }
    uint64_t sum = 0;
    for (int i = 0; i < metrics.series_count; i++)
        sum += metrics.requests[i].count;
    CHECK_INT(sum, BW_MAX_ROUTES * 8 * 18);
    CHECK_INT(metrics.series_count, BW_MAX_ROUTES * 7 * 18);
    CHECK_INT(metrics.route_count, BW_MAX_ROUTES);
    struct bw_buf text = rendered("m");
    check_lines(text.data);
    bw_buf_release(&text);
    bw_metrics_release(&metrics);
}

static void the_process_is_measured(void)
{
    struct bw_buf text = {0};
    double now_s = (double)bw_unix_s();
    volatile double busy = 1;
    for (int i = 0; i < 30000000; i++)
        busy = busy * 0.999 + 1;
    FILE *file = tmpfile();
    bw_process_render(&text);
    fclose(file);
    double fds = number_of(text.data, "\nprocess_open_fds ");
    double resident = number_of(text.data, "\nprocess_resident_memory_bytes ");
    CHECK(number_of(text.data, "\nprocess_cpu_seconds_total ") > 0);
    CHECK_OF(resident > 1e5 && resident < number_of(text.data, "\nprocess_virtual_memory_bytes "),
             "%g", resident);
    CHECK_NEAR(number_of(text.data, "\nprocess_start_time_seconds "), now_s, 60);
    CHECK_OF(fds >= 4 && fds <= number_of(text.data, "\nprocess_max_fds "), "%g", fds);
    bw_buf_release(&text);
    bw_process_render(&text);
    CHECK_NEAR(number_of(text.data, "\nprocess_open_fds "), fds - 1, 0);
    check_lines(text.data); // takes it apart
    bw_buf_release(&text);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(every_line_is_well_formed), TEST(labels_are_escaped),
        TEST(histograms_are_cumulative), TEST(counters_count),
        TEST(predictions_are_judged),    TEST(ends_are_counted),
        TEST(no_request_is_lost),        TEST(the_process_is_measured)};
    return CHECK_RUN("metrics", tests);
}
