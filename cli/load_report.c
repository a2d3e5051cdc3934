/* A figure is a function of one request, NAN where a request has no such figure; means and
 * percentiles are taken over what is left. The same summary is made of all requests and of each
 * group. */
#include "cli/load_report.h"

#include <math.h>
#include <stdlib.h>

enum { ALL = -1 };

/* One request: what was asked, what came. */
struct one {
    const struct bw_arrival *arrival;
    const struct bw_load_answer *answer;
    double due_ms, start_ms;
};

typedef double figure_fn(const struct one *one);

/* NAN if there were none. */
struct spread {
    double p50, p90, p95, p99, most, mean;
};

struct summary {
    int offered, admitted, refused_429, refused_503, no_answer, other_status;
    int timed, timed_admitted, met; // with a deadline
    struct spread latency, refusal, late, server_error, client_error, excess, degraded;
};

/* ---- figures ---- */

static bool is_admitted(const struct one *one)
{
    return one->answer->status == 200;
}

static bool is_refused(const struct one *one)
{
    return one->answer->status == 429 || one->answer->status == 503;
}

static double since_due(const struct one *one)
{
    return one->answer->done_ms - one->due_ms;
}

static bool is_met(const struct one *one)
{
    return is_admitted(one) && since_due(one) <= one->arrival->request.deadline_ms;
}

static double latency(const struct one *one)
{
    return is_admitted(one) ? since_due(one) : NAN;
}

static double refusal(const struct one *one)
{
    return is_refused(one) ? since_due(one) : NAN;
}

static double late(const struct one *one)
{
    return one->answer->sent_ms - one->due_ms;
}

static double server_error(const struct one *one)
{
    return fabs(one->answer->predicted_ms / one->answer->total_ms - 1);
}

static double client_error(const struct one *one)
{
    return fabs(one->answer->predicted_ms / since_due(one) - 1);
}

static double excess(const struct one *one)
{
    return one->answer->excess_loss;
}

static double degraded(const struct one *one)
{
    const struct bw_load_answer *a = one->answer;
    bool fewer = a->steps && a->steps < one->arrival->request.picture.steps;
    return is_admitted(one) ? a->excess_loss > 0 || fewer : NAN;
}

/* ---- summaries ---- */

static struct one one_of(const struct bw_load_run *run, int i)
{
    const struct bw_arrival *arrival = &run->plan->trace.arrivals[i];
    return (struct one){.arrival = arrival,
                        .answer = &run->answers[i],
                        .due_ms = run->start_ms + arrival->at_ms,
                        .start_ms = run->start_ms};
}

static bool belongs(const struct bw_load_run *run, int i, int group)
{
    return group == ALL || run->plan->groups[i] == group;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The least value that so many percent of the values do not exceed. */
static double percentile(const double *sorted, int count, int percent)
{
    long long rank = ((long long)count * percent + 99) / 100;
    return sorted[rank ? rank - 1 : 0];
}

/* `values` is room for as many numbers as there are requests. */
static struct spread spread_of(const struct bw_load_run *run, int group, figure_fn *figure,
                               double *values)
{
    int count = 0;
    double sum = 0;
    for (int i = 0; i < run->plan->trace.count; i++) {
        struct one one = one_of(run, i);
        double value = belongs(run, i, group) ? figure(&one) : NAN;
        if (!isfinite(value))
            continue;
        values[count++] = value;
        sum += value;
    }
    if (!count)
        return (struct spread){NAN, NAN, NAN, NAN, NAN, NAN};
    qsort(values, (size_t)count, sizeof *values, compare);
    return (struct spread){.p50 = percentile(values, count, 50),
                           .p90 = percentile(values, count, 90),
                           .p95 = percentile(values, count, 95),
                           .p99 = percentile(values, count, 99),
                           .most = values[count - 1],
                           .mean = sum / count};
}

static void count_one(struct summary *s, const struct one *one)
{
    int status = one->answer->status;
    bool timed = one->arrival->request.deadline_ms > 0;
    s->offered++;
    s->admitted += status == 200;
    s->refused_429 += status == 429;
    s->refused_503 += status == 503;
    s->no_answer += status == 0;
    s->other_status += status && !is_admitted(one) && !is_refused(one);
    s->timed += timed;
    s->timed_admitted += timed && is_admitted(one);
    s->met += timed && is_met(one);
}

static struct summary summary_of(const struct bw_load_run *run, int group, double *values)
{
    struct summary s = {0};
    for (int i = 0; i < run->plan->trace.count; i++) {
        struct one one = one_of(run, i);
        if (belongs(run, i, group))
            count_one(&s, &one);
    }
    s.latency = spread_of(run, group, latency, values);
    s.refusal = spread_of(run, group, refusal, values);
    s.late = spread_of(run, group, late, values);
    s.server_error = spread_of(run, group, server_error, values);
    s.client_error = spread_of(run, group, client_error, values);
    s.excess = spread_of(run, group, excess, values);
    s.degraded = spread_of(run, group, degraded, values);
    return s;
}

static int refused(const struct summary *s)
{
    return s->refused_429 + s->refused_503;
}

static int failed(const struct summary *s)
{
    return s->no_answer + s->other_status;
}

/* A share of nothing is not known. */
static double share(int part, int whole)
{
    return whole ? (double)part / whole : NAN;
}

/* What was asked for in time, or without a deadline at all, and came. */
static int good(const struct summary *s)
{
    return s->met + s->admitted - s->timed_admitted;
}

/* Requests a second: between the first sent and the last, and from the beginning to the last
 * answer. */
struct rates {
    double sent, admitted, good, answered_s;
};

static struct rates rates_of(const struct bw_load_run *run, const struct summary *all)
{
    double sent_s = 0, answered_s = 0;
    for (int i = 0; i < all->offered; i++) {
        sent_s = fmax(sent_s, (run->answers[i].sent_ms - run->answers[0].sent_ms) / 1e3);
        answered_s = fmax(answered_s, (run->answers[i].done_ms - run->start_ms) / 1e3);
    }
    return (struct rates){.sent = all->offered > 1 ? (all->offered - 1) / sent_s : NAN,
                          .admitted = all->admitted / answered_s,
                          .good = good(all) / answered_s,
                          .answered_s = answered_s};
}

/* ---- for machines ---- */

/* `"key":` and a comma before, unless it is the first of its object. */
static void put_key(struct bw_buf *out, const char *key)
{
    bool first = out->length_bytes && out->data[out->length_bytes - 1] == '{';
    bw_buf_addf(out, "%s\"%s\":", first ? "" : ",", key);
}

static void put(struct bw_buf *out, const char *key, double value)
{
    put_key(out, key);
    bw_buf_addf(out, isfinite(value) ? "%.6g" : "null", value);
}

static void put_ms(struct bw_buf *out, const char *key, double value_ms)
{
    put_key(out, key);
    bw_buf_addf(out, isfinite(value_ms) ? "%.3f" : "null", value_ms);
}

static void put_count(struct bw_buf *out, const char *key, int count)
{
    put_key(out, key);
    bw_buf_addf(out, "%d", count);
}

static void put_counts(struct bw_buf *out, const struct summary *s)
{
    put_count(out, "offered", s->offered);
    put_count(out, "admitted", s->admitted);
    put_count(out, "refused", refused(s));
    put_count(out, "refused_429", s->refused_429);
    put_count(out, "refused_503", s->refused_503);
    put_count(out, "failed", failed(s));
    put_count(out, "failed_no_answer", s->no_answer);
    put_count(out, "failed_other_status", s->other_status);
    put_count(out, "good", good(s));
    put(out, "good_of_offered", share(good(s), s->offered));
    bw_buf_add_text(out, ",\"deadline\":{");
    put_count(out, "offered", s->timed);
    put_count(out, "admitted", s->timed_admitted);
    put_count(out, "met", s->met);
    put(out, "met_of_admitted", share(s->met, s->timed_admitted));
    put(out, "met_of_offered", share(s->met, s->timed));
    bw_buf_add_text(out, "}");
}

static void put_summary(struct bw_buf *out, const struct summary *s)
{
    put_counts(out, s);
    bw_buf_add_text(out, ",\"latency_ms\":{");
    put_ms(out, "p50", s->latency.p50);
    put_ms(out, "p90", s->latency.p90);
    put_ms(out, "p95", s->latency.p95);
    put_ms(out, "p99", s->latency.p99);
    put_ms(out, "max", s->latency.most);
    bw_buf_add_text(out, "},\"refusal_ms\":{");
    put_ms(out, "p50", s->refusal.p50);
    put_ms(out, "p99", s->refusal.p99);
    bw_buf_add_text(out, "},\"prediction_error\":{");
    put(out, "server_p50", s->server_error.p50);
    put(out, "server_p95", s->server_error.p95);
    put(out, "client_p50", s->client_error.p50);
    put(out, "client_p95", s->client_error.p95);
    bw_buf_add_text(out, "}");
    put(out, "mean_excess_loss", s->excess.mean);
    put(out, "degraded_share", s->degraded.mean);
}

static void report_json(const struct bw_load_run *run, const struct summary *all, double *values,
                        struct bw_buf *out)
{
    struct rates rates = rates_of(run, all);
    bw_buf_add_text(out, "{");
    put_summary(out, all);
    put(out, "seconds", rates.answered_s);
    put(out, "sent_per_s", rates.sent);
    put(out, "admitted_per_s", rates.admitted);
    put(out, "good_per_s", rates.good);
    bw_buf_add_text(out, ",\"generator\":{");
    put_ms(out, "late_p50_ms", all->late.p50);
    put_ms(out, "late_p99_ms", all->late.p99);
    put_ms(out, "late_max_ms", all->late.most);
    bw_buf_add_text(out, "},\"groups\":[");
    for (int i = 0; i < run->plan->group_count; i++) {
        struct summary s = summary_of(run, i, values);
        bw_buf_addf(out, "%s{\"name\":\"%s\"", i ? "," : "", run->plan->names[i]);
        put_summary(out, &s);
        bw_buf_add_text(out, "}");
    }
    bw_buf_add_text(out, "]}\n");
}

/* ---- for people ---- */

/* A number in a column of eight, or a dash. */
static void cell(struct bw_buf *out, const char *format, double value)
{
    if (isfinite(value))
        bw_buf_addf(out, format, value);
    else
        bw_buf_addf(out, "%8s", "-");
}

static void print_counts(const struct summary *s, struct bw_buf *out)
{
    bw_buf_addf(out, "offered    %8d\n", s->offered);
    bw_buf_addf(out, "admitted   %8d   %.1f %% of offered\n", s->admitted,
                100 * share(s->admitted, s->offered));
    bw_buf_addf(out, "refused    %8d   429: %d, 503: %d\n", refused(s), s->refused_429,
                s->refused_503);
    bw_buf_addf(out, "failed     %8d   no answer: %d, other status: %d\n", failed(s), s->no_answer,
                s->other_status);
    bw_buf_addf(out, "good       %8d   %.1f %% of offered: deadline met, or admitted without one\n",
                good(s), 100 * share(good(s), s->offered));
    if (!s->timed)
        return;
    bw_buf_addf(out, "deadlines  %8d   %d admitted, %d met:", s->timed, s->timed_admitted, s->met);
    if (s->timed_admitted)
        bw_buf_addf(out, " %.1f %% of admitted,", 100 * share(s->met, s->timed_admitted));
    bw_buf_addf(out, " %.1f %% of offered\n", 100 * share(s->met, s->timed));
}

static void print_rates(const struct bw_load_run *run, const struct summary *s, struct bw_buf *out)
{
    struct rates rates = rates_of(run, s);
    bw_buf_addf(out, "a second   ");
    cell(out, "%8.2f", rates.sent);
    bw_buf_addf(out, "   sent; %.2f admitted, %.2f good until the last answer at %.1f s\n",
                rates.admitted, rates.good, rates.answered_s);
}

static void print_spread(struct bw_buf *out, const char *name, const struct spread *s,
                         const char *format, double scale)
{
    bw_buf_addf(out, "%-19s", name);
    const double values[] = {s->p50, s->p90, s->p95, s->p99, s->most};
    for (int i = 0; i < 5; i++)
        cell(out, format, scale * values[i]);
    bw_buf_add_text(out, "\n");
}

static void print_groups(const struct bw_load_run *run, double *values, struct bw_buf *out)
{
    bw_buf_addf(out, "\n%-19s %7s %7s %7s %7s %7s %7s %7s %7s\n", "", "offered", "admit'd",
                "refused", "failed", "good %", "p50 ms", "p99 ms", "degr. %");
    for (int i = 0; i < run->plan->group_count; i++) {
        struct summary s = summary_of(run, i, values);
        bw_buf_addf(out, "%-19s%8d%8d%8d%8d", run->plan->names[i], s.offered, s.admitted,
                    refused(&s), failed(&s));
        cell(out, "%8.1f", 100 * share(good(&s), s.offered));
        cell(out, "%8.1f", s.latency.p50);
        cell(out, "%8.1f", s.latency.p99);
        cell(out, "%8.1f", 100 * s.degraded.mean);
        bw_buf_add_text(out, "\n");
    }
}

static void report_table(const struct bw_load_run *run, const struct summary *all, double *values,
                         struct bw_buf *out)
{
    print_counts(all, out);
    print_rates(run, all, out);
    bw_buf_addf(out, "\n%-19s %7s %7s %7s %7s %7s\n", "", "p50", "p90", "p95", "p99", "max");
    print_spread(out, "latency, ms", &all->latency, "%8.1f", 1);
    print_spread(out, "refusal, ms", &all->refusal, "%8.2f", 1);
    print_spread(out, "sent too late, ms", &all->late, "%8.3f", 1);
    print_spread(out, "predicted, % off", &all->server_error, "%8.1f", 100);
    print_spread(out, "  of client's time", &all->client_error, "%8.1f", 100);
    if (all->admitted)
        bw_buf_addf(out, "\ndegraded %.1f %% of admitted, mean excess loss %.4g\n",
                    100 * all->degraded.mean, isfinite(all->excess.mean) ? all->excess.mean : 0);
    if (run->plan->group_count > 1)
        print_groups(run, values, out);
}

int bw_load_report(const struct bw_load_run *run, bool json, struct bw_buf *out, struct bw_err *err)
{
    double *values = malloc(sizeof *values * (size_t)run->plan->trace.count);
    if (!values)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    struct summary all = summary_of(run, ALL, values);
    (json ? report_json : report_table)(run, &all, values, out);
    free(values);
    return out->failed ? bw_err_set(err, BW_ENOMEM, "out of memory") : BW_OK;
}

/* ---- request by request ---- */

static void log_one(const struct one *one, struct bw_buf *out)
{
    const struct bw_load_answer *a = one->answer;
    double deadline_ms = one->arrival->request.deadline_ms;
    bw_buf_add_text(out, "{");
    put_ms(out, "at_ms", one->arrival->at_ms);
    put_ms(out, "sent_ms", a->sent_ms - one->start_ms);
    put_count(out, "status", a->status);
    put_ms(out, "latency_ms", since_due(one));
    put_ms(out, "total_ms", a->total_ms);
    put_ms(out, "predicted_ms", a->predicted_ms);
    put_ms(out, "deadline_ms", deadline_ms > 0 ? deadline_ms : NAN);
    bw_buf_addf(out, ",\"met\":%s", deadline_ms <= 0 ? "null" : is_met(one) ? "true" : "false");
    put(out, "excess_loss", a->excess_loss);
    put(out, "steps", a->steps ? (double)a->steps : NAN);
    if (*one->arrival->client)
        bw_buf_addf(out, ",\"client\":\"%s\"", one->arrival->client);
    bw_buf_add_text(out, "}\n");
}

void bw_load_report_log(const struct bw_load_run *run, struct bw_buf *out)
{
    for (int i = 0; i < run->plan->trace.count; i++) {
        struct one one = one_of(run, i);
        log_one(&one, out);
    }
}
