/* Webhooks: lists of hosts, addresses, signatures, and deliveries to a real receiver on loopback.
 */
#include "server/webhook.h"

#include "base/log.h"
#include "server/allow.h"
#include "server/signature.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* ---- lists and addresses ---- */

static void lists(void)
{
    static const char *const good[] = {"",          " ",           "a",          "a.example.com",
                                       "*.b.c",     "a:1,b:65535", " a , b:2 ",  "127.0.0.1",
                                       "[::1]",     "[::1]:80",    "*.b:443",    "localhost:8080",
                                       "xn--a.com", "a_b-c.d",     "10.0.0.1:99"};
    static const char *const bad[] = {",",       "a,",    "a,,b",     "a:0",  "a:65536", "a:b",
                                      "::1",     "*",     "*.",       "*a",   "a.*",     "a b",
                                      "a/b",     "a:1:2", "http://a", "u@a",  "[::1",    "[x]",
                                      "*.[::1]", "a..b",  ".a",       "*..a", "a:",      "[::1]x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(bw_allow_check(good[i], NULL) == BW_OK, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        CHECK_OF(bw_allow_check(bad[i], &err) == BW_ERANGE && *err.message, "%s", bad[i]);
    }
    struct bw_err err = {0};
    bw_allow_check("a, b c ,d", &err);
    CHECK_HOLDS(err.message, "\"b c \"");
}

static void hosts(void)
{
    static const char list[] =
        "hooks.example.com, *.example.org:8443,10.1.2.3:9000,[0::1],localhost";
    static const struct {
        const char *host;
        int port;
        enum bw_allowed allowed;
    } cases[] = {{"hooks.example.com", 1, BW_ALLOWED_PUBLIC},
                 {"HOOKS.Example.COM", 443, BW_ALLOWED_PUBLIC},
                 {"x.hooks.example.com", 443, BW_ALLOWED_NOT},
                 {"hooks.example.com.", 443, BW_ALLOWED_NOT},
                 {"example.com", 443, BW_ALLOWED_NOT},
                 {"a.example.org", 8443, BW_ALLOWED_PUBLIC},
                 {"a.b.example.org", 8443, BW_ALLOWED_PUBLIC},
                 {"a.example.org", 443, BW_ALLOWED_NOT},
                 {"example.org", 8443, BW_ALLOWED_NOT},
                 {".example.org", 8443, BW_ALLOWED_NOT},
                 {"badexample.org", 8443, BW_ALLOWED_NOT},
                 {"10.1.2.3", 9000, BW_ALLOWED_ADDRESS},
                 {"10.1.2.3", 80, BW_ALLOWED_NOT},
                 {"10.1.2.4", 9000, BW_ALLOWED_NOT},
                 {"[::1]", 80, BW_ALLOWED_ADDRESS},
                 {"[0:0:0:0:0:0:0:1]", 80, BW_ALLOWED_ADDRESS},
                 {"[::2]", 80, BW_ALLOWED_NOT},
                 {"localhost", 80, BW_ALLOWED_LOOPBACK},
                 {"LocalHost", 80, BW_ALLOWED_LOOPBACK},
                 {"127.0.0.1", 80, BW_ALLOWED_NOT},
                 {"", 80, BW_ALLOWED_NOT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_OF(bw_allow_find(list, cases[i].host, cases[i].port) == cases[i].allowed, "%s:%d",
                 cases[i].host, cases[i].port);
    CHECK_INT(bw_allow_find("", "hooks.example.com", 443), BW_ALLOWED_NOT);
    CHECK_INT(bw_allow_find("*.0.0.1", "127.0.0.1", 443), BW_ALLOWED_PUBLIC); // where it is not
    char longest[300] = "";
    memset(longest, 'a', 244);
    strcpy(longest + 244, ".example.org.evil.example");
    CHECK_INT(bw_allow_find("*.example.org", longest, 443), BW_ALLOWED_NOT);
}

static bool may_call(enum bw_allowed allowed, const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return bw_allow_address(allowed, (struct sockaddr *)&v4);
    CHECK_OF(inet_pton(AF_INET6, address, &v6.sin6_addr) == 1, "%s", address);
    return bw_allow_address(allowed, (struct sockaddr *)&v6);
}

static void addresses(void)
{
    static const char *const public[] = {"8.8.8.8",         "1.0.0.1",         "100.63.255.255",
                                         "100.128.0.0",     "172.15.255.255",  "172.32.0.0",
                                         "192.167.255.255", "223.255.255.255", "2606:4700::1111",
                                         "2a00::1",         "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8",
                                         "2001:4860::8888"};
    static const char *const others[] = {"0.0.0.0",
                                         "10.0.0.1",
                                         "100.64.0.1",
                                         "100.127.255.255",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.1.1",
                                         "198.19.0.1",
                                         "203.0.113.5",
                                         "224.0.0.1",
                                         "239.255.255.255",
                                         "255.255.255.255",
                                         "::",
                                         "fe80::1",
                                         "fc00::1",
                                         "fd00:ec2::254",
                                         "ff02::1",
                                         "2001:db8::1",
                                         "2002:7f00:1::",
                                         "2001::1",
                                         "::ffff:10.0.0.1",
                                         "64:ff9b::a9fe:a9fe",
                                         "::a00:1",
                                         "64:ff9b:1::1",
                                         "4000::1"};
    static const char *const loopback[] = {"127.0.0.1", "127.255.255.255", "::1",
                                           "::ffff:127.0.0.1"};
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        CHECK_OF(may_call(BW_ALLOWED_PUBLIC, public[i]), "%s", public[i]);
        CHECK_OF(!may_call(BW_ALLOWED_LOOPBACK, public[i]), "%s", public[i]);
        CHECK_OF(!may_call(BW_ALLOWED_NOT, public[i]), "%s", public[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_OF(!may_call(BW_ALLOWED_PUBLIC, others[i]), "%s", others[i]);
        CHECK_OF(!may_call(BW_ALLOWED_LOOPBACK, others[i]), "%s", others[i]);
        CHECK_OF(may_call(BW_ALLOWED_ADDRESS, others[i]), "%s", others[i]);
    }
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++) {
        CHECK_OF(!may_call(BW_ALLOWED_PUBLIC, loopback[i]), "%s", loopback[i]);
        CHECK_OF(may_call(BW_ALLOWED_LOOPBACK, loopback[i]), "%s", loopback[i]);
    }
    CHECK(!bw_allow_address(BW_ALLOWED_ADDRESS, &(struct sockaddr){.sa_family = AF_UNIX}));
}

/* ---- signatures ---- */

static void secrets(void)
{
    static const char *const bad[] = {
        "",
        "whsec_",
        "short",
        "whsec_c2hvcnQ=",
        "whsec_!!!!",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "a line of more than 24 bytes\nand another",
        "0123456789012345678901234567890123456789012345678901234567890"
        "1234"};
    struct bw_secret secret;
    CHECK(bw_secret_parse(&secret, SECRET "\r\n", NULL) == BW_OK && secret.count == 24);
    CHECK(secret.bytes[0] == 0x31 && secret.bytes[23] == 0xb0);
    CHECK(bw_secret_parse(&secret, "a secret, as it is, of 34 bytes...\n", NULL) == BW_OK);
    CHECK(secret.count == 34 && memcmp(secret.bytes, "a secret, as", 12) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_OF(bw_secret_parse(&secret, bad[i], NULL) == BW_ERANGE, "%s", bad[i]);
}

/* The example that the specification's own libraries are tested with. */
static void signatures(void)
{
    struct bw_secret secret;
    struct bw_buf text = {0};
    REQUIRE(bw_secret_parse(&secret, SECRET, NULL) == BW_OK);
    bw_sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, "{\"test\": 2432232314}", &text);
    CHECK_TEXT(text.data, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    bw_buf_release(&text);
}

/* ---- a receiver ---- */

enum { MOST_REQUESTS = 300 };

struct receiver {
    int fd, port;
    pthread_t thread;
    const char *replies[8]; // one after the other, then the last; "": none, with the line left open
    pthread_mutex_t lock;
    pthread_cond_t grown;
    bool is_held; // answers nothing
    int count;
    char *requests[MOST_REQUESTS];
};

/* A whole request; the caller frees it. */
static char *read_request(int fd)
{
    struct bw_buf text = {0};
    char block[1024];
    for (ssize_t got; (got = read(fd, block, sizeof block)) > 0;) {
        bw_buf_add(&text, block, (size_t)got);
        const char *end = strstr(text.data, "\r\n\r\n"),
                   *size = strstr(text.data, "Content-Length: ");
        if (end && strlen(end + 4) >= (size_t)(size ? atoi(size + 16) : 0))
            break;
    }
    return bw_buf_steal(&text);
}

static void *receive(void *context)
{
    struct receiver *r = context;
    int left_open[8], open_count = 0;
    for (int fd; r->count < MOST_REQUESTS && (fd = accept(r->fd, NULL, NULL)) >= 0;) {
        char *request = read_request(fd);
        pthread_mutex_lock(&r->lock);
        while (r->is_held)
            pthread_cond_wait(&r->grown, &r->lock);
        int last = 0;
        while (last < 7 && last < r->count && r->replies[last + 1])
            last++;
        const char *reply = r->replies[last];
        r->requests[r->count++] = request;
        pthread_cond_broadcast(&r->grown);
        pthread_mutex_unlock(&r->lock);
        ssize_t done = write(fd, reply, strlen(reply));
        if (done)
            close(fd);
        else
            left_open[open_count++] = fd;
    }
    while (open_count)
        close(left_open[--open_count]);
    return NULL;
}

static void start_receiver(struct receiver *r)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->grown, NULL);
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(r->fd, (struct sockaddr *)&own, sizeof own) == 0 && listen(r->fd, 512) == 0);
    getsockname(r->fd, (struct sockaddr *)&own, &length);
    r->port = ntohs(own.sin_port);
    pthread_create(&r->thread, NULL, receive, r);
}

static void hold(struct receiver *r, bool is_held)
{
    pthread_mutex_lock(&r->lock);
    r->is_held = is_held;
    pthread_cond_broadcast(&r->grown);
    pthread_mutex_unlock(&r->lock);
}

static void wait_requests(struct receiver *r, int count)
{
    pthread_mutex_lock(&r->lock);
    while (r->count < count)
        pthread_cond_wait(&r->grown, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* Stop it; then `count` and `requests` can be looked at. */
static void stop_receiver(struct receiver *r)
{
    shutdown(r->fd, SHUT_RDWR);
    pthread_join(r->thread, NULL);
    close(r->fd);
}

static void free_receiver(struct receiver *r)
{
    for (int i = 0; i < r->count; i++)
        free(r->requests[i]);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->grown);
}

/* ---- what is sent ---- */

static char secret_file[64];
static char log_file[64];
static struct bw_metrics metrics; // of the webhook made last

#define TRACEPARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static struct bw_webhook *new_webhook(const char *allow, int timeout_ms, int pause_ms)
{
    struct bw_webhook *w = NULL;
    struct bw_err err = {0};
    bw_metrics_init(&metrics);
    const struct bw_webhook_settings settings = {allow, secret_file, timeout_ms, pause_ms,
                                                 &metrics};
    CHECK_OF(bw_webhook_new(&w, &settings, &err) == BW_OK && w, "%s", err.message);
    return w;
}

/* What was logged since the last time; the caller frees it. */
static char *take_log(void)
{
    struct bw_buf text = {0};
    CHECK(bw_buf_add_file(&text, log_file, NULL) == BW_OK);
    CHECK(ftruncate(STDERR_FILENO, 0) == 0 && lseek(STDERR_FILENO, 0, SEEK_SET) == 0);
    return bw_buf_steal(&text);
}

static int occurrences(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        count++;
    return count;
}

/* The value of a header of a request, "" if there is none. */
static void header_of(const char *request, const char *name, char value[128])
{
    char line[64];
    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *found = strstr(request, line);
    found = found ? found + strlen(line) : "";
    snprintf(value, 128, "%.*s", (int)strcspn(found, "\r"), found);
}

static void check_message(const char *request, const char *body, char id[128])
{
    char time[128], signature[128], type[128], trace[128];
    struct bw_secret secret;
    struct bw_buf right = {0};
    bw_secret_parse(&secret, SECRET, NULL);
    header_of(request, "webhook-id", id);
    header_of(request, "webhook-timestamp", time);
    header_of(request, "webhook-signature", signature);
    header_of(request, "Content-Type", type);
    header_of(request, "traceparent", trace);
    bw_sign(&secret, id, atoll(time), body, &right);
    CHECK_TEXT(signature, right.data);
    CHECK_TEXT(type, "application/json");
    CHECK_TEXT(trace, TRACEPARENT);
    CHECK(strncmp(id, "msg_", 4) == 0 && strlen(id) == 36 && !strchr(id, '.'));
    CHECK(strncmp(request, "POST /hook?x=1 HTTP/1.1\r\n", 25) == 0);
    const char *end = strstr(request, "\r\n\r\n");
    CHECK_TEXT(end ? end + 4 : NULL, body);
    bw_buf_release(&right);
}

/* Send one message to a receiver with such replies; wait for so many requests and no more. */
static void deliver(struct receiver *r, const char *host, const char *const *replies, int requests)
{
    char allow[64], url[128];
    *r = (struct receiver){0};
    for (int i = 0; replies[i]; i++)
        r->replies[i] = replies[i];
    start_receiver(r);
    snprintf(allow, sizeof allow, "%s:%d", host, r->port);
    snprintf(url, sizeof url, "http://%s:%d/hook?x=1", host, r->port);
    struct bw_webhook *w = new_webhook(allow, 300, 1);
    CHECK_INT(bw_webhook_check(w, url, NULL), BW_OK);
    bw_webhook_send(w, url, "alice/job.1/1700000000", "{\"id\":\"job.1\"}", TRACEPARENT);
    wait_requests(r, requests);
    bw_webhook_free(w, 60000);
    stop_receiver(r);
    CHECK_INT(r->count, requests);
}

#define REPLIES(...)      \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define NO_CONTENT "HTTP/1.1 204 No Content\r\n\r\n"
#define EMPTY      "Content-Length: 0\r\nConnection: close\r\n\r\n"

static void delivered(void)
{
    struct receiver r;
    deliver(&r, "127.0.0.1", REPLIES(NO_CONTENT), 1);
    char id[128];
    if (r.count)
        check_message(r.requests[0], "{\"id\":\"job.1\"}", id);
    free_receiver(&r);
    char *log = take_log();
    CHECK_HOLDS(log, "webhook-delivered");
    CHECK(!strstr(log, "/hook")); // URLs may hold secrets
    free(log);
    deliver(&r, "localhost", REPLIES(NO_CONTENT), 1);
    free_receiver(&r);
    free(take_log());
}

static void tried_again(void)
{
    struct receiver r;
    deliver(&r, "127.0.0.1",
            REPLIES("HTTP/1.1 500 No\r\n" EMPTY, "", "garbage",
                    "HTTP/1.1 503 No\r\nRetry-After: 0\r\n" EMPTY, NO_CONTENT),
            5);
    char first[128] = "", id[128];
    for (int i = 0; i < r.count; i++) {
        check_message(r.requests[i], "{\"id\":\"job.1\"}", id);
        if (!i)
            strcpy(first, id);
        CHECK_TEXT(id, first);
    }
    char *log = take_log();
    CHECK_INT(occurrences(log, "webhook-failed"), 4);
    CHECK_INT(occurrences(log, "webhook-delivered"), 1);
    free(log);
    free_receiver(&r);
}

static void given_up(void)
{
    struct receiver r;
    deliver(&r, "127.0.0.1", REPLIES("HTTP/1.1 500 No\r\n" EMPTY), 5);
    free_receiver(&r);
    char *log = take_log();
    CHECK_HOLDS(log, "webhook-given-up");
    CHECK_HOLDS(log, "status 500");
    free(log);
    deliver(&r, "127.0.0.1", REPLIES("HTTP/1.1 410 Gone\r\n" EMPTY, NO_CONTENT), 1);
    free_receiver(&r);
    log = take_log();
    CHECK_HOLDS(log, "status 410");
    CHECK_INT(occurrences(log, "webhook-failed"), 0);
    free(log);
}

static void redirects_are_not_followed(void)
{
    struct receiver r;
    deliver(&r, "127.0.0.1",
            REPLIES("HTTP/1.1 307 There\r\nLocation: /elsewhere\r\n" EMPTY,
                    "HTTP/1.1 302 There\r\nLocation: /elsewhere\r\n" EMPTY),
            5);
    for (int i = 0; i < r.count; i++)
        CHECK(!strstr(r.requests[i], "/elsewhere"));
    free_receiver(&r);
    free(take_log());
}

/* A name that was allowed but is at an address of the own network. */
static void refused_addresses(void)
{
    struct receiver r = {.replies = {NO_CONTENT}};
    char url[128];
    start_receiver(&r);
    struct bw_webhook *w = new_webhook("*.localhost,*.0.0.1", 0, 0);
    snprintf(url, sizeof url, "http://hooks.localhost:%d/", r.port);
    CHECK_INT(bw_webhook_check(w, url, NULL), BW_OK);
    bw_webhook_send(w, url, "a", "{}", "");
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", r.port);
    CHECK_INT(bw_webhook_check(w, url, NULL), BW_OK);
    bw_webhook_send(w, url, "b", "{}", "");
    bw_webhook_free(w, 60000);
    stop_receiver(&r);
    CHECK_INT(r.count, 0);
    char *log = take_log();
    CHECK_INT(occurrences(log, "webhook-given-up"), 2);
    CHECK_INT(occurrences(log, "its address is not"), 2);
    CHECK_INT(occurrences(log, "attempts=1"), 2);
    free(log);
    free_receiver(&r);
}

static void urls(void)
{
    static const char *const bad[][2] = {{"", "not a URL"},
                                         {"hooks.example.com/x", "not a URL"},
                                         {"http://", "not a URL"},
                                         {"http://hooks.example.com:0x50/", "not a URL"},
                                         {"http://hooks.example.com:99999/", "not a URL"},
                                         {"http://hooks.exam ple.com/", "not a URL"},
                                         {"ftp://hooks.example.com/", "neither"},
                                         {"file:///etc/passwd", ""},
                                         {"gopher://hooks.example.com/", "neither"},
                                         {"http://u@hooks.example.com/", "user name"},
                                         {"http://u:p@hooks.example.com/", "user name"},
                                         {"http://evil.test#@hooks.example.com/", "not one of"},
                                         {"http://evil.test\\@hooks.example.com/", ""},
                                         {"http://evil.test/hooks.example.com", "not one of"},
                                         {"http://127.0.0.1/", "not one of"},
                                         {"http://2130706433/", "not one of"},
                                         {"http://[::ffff:127.0.0.1]/", "not one of"},
                                         {"http://10.1.2.3:81/", "not one of"}};
    static const char *const good[] = {"http://hooks.example.com",
                                       "https://HOOKS.example.com:1/x?y#z", "http://10.1.2.3/",
                                       "http://0x0a010203/"};
    struct bw_webhook *w = new_webhook("hooks.example.com,10.1.2.3:80", 0, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        CHECK_OF(bw_webhook_check(w, bad[i][0], &err) == BW_ERANGE, "%s", bad[i][0]);
        CHECK_TEXT(err.field, "/webhook");
        CHECK_HOLDS(err.message, bad[i][1]);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(bw_webhook_check(w, good[i], NULL) == BW_OK, "%s", good[i]);
    char longest[BW_WEBHOOK_URL_CHARS + 1] = "http://hooks.example.com/";
    memset(longest + strlen(longest), 'x', sizeof longest - 1 - strlen(longest));
    CHECK_INT(bw_webhook_check(w, longest, NULL), BW_ERANGE);
    longest[BW_WEBHOOK_URL_CHARS - 1] = '\0';
    CHECK_INT(bw_webhook_check(w, longest, NULL), BW_OK);
    bw_webhook_send(w, "http://evil.test/", "a", "{}", ""); // the list may have changed since
    bw_webhook_free(w, 0);
    char *log = take_log();
    CHECK_HOLDS(log, "webhook-dropped");
    free(log);
}

static void too_many(void)
{
    struct receiver r = {.replies = {NO_CONTENT}, .is_held = true};
    char allow[64], url[128], event[32], body[32];
    start_receiver(&r);
    snprintf(allow, sizeof allow, "127.0.0.1:%d", r.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", r.port);
    struct bw_webhook *w = new_webhook(allow, 60000, 1);
    for (int i = 0; i < 256 + 10; i++) {
        snprintf(event, sizeof event, "%d", i);
        snprintf(body, sizeof body, "{\"number\":%d}", i);
        bw_webhook_send(w, url, event, body, "");
    }
    hold(&r, false);
    bw_webhook_free(w, 60000);
    stop_receiver(&r);
    CHECK_INT(r.count, 256);
    CHECK(!strstr(r.requests[0], "traceparent"));
    bool has_last = false;
    for (int i = 0; i < r.count; i++)
        has_last = has_last || strstr(r.requests[i], "{\"number\":265}");
    CHECK(has_last);
    char *log = take_log();
    CHECK_INT(occurrences(log, "too many are waiting"), 10);
    CHECK_INT(occurrences(log, "webhook-delivered"), 256);
    CHECK_INT(metrics.webhooks[BW_DROPPED], 10);
    CHECK_INT(metrics.webhooks[BW_DELIVERED], 256);
    free(log);
    free_receiver(&r);
}

/* At the end nobody waits for a pause to be over. */
static void stopped(void)
{
    struct receiver r = {.replies = {"HTTP/1.1 500 No\r\n" EMPTY}};
    char allow[64], url[128];
    start_receiver(&r);
    snprintf(allow, sizeof allow, "127.0.0.1:%d", r.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", r.port);
    struct bw_webhook *w = new_webhook(allow, 0, 1000000);
    bw_webhook_send(w, url, "a", "{}", "");
    bw_webhook_free(w, 1000000);
    stop_receiver(&r);
    CHECK_INT(r.count, 1);
    char *log = take_log();
    CHECK_HOLDS(log, "the server stops");
    CHECK_INT(metrics.webhooks[BW_RETRIED], 1);
    CHECK_INT(metrics.webhooks[BW_DROPPED], 1);
    free(log);
    free_receiver(&r);
}

static void switched_off(void)
{
    struct bw_webhook *w = (struct bw_webhook *)&w;
    struct bw_err err = {0};
    struct bw_webhook_settings settings = {"", "", 0, 0, NULL};
    CHECK(bw_webhook_new(&w, &settings, NULL) == BW_OK && !w);
    CHECK_INT(bw_webhook_check(w, "http://hooks.example.com/", &err), BW_ERANGE);
    CHECK_HOLDS(err.message, "not switched on");
    bw_webhook_send(w, "http://hooks.example.com/", "a", "{}", "");
    bw_webhook_free(w, 0);
    settings.allow = "hooks.example.com";
    CHECK_INT(bw_webhook_new(&w, &settings, NULL), BW_ERANGE);
    settings.secret_file = "/nowhere/at/all";
    CHECK_INT(bw_webhook_new(&w, &settings, NULL), BW_EIO);
    settings.secret_file = log_file; // empty
    CHECK_INT(bw_webhook_new(&w, &settings, NULL), BW_ERANGE);
    settings = (struct bw_webhook_settings){"a b", secret_file, 0, 0, NULL};
    CHECK_INT(bw_webhook_new(&w, &settings, NULL), BW_ERANGE);
    CHECK(!w);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(lists),
                                              TEST(hosts),
                                              TEST(addresses),
                                              TEST(secrets),
                                              TEST(signatures),
                                              TEST(delivered),
                                              TEST(tried_again),
                                              TEST(given_up),
                                              TEST(redirects_are_not_followed),
                                              TEST(refused_addresses),
                                              TEST(urls),
                                              TEST(too_many),
                                              TEST(stopped),
                                              TEST(switched_off)};
    strcpy(secret_file, "/tmp/brickwork-secret-XXXXXX");
    strcpy(log_file, "/tmp/brickwork-log-XXXXXX");
    int secret = mkstemp(secret_file), log = mkstemp(log_file);
    if (write(secret, SECRET "\n", strlen(SECRET) + 1) < 0 || dup2(log, STDERR_FILENO) < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    int status = CHECK_RUN("webhook", tests);
    unlink(secret_file);
    unlink(log_file);
    return status;
}
