/* A list of messages under a lock and libcurl's multi interface on one thread. A message under way
 * is the thread's own; all others may be dropped by whoever holds the lock. */
#include "server/webhook.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "base/version.h"
#include "engine/digest.h"
#include "server/allow.h"
#include "server/signature.h"
#include "server/trace_context.h"

#include <assert.h>
#include <curl/curl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MOST_MESSAGES = 256,
    MOST_AT_ONCE = 16,
    MOST_ATTEMPTS = 5,
    LONGEST_PAUSE_MS = 300000, // whatever Retry-After says
    HOST_CHARS = 256,
    ID_DIGITS = 32,
};

struct message {
    char url[BW_WEBHOOK_URL_CHARS];
    char host[HOST_CHARS];
    enum bw_allowed allowed;
    char id[8 + ID_DIGITS];
    char *body, traceparent[BW_TRACEPARENT_CHARS];
    int attempts;
    double due_ms;
    bool is_under_way;
    /* of the attempt */
    CURL *easy;
    struct curl_slist *headers;
    int opened, refused; // addresses
    TAILQ_ENTRY(message) in_list;
};

TAILQ_HEAD(messages, message);

struct bw_webhook {
    char allow[BW_ALLOW_CHARS];
    struct bw_secret secret;
    int timeout_ms, pause_ms;
    struct bw_metrics *metrics;
    CURLM *multi;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; // of what follows
    struct messages messages;
    int count, under_way;
    double stop_ms; // when to stop at the latest; 0: not told to
};

/* Count and log what became of a message; a reason only if it is not delivered. */
static void note(const struct bw_webhook *w, const struct message *m, enum bw_delivery delivery,
                 const char *reason)
{
    static const struct {
        enum bw_log_level level;
        const char *event;
    } kinds[BW_DELIVERIES] = {[BW_DELIVERED] = {BW_LOG_INFO, "webhook-delivered"},
                              [BW_RETRIED] = {BW_LOG_INFO, "webhook-failed"},
                              [BW_GIVEN_UP] = {BW_LOG_WARN, "webhook-given-up"},
                              [BW_DROPPED] = {BW_LOG_WARN, "webhook-dropped"}};
    struct bw_log_line line;
    bw_metrics_webhook(w->metrics, delivery);
    bw_log_begin(&line, kinds[delivery].level, kinds[delivery].event);
    bw_log_text(&line, "webhook_id", m->id);
    bw_log_text(&line, "host", m->host);
    bw_log_int(&line, "attempts", m->attempts);
    if (reason)
        bw_log_text(&line, "reason", reason);
    bw_log_end(&line);
}

static void free_message(struct message *m)
{
    free(m->body);
    free(m);
}

/* Under the lock. */
static void take_out(struct bw_webhook *w, struct message *m)
{
    TAILQ_REMOVE(&w->messages, m, in_list);
    assert(TAILQ_FIRST(&w->messages) != m);
    w->count--;
}

/* ---- URLs ---- */

static const char no_memory[] = "out of memory";

/* Why this is no URL to call, or NULL; then with its host and what the list says of it. */
static const char *read_url(const struct bw_webhook *w, const char *url, char host[HOST_CHARS],
                            enum bw_allowed *allowed)
{
    CURLU *parsed = curl_url();
    char *name = NULL, *port = NULL, *scheme = NULL;
    const char *wrong = NULL;
    int64_t number = 0;
    CURLUcode code = parsed ? curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER)
                            : CURLUE_OUT_OF_MEMORY;
    code = code ? code : curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
    code = code ? code : curl_url_get(parsed, CURLUPART_HOST, &name, 0);
    code = code ? code : curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    if (strlen(url) >= BW_WEBHOOK_URL_CHARS)
        wrong = "too long";
    else if (code == CURLUE_OUT_OF_MEMORY)
        wrong = no_memory;
    else if (code == CURLUE_USER_NOT_ALLOWED)
        wrong = "a URL with a user name is not allowed";
    else if (!name || strlen(name) >= HOST_CHARS)
        wrong = "not a URL";
    else if (strcmp(scheme, "http") && strcmp(scheme, "https"))
        wrong = "neither http nor https";
    else if (code || !bw_text_to_int(port, 1, 65535, &number))
        wrong = "not a port";
    else if (!(*allowed = bw_allow_find(w->allow, name, (int)number)))
        wrong = "not one of the hosts that the operator allows";
    if (!wrong)
        snprintf(host, HOST_CHARS, "%s", name);
    curl_free(name);
    curl_free(port);
    curl_free(scheme);
    curl_url_cleanup(parsed);
    return wrong;
}

int bw_webhook_check(const struct bw_webhook *webhook, const char *url, struct bw_err *err)
{
    char host[HOST_CHARS];
    enum bw_allowed allowed;
    const char *wrong = webhook ? read_url(webhook, url, host, &allowed)
                                : "the operator has not switched on webhooks";
    if (wrong == no_memory)
        return bw_err_set(err, BW_ENOMEM, "%s", wrong);
    return wrong ? bw_err_set_field(err, BW_ERANGE, "/webhook", "%s", wrong) : BW_OK;
}

/* ---- one attempt ---- */

static size_t discard(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

/* libcurl asks for a socket for each address it is about to connect to. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct message *m = context;
    (void)purpose;
    if (!bw_allow_address(m->allowed, &address->addr)) {
        m->refused++;
        return CURL_SOCKET_BAD;
    }
    m->opened++;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool add_header(struct curl_slist **headers, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*headers, text);
    *headers = longer ? longer : *headers;
    return longer;
}

static bool make_headers(const struct bw_webhook *w, struct message *m)
{
    char id[80], time[80], signature[128], trace[16 + BW_TRACEPARENT_CHARS];
    struct bw_buf signed_text = {0};
    int64_t now_s = bw_unix_s();
    bw_sign(&w->secret, m->id, now_s, m->body, &signed_text);
    snprintf(id, sizeof id, "webhook-id: %s", m->id);
    snprintf(time, sizeof time, "webhook-timestamp: %lld", (long long)now_s);
    snprintf(signature, sizeof signature, "webhook-signature: %s",
             signed_text.failed ? "" : signed_text.data);
    snprintf(trace, sizeof trace, "traceparent: %s", m->traceparent);
    bool well = !signed_text.failed && add_header(&m->headers, "Content-Type: application/json") &&
                add_header(&m->headers, "Expect:") && add_header(&m->headers, id) &&
                add_header(&m->headers, time) && add_header(&m->headers, signature) &&
                (!*m->traceparent || add_header(&m->headers, trace));
    bw_buf_release(&signed_text);
    return well;
}

static void set_options(const struct bw_webhook *w, struct message *m)
{
    CURL *easy = m->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, m);
    curl_easy_setopt(easy, CURLOPT_URL, m->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, m);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); // a timeout is one for a slow resolver, too
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)w->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "Brickwork/" BW_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, m->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, m->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(m->body));
}

static void end_attempt(struct bw_webhook *w, struct message *m)
{
    if (m->easy)
        curl_multi_remove_handle(w->multi, m->easy);
    curl_easy_cleanup(m->easy);
    curl_slist_free_all(m->headers);
    m->easy = NULL;
    m->headers = NULL;
}

/* A message is over, for better or worse. */
static void finish(struct bw_webhook *w, struct message *m)
{
    pthread_mutex_lock(&w->lock);
    take_out(w, m);
    w->under_way--;
    pthread_mutex_unlock(&w->lock);
    free_message(m);
}

static void try_later(struct bw_webhook *w, struct message *m, double wanted_ms, const char *reason)
{
    double jitter = 0.5 + (double)(bw_random() >> 11) * 0x1p-53; // 0.5 to 1.5
    double pause_ms = w->pause_ms * pow(4, m->attempts - 1) * jitter;
    pause_ms = fmin(fmax(pause_ms, wanted_ms), LONGEST_PAUSE_MS);
    note(w, m, BW_RETRIED, reason);
    pthread_mutex_lock(&w->lock);
    m->due_ms = bw_now_ms() + pause_ms;
    m->is_under_way = false;
    w->under_way--;
    pthread_mutex_unlock(&w->lock);
}

/* What an attempt that came to an end means. */
static void judge(struct bw_webhook *w, struct message *m, CURLcode result)
{
    long status = 0;
    curl_off_t wanted_s = 0;
    char reason[96];
    curl_easy_getinfo(m->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(m->easy, CURLINFO_RETRY_AFTER, &wanted_s);
    end_attempt(w, m);
    bool is_refused = m->refused && !m->opened;
    if (is_refused)
        snprintf(reason, sizeof reason, "its address is not a public one");
    else if (result)
        snprintf(reason, sizeof reason, "%s", curl_easy_strerror(result));
    else
        snprintf(reason, sizeof reason, "status %ld", status);
    if (!result && status >= 200 && status < 300) {
        note(w, m, BW_DELIVERED, NULL);
        finish(w, m);
    } else if (is_refused || (!result && status == 410) || m->attempts >= MOST_ATTEMPTS) {
        note(w, m, BW_GIVEN_UP, reason);
        finish(w, m);
    } else {
        try_later(w, m, result ? 0 : 1e3 * (double)wanted_s, reason);
    }
}

static void begin_attempt(struct bw_webhook *w, struct message *m)
{
    m->attempts++;
    m->opened = m->refused = 0;
    m->easy = curl_easy_init();
    if (m->easy && make_headers(w, m)) {
        set_options(w, m);
        if (!curl_multi_add_handle(w->multi, m->easy))
            return;
    }
    judge(w, m, CURLE_OUT_OF_MEMORY);
}

/* ---- the thread ---- */

/* Take the next message that is due, or NULL. */
static struct message *take_due(struct bw_webhook *w, double now_ms)
{
    struct message *found = NULL;
    pthread_mutex_lock(&w->lock);
    if (w->under_way < MOST_AT_ONCE) {
        TAILQ_FOREACH(found, &w->messages, in_list) {
            if (!found->is_under_way && found->due_ms <= now_ms)
                break;
        }
    }
    if (found) {
        found->is_under_way = true;
        w->under_way++;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

/* How long nothing is due, or -1: it is time to stop. */
static int idle_ms(struct bw_webhook *w)
{
    double now_ms = bw_now_ms(), next_ms = now_ms + 60000;
    struct message *m;
    pthread_mutex_lock(&w->lock);
    TAILQ_FOREACH(m, &w->messages, in_list) {
        if (!m->is_under_way && w->under_way < MOST_AT_ONCE)
            next_ms = fmin(next_ms, m->due_ms);
    }
    bool is_over = w->stop_ms && (now_ms >= w->stop_ms || (!w->under_way && next_ms > now_ms));
    if (w->stop_ms)
        next_ms = fmin(next_ms, w->stop_ms);
    pthread_mutex_unlock(&w->lock);
    return is_over ? -1 : (int)ceil(fmax(next_ms - now_ms, 0));
}

static void *run(void *context)
{
    struct bw_webhook *w = context;
    for (int wait_ms; (wait_ms = idle_ms(w)) >= 0;) {
        struct message *m;
        CURLMsg *news;
        int left;
        curl_multi_poll(w->multi, NULL, 0, wait_ms, NULL);
        while ((m = take_due(w, bw_now_ms())))
            begin_attempt(w, m);
        curl_multi_perform(w->multi, &left);
        while ((news = curl_multi_info_read(w->multi, &left))) {
            char *private = NULL;
            CURLcode result = news->data.result;
            curl_easy_getinfo(news->easy_handle, CURLINFO_PRIVATE, &private);
            judge(w, (struct message *)(void *)private, result);
        }
    }
    return NULL;
}

void bw_webhook_send(struct bw_webhook *w, const char *url, const char *event, const char *body,
                     const char *traceparent)
{
    char digest[BW_DIGEST_CHARS];
    struct message *m = w ? calloc(1, sizeof *m) : NULL, *dropped = NULL;
    if (w && !m)
        note(w, &(struct message){0}, BW_DROPPED, no_memory);
    if (!m)
        return;
    bw_digest(event, strlen(event), digest);
    snprintf(m->url, sizeof m->url, "%s", url);
    snprintf(m->id, sizeof m->id, "msg_%.*s", ID_DIGITS, digest);
    snprintf(m->traceparent, sizeof m->traceparent, "%s", traceparent);
    m->body = strdup(body);
    m->due_ms = bw_now_ms();
    const char *wrong = read_url(w, url, m->host, &m->allowed);
    if (wrong || !m->body) {
        note(w, m, BW_DROPPED, wrong ? wrong : no_memory);
        free_message(m);
        return;
    }
    pthread_mutex_lock(&w->lock);
    if (w->count == MOST_MESSAGES) {
        dropped = TAILQ_FIRST(&w->messages);
        while (dropped->is_under_way) // not all are
            dropped = TAILQ_NEXT(dropped, in_list);
        take_out(w, dropped);
    }
    TAILQ_INSERT_TAIL(&w->messages, m, in_list);
    w->count++;
    pthread_mutex_unlock(&w->lock);
    curl_multi_wakeup(w->multi);
    if (dropped) {
        note(w, dropped, BW_DROPPED, "too many are waiting");
        free_message(dropped);
    }
}

/* ---- start and end ---- */

static int read_secret(struct bw_webhook *w, const char *path, struct bw_err *err)
{
    struct bw_buf text = {.ceiling_bytes = 4096};
    struct bw_err reason = {0};
    struct stat file;
    if (!*path)
        return bw_err_set(err, BW_ERANGE, "webhook-allow needs a webhook-secret-file");
    int code = bw_buf_add_file(&text, path, err);
    if (!code && bw_secret_parse(&w->secret, text.data ? text.data : "", &reason))
        code = bw_err_set(err, BW_ERANGE, "%s: %s", path, reason.message);
    if (!code && stat(path, &file) == 0 && file.st_mode & S_IROTH)
        bw_log_message(BW_LOG_WARN, "webhook-secret", "every user of this machine may read it");
    bw_buf_release(&text);
    return code;
}

int bw_webhook_new(struct bw_webhook **webhook, const struct bw_webhook_settings *settings,
                   struct bw_err *err)
{
    if (!settings->allow[strspn(settings->allow, " ")]) {
        *webhook = NULL;
        return BW_OK;
    }
    int code = bw_allow_check(settings->allow, err);
    if (code)
        return code;
    struct bw_webhook *w = calloc(1, sizeof *w);
    if (!w)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    pthread_mutex_init(&w->lock, NULL);
    TAILQ_INIT(&w->messages);
    snprintf(w->allow, sizeof w->allow, "%s", settings->allow);
    w->timeout_ms = settings->timeout_ms ? settings->timeout_ms : 10000;
    w->metrics = settings->metrics;
    w->pause_ms = settings->pause_ms ? settings->pause_ms : 1000;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    code = read_secret(w, settings->secret_file, err);
    if (!code && !(w->multi = curl_multi_init()))
        code = bw_err_set(err, BW_ENOMEM, "libcurl does not start");
    if (!code && pthread_create(&w->thread, NULL, run, w))
        code = bw_err_set(err, BW_ENOMEM, "no thread for webhooks");
    w->has_thread = !code;
    if (code)
        bw_webhook_free(w, 0);
    else
        *webhook = w;
    return code;
}

void bw_webhook_free(struct bw_webhook *w, int most_ms)
{
    struct message *m;
    if (!w)
        return;
    if (w->has_thread) {
        pthread_mutex_lock(&w->lock);
        w->stop_ms = bw_now_ms() + most_ms;
        pthread_mutex_unlock(&w->lock);
        curl_multi_wakeup(w->multi);
        pthread_join(w->thread, NULL);
    }
    while ((m = TAILQ_FIRST(&w->messages))) {
        note(w, m, BW_DROPPED, "the server stops");
        end_attempt(w, m);
        take_out(w, m);
        free_message(m);
    }
    curl_multi_cleanup(w->multi);
    curl_global_cleanup();
    pthread_mutex_destroy(&w->lock);
    memset(&w->secret, 0, sizeof w->secret);
    free(w);
}
