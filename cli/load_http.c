/* libcurl's multi interface and a timer of the kernel that wakes its poll, which by itself counts
 * in whole milliseconds. An easy handle lives as long as the load: handles without work are in a
 * list. */
#include "cli/load_http.h"

#include "base/clock.h"
#include "base/text.h"
#include "cli/url.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { LONGEST_WAIT_MS = 1000 };

struct call {
    CURL *easy;
    struct bw_load_answer *answer;
    struct call *next_idle, *next; // of the idle ones, of all
};

struct bw_load_http {
    char url[BW_URL_CHARS];
    long timeout_ms;
    CURLM *multi;
    /* libcurl lets a request without an address of its own reuse a connection bound to one, as
     * which the server would take it for another client: those requests have a pool of their own.
     */
    CURLSH *unbound;
    struct curl_slist *headers[BW_FORMAT_WEBP + 1]; // by format; NULL for BW_FORMAT_ANY
    struct call *all, *idle;
    int timer; // file descriptor
    int pending;
};

static struct curl_slist *new_headers(enum bw_format format)
{
    char accept[64];
    snprintf(accept, sizeof accept, "Accept: %s", bw_format_media_type(format));
    struct curl_slist *first = curl_slist_append(NULL, accept);
    struct curl_slist *second =
        first ? curl_slist_append(first, "Content-Type: application/json") : NULL;
    if (!second)
        curl_slist_free_all(first);
    return second;
}

static bool prepare(struct bw_load_http *http, int idle_connections)
{
    http->multi = curl_multi_init();
    http->unbound = curl_share_init();
    http->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (!http->multi || !http->unbound || http->timer < 0)
        return false;
    for (int f = BW_FORMAT_JPEG; f <= BW_FORMAT_WEBP; f++) {
        http->headers[f] = new_headers((enum bw_format)f);
        if (!http->headers[f])
            return false;
    }
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)idle_connections);
    curl_share_setopt(http->unbound, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT);
    return true;
}

/* A load may need a connection for each of its requests. */
static void allow_many_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int bw_load_http_new(struct bw_load_http **http, const char *url, int idle_connections,
                     double timeout_s, struct bw_err *err)
{
    struct bw_load_http *h = calloc(1, sizeof *h);
    if (!h)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    h->timer = -1;
    h->timeout_ms = lround(timeout_s * 1e3);
    allow_many_files();
    int code = curl_global_init(CURL_GLOBAL_DEFAULT)
                   ? bw_err_set(err, BW_EIO, "libcurl does not start")
                   : bw_cmd_url(h->url, url, "/v1/generate", err);
    if (!code && !prepare(h, idle_connections))
        code = bw_err_set(err, BW_EIO, "no connections can be prepared");
    if (code)
        bw_load_http_free(h);
    else
        *http = h;
    return code;
}

static size_t discard(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

/* What is the same for all requests. */
static struct call *new_call(struct bw_load_http *http)
{
    struct call *call = calloc(1, sizeof *call);
    CURL *easy = call ? curl_easy_init() : NULL;
    if (!easy) {
        free(call);
        return NULL;
    }
    curl_easy_setopt(easy, CURLOPT_URL, http->url);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, http->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    *call = (struct call){.easy = easy, .next = http->all};
    http->all = call;
    return call;
}

static struct call *take_call(struct bw_load_http *http)
{
    struct call *call = http->idle;
    if (!call)
        return new_call(http);
    http->idle = call->next_idle;
    return call;
}

static void address(const struct bw_load_http *http, CURL *easy, const struct bw_arrival *arrival)
{
    char interface[BW_TRACE_CLIENT_CHARS + 8];
    snprintf(interface, sizeof interface, "host!%s", arrival->client);
    curl_easy_setopt(easy, CURLOPT_INTERFACE, *arrival->client ? interface : NULL);
    curl_easy_setopt(easy, CURLOPT_SHARE, *arrival->client ? NULL : http->unbound);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, arrival->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(arrival->body));
    enum bw_format format = arrival->request.format;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
                     http->headers[format == BW_FORMAT_ANY ? BW_FORMAT_JPEG : format]);
}

void bw_load_http_send(struct bw_load_http *http, const struct bw_arrival *arrival,
                       struct bw_load_answer *answer)
{
    struct call *call = take_call(http);
    double now_ms = bw_now_ms();
    *answer = (struct bw_load_answer){.sent_ms = now_ms,
                                      .done_ms = now_ms,
                                      .failure = "out of memory",
                                      .predicted_ms = NAN,
                                      .total_ms = NAN,
                                      .excess_loss = NAN};
    if (!call)
        return;
    call->answer = answer;
    address(http, call->easy, arrival);
    if (curl_multi_add_handle(http->multi, call->easy)) {
        call->next_idle = http->idle;
        http->idle = call;
    } else {
        http->pending++;
    }
}

int bw_load_http_pending(const struct bw_load_http *http)
{
    return http->pending;
}

/* ---- answers ---- */

static const char *header(CURL *easy, const char *name)
{
    struct curl_header *found;
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                  : "";
}

/* The duration of one metric of Server-Timing, e.g. "queue;dur=1.5, total;dur=20". */
static double duration_of(const char *timing, const char *metric)
{
    size_t length = strlen(metric);
    while (*timing) {
        timing += strspn(timing, " ,");
        const char *value =
            strncmp(timing, metric, length) == 0 ? bw_text_after(timing + length, ";dur=") : NULL;
        if (value)
            return strtod(value, NULL);
        timing += strcspn(timing, ",");
    }
    return NAN;
}

static void read_headers(CURL *easy, struct bw_load_answer *answer)
{
    const char *timing = header(easy, "Server-Timing");
    answer->predicted_ms = duration_of(timing, "predicted");
    answer->total_ms = duration_of(timing, "total");
    double loss;
    if (bw_text_to_number(header(easy, "Brickwork-Excess-Loss"), 0, 1e9, &loss))
        answer->excess_loss = loss;
    struct bw_request run;
    const char *text = header(easy, "Brickwork-Request");
    if (*text && bw_request_parse(&run, text, strlen(text), NULL) == BW_OK)
        answer->steps = run.picture.steps;
}

static void finish(struct bw_load_http *http, CURL *easy, CURLcode result)
{
    struct call *call;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&call);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    struct bw_load_answer *answer = call->answer;
    answer->done_ms = bw_now_ms();
    answer->status = result ? 0 : (int)status;
    answer->failure = result ? curl_easy_strerror(result) : NULL;
    if (answer->status == 200)
        read_headers(easy, answer);
    curl_multi_remove_handle(http->multi, easy);
    call->next_idle = http->idle;
    http->idle = call;
    http->pending--;
}

static void set_timer(const struct bw_load_http *http, double until_ms)
{
    struct itimerspec at = {0};
    at.it_value.tv_sec = (time_t)(until_ms / 1e3);
    at.it_value.tv_nsec = (long)(fmod(until_ms, 1e3) * 1e6);
    timerfd_settime(http->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

void bw_load_http_turn(struct bw_load_http *http, double until_ms)
{
    int running, left;
    CURLMsg *message;
    curl_multi_perform(http->multi, &running);
    while ((message = curl_multi_info_read(http->multi, &left))) {
        if (message->msg == CURLMSG_DONE)
            finish(http, message->easy_handle, message->data.result);
    }
    if (!http->pending && until_ms <= 0)
        return;
    struct curl_waitfd timer = {.fd = http->timer, .events = CURL_WAIT_POLLIN};
    set_timer(http, until_ms);
    curl_multi_poll(http->multi, &timer, 1, LONGEST_WAIT_MS, NULL);
}

void bw_load_http_free(struct bw_load_http *http)
{
    if (!http)
        return;
    for (struct call *call = http->all, *next; call; call = next) {
        next = call->next;
        curl_multi_remove_handle(http->multi, call->easy);
        curl_easy_cleanup(call->easy);
        free(call);
    }
    curl_multi_cleanup(http->multi);
    curl_share_cleanup(http->unbound);
    for (int f = BW_FORMAT_JPEG; f <= BW_FORMAT_WEBP; f++)
        curl_slist_free_all(http->headers[f]);
    if (http->timer >= 0)
        close(http->timer);
    curl_global_cleanup();
    free(http);
}
