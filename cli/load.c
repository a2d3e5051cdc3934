/* An open loop: what is sent and when is settled first, and no answer changes it. */
#include "base/clock.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/load_report.h"
#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bw_option options[] = {
    {"url", "URL", "the server (default http://127.0.0.1:8080)"},
    {"trace", "FILE", "send what a trace says, or instead of it:"},
    {"rate", "R", "requests a second"},
    {"seconds", "S", "for so long"},
    {"arrivals", "HOW", "poisson or even (default poisson)"},
    {"seed", "NUMBER", "of arrivals, mix and deadlines; the same gives the same load (default 0)"},
    {"request", "JSON", "body of every request (default {})"},
    {"mix", "FILE", "instead of it, a file of what to draw requests from"},
    {"save-trace", "FILE", "write what will be sent as a trace"},
    {"log", "FILE", "write a line of JSON for each request"},
    {"json", "yes|no", "figures for machines instead of a table (default no)"},
    {"connections", "N", "idle connections to keep (default 256)"},
    {"timeout-s", "S", "give a request up after this long (default 120)"},
    {NULL, NULL, NULL},
};

struct load {
    const char *url, *trace_path, *mix_path, *request, *save_path, *log_path;
    struct bw_load_process process; // rate and seconds 0: not given
    const char *drawn;              // an option of a drawn plan that was given, or NULL
    int64_t connections;
    double timeout_s;
    bool json;
    struct bw_load_mix mix;
    struct bw_load_plan plan;
    struct bw_load_answer *answers; // [plan.trace.count]
    struct bw_load_http *http;
    double start_ms;
};

/* ---- options ---- */

static int set_number(const char *name, const char *value, double low, double high, double *out,
                      struct bw_err *err)
{
    if (!bw_text_to_number(value, low, high, out))
        return bw_err_set(err, BW_ERANGE, "--%s: not a number of %g..%g", name, low, high);
    return BW_OK;
}

static int set_int(const char *name, const char *value, int64_t low, int64_t high, int64_t *out,
                   struct bw_err *err)
{
    if (!bw_text_to_int(value, low, high, out))
        return bw_err_set(err, BW_ERANGE, "--%s: not an integer of %lld..%lld", name,
                          (long long)low, (long long)high);
    return BW_OK;
}

/* The options that say what to draw; 1: it is none of them. */
static int set_drawn(struct load *l, const char *name, const char *value, struct bw_err *err)
{
    int64_t seed = 0;
    int code = 1;
    assert(l);
    if (strcmp(name, "rate") == 0)
        code = set_number(name, value, 0.001, 100000, &l->process.rate, err);
    else if (strcmp(name, "seconds") == 0)
        code = set_number(name, value, 0.001, 86400, &l->process.seconds, err);
    else if (strcmp(name, "arrivals") == 0)
        code = bw_option_choice(name, value, "poisson", "even", &l->process.even, err);
    else if (strcmp(name, "seed") == 0)
        code = set_int(name, value, 0, BW_MAX_SEED, &seed, err);
    if (strcmp(name, "seed") == 0)
        l->process.seed = (uint64_t)seed;
    l->drawn = code == BW_OK ? name : l->drawn;
    return code;
}

/* Where the text of an option goes; NULL: it is not kept as text. */
static const char **text_of(struct load *l, const char *name)
{
    const struct {
        const char *name, **text;
    } texts[] = {{"url", &l->url},         {"trace", &l->trace_path},     {"mix", &l->mix_path},
                 {"request", &l->request}, {"save-trace", &l->save_path}, {"log", &l->log_path}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) == 0)
            return texts[i].text;
    }
    return NULL;
}

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct load *l = context;
    const char **text = text_of(l, name);
    if (text)
        *text = value;
    else if (strcmp(name, "json") == 0)
        return bw_option_choice(name, value, "no", "yes", &l->json, err);
    else if (strcmp(name, "timeout-s") == 0)
        return set_number(name, value, 0.1, 3600, &l->timeout_s, err);
    else if (strcmp(name, "connections") == 0)
        return set_int(name, value, 1, 65536, &l->connections, err);
    else
        return set_drawn(l, name, value, err);
    return BW_OK;
}

static int check_options(const struct load *l, struct bw_err *err)
{
    const char *drawn = l->mix_path ? "mix" : l->request ? "request" : l->drawn;
    if (l->trace_path && drawn)
        return bw_err_set(err, BW_ERANGE, "--%s and --trace exclude each other", drawn);
    if (l->mix_path && l->request)
        return bw_err_set(err, BW_ERANGE, "--mix and --request exclude each other");
    if (!l->trace_path && (l->process.rate <= 0 || l->process.seconds <= 0))
        return bw_err_set(err, BW_ERANGE, "--rate and --seconds are needed, or --trace");
    return BW_OK;
}

/* ---- the run ---- */

static int make_plan(struct load *l, struct bw_err *err)
{
    if (l->trace_path)
        return bw_load_plan_read(&l->plan, l->trace_path, err);
    int code = l->mix_path ? bw_load_mix_read(&l->mix, l->mix_path, err)
                           : bw_load_mix_one(&l->mix, l->request ? l->request : "{}", err);
    return code ? code : bw_load_plan_draw(&l->plan, &l->process, &l->mix, err);
}

/* Everything that can go wrong does so before the first request. */
static int prepare(struct load *l, FILE **log, struct bw_err *err)
{
    int code = make_plan(l, err);
    if (!code && l->save_path)
        code = bw_load_plan_save(&l->plan, l->save_path, err);
    if (!code)
        code = bw_load_http_new(&l->http, l->url, (int)l->connections, l->timeout_s, err);
    if (!code && l->log_path && !(*log = fopen(l->log_path, "w")))
        code = bw_err_set(err, BW_EIO, "%s: cannot be written: %s", l->log_path, strerror(errno));
    if (!code && !(l->answers = calloc((size_t)l->plan.trace.count, sizeof *l->answers)))
        code = bw_err_set(err, BW_ENOMEM, "out of memory");
    return code;
}

static void play(struct load *l)
{
    const struct bw_trace *trace = &l->plan.trace;
    int next = 0;
    l->start_ms = bw_now_ms();
    do {
        while (next < trace->count && l->start_ms + trace->arrivals[next].at_ms <= bw_now_ms()) {
            bw_load_http_send(l->http, &trace->arrivals[next], &l->answers[next]);
            next++;
        }
        bw_load_http_turn(l->http,
                          next < trace->count ? l->start_ms + trace->arrivals[next].at_ms : 0);
    } while (next < trace->count || bw_load_http_pending(l->http) > 0);
}

static int write_log(const struct load *l, const struct bw_load_run *run, FILE *log,
                     struct bw_err *err)
{
    struct bw_buf text = {0};
    bw_load_report_log(run, &text);
    bool ok = !text.failed && fwrite(text.data, 1, text.length_bytes, log) == text.length_bytes &&
              fflush(log) == 0;
    bw_buf_release(&text);
    return ok ? BW_OK : bw_err_set(err, BW_EIO, "%s: cannot be written", l->log_path);
}

/* No answer at all is a failure of the run, whatever else it measured. */
static int check_answers(const struct load *l, struct bw_err *err)
{
    int count = 0;
    const char *why = "";
    for (int i = 0; i < l->plan.trace.count; i++) {
        count += !l->answers[i].status;
        if (!l->answers[i].status && !*why)
            why = l->answers[i].failure;
    }
    return count ? bw_err_set(err, BW_EIO, "no answer to %d of %d requests: %s", count,
                              l->plan.trace.count, why)
                 : BW_OK;
}

static int run_load(struct load *l, struct bw_err *err)
{
    FILE *log = NULL;
    struct bw_buf out = {0};
    int code = prepare(l, &log, err);
    if (!code) {
        play(l);
        struct bw_load_run run = {&l->plan, l->answers, l->start_ms};
        code = bw_load_report(&run, l->json, &out, err);
        if (!code)
            fputs(out.data, stdout);
        if (!code && log)
            code = write_log(l, &run, log, err);
    }
    if (log)
        fclose(log);
    bw_buf_release(&out);
    return code ? code : check_answers(l, err);
}

int bw_cmd_offer_load(int count, char **arguments)
{
    struct load l = {.url = "http://127.0.0.1:8080", .connections = 256, .timeout_s = 120};
    struct bw_err err = {0};
    bool help;
    int code = bw_options_read(options, count, arguments, set_option, &l, &help, &err);
    if (!code && help) {
        bw_options_help(
            "usage: brickwork load --rate R --seconds S [options]\n"
            "       brickwork load --trace FILE [options]\n\n"
            "Sends requests to a server when they are due, answered or not, and reports what\n"
            "became of them. Latency counts from the moment a request was due. A trace and a mix\n"
            "hold a JSON object a line; of these members only the requests, and in a trace the\n"
            "moments, are needed:\n\n"
            "  trace: {\"at_ms\":1250,\"client\":\"127.0.0.2\",\"request\":{\"class\":3}}\n"
            "  mix:   {\"weight\":3,\"client\":\"127.0.0.2\",\"request\":{\"class\":3},"
            "\"deadline_ms\":[300,900]}",
            options);
        return BW_EXIT_OK;
    }
    if (!code)
        code = check_options(&l, &err);
    if (!code)
        code = run_load(&l, &err);
    bw_load_http_free(l.http);
    free(l.answers);
    bw_load_plan_release(&l.plan);
    bw_load_mix_release(&l.mix);
    return code ? bw_cmd_failed(&err) : BW_EXIT_OK;
}
