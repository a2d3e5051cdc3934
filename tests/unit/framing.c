/* Heads of requests, as they are sent: which are taken at their word, and which are refused. */
#include "server/framing.h"
#include "tests/unit/check.h"

#define VERSION   "HTTP/1.1\r\n"
#define HOST      "Host: a.example:80\r\n"
#define MALFORMED "a header field is malformed"
#define TWICE     "the length of the body is given more than once"
#define CODING    "chunked is the only transfer coding read here"

struct head {
    const char *fields;
    size_t count;
    const char *fault;
    int flags;
};

enum { NONE, CHUNKED, UNREAD };

#define HEAD(text, fault, flags)                   \
    {                                              \
        (text), sizeof(text) - 1, (fault), (flags) \
    }

/* What libmicrohttpd makes of a head in memory: it cuts lines at CR LF and at LF, and each but the
 * first at its first colon. The caller frees it. */
static char *cut(const char *text, size_t count)
{
    char *head = malloc(count);
    bool named = true;
    if (!head)
        abort();
    memcpy(head, text, count);
    for (size_t i = 0; i < count; i++) {
        bool ends = text[i] == '\n' || (text[i] == '\r' && i + 1 < count && text[i + 1] == '\n');
        if (ends || (!named && text[i] == ':'))
            head[i] = '\0';
        named = text[i] != '\n' && (named || text[i] == ':');
    }
    return head;
}

static void check(const struct head *heads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct head *h = &heads[i];
        struct bw_framing framing;
        char *head = cut(h->fields, h->count);
        bw_framing_read(&framing, head, h->count);
        const char *fault = framing.fault ? framing.fault : "none";
        CHECK_OF(strcmp(fault, h->fault ? h->fault : "none") == 0, "%zu, %s: %s", i, h->fields,
                 fault);
        CHECK_OF(framing.chunked == !!(h->flags & CHUNKED), "%zu, %s: chunked", i, h->fields);
        CHECK_OF(framing.unread == !!(h->flags & UNREAD), "%zu, %s: unread", i, h->fields);
        free(head);
    }
}

#define CHECK_ALL(heads) check((heads), sizeof(heads) / sizeof *(heads))

static void plain(void)
{
    static const struct head heads[] = {
        HEAD(VERSION HOST "\r\n", NULL, NONE),
        HEAD(VERSION HOST "X:\r\nY: a:b \t\xff\r\n\r\n", NULL, NONE),
        HEAD(VERSION HOST "!#$%&'*+-.^_`|~09azAZ:\t \tvalue\r\n\r\n", NULL, NONE),
        HEAD(VERSION HOST "content-length: 5\r\n\r\n", NULL, NONE),
        HEAD(VERSION HOST "TRANSFER-ENCODING: Chunked\r\n\r\n", NULL, CHUNKED),
        HEAD(VERSION HOST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n", NULL, NONE),
        HEAD(VERSION HOST "Expect: more\r\n\r\n", NULL, NONE),
        HEAD(VERSION "Host:\r\n\r\n", NULL, NONE),
        HEAD(VERSION "Host: [::1]:80 \t\r\nContent-Length: 0 \r\nX: \t\r\n\r\n", NULL, NONE),
        HEAD(VERSION HOST "Content-Length: 5\r\nExpect: 100-continue \r\n\r\n", NULL, NONE),
        HEAD("HTTP/1.0\r\n\r\n", NULL, NONE),
        HEAD("HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", NULL, NONE),
        HEAD("HTTP/1.0\r\nContent-Length: 5\r\n\r\n", NULL, NONE),
    };
    CHECK_ALL(heads);
}

static void lines(void)
{
    static const struct head heads[] = {
        HEAD("HTTP/1.1\n" HOST "\r\n", MALFORMED, NONE),
        HEAD("HTTP/1.1\rX: y\r\n" HOST "\r\n", NULL, NONE), // the version is the library's to read
        HEAD(VERSION "Host: a\n\r\n", MALFORMED, NONE),
        HEAD(VERSION "Host: a\r\n\n", MALFORMED, NONE),
        HEAD(VERSION "Host: a\n\n", MALFORMED, NONE),
        HEAD(VERSION "Host: a\nX: y\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\rb\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\r\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\0b\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\0\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: \0\r\nY: b\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "\0\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\x1b\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\x7f\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\r\n b\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\r\n\tb\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X: a\r\n \r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST ": a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X : a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST " X: a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X\t: a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X(: a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "\xe4: a\r\n\r\n", MALFORMED, NONE),
        HEAD(VERSION HOST "X\r\n\r\n", MALFORMED, NONE),
        HEAD("", "a header field is malformed", NONE),
        HEAD("HTTP/1.1", "a header field is malformed", NONE),
    };
    CHECK_ALL(heads);
}

static void lengths(void)
{
    static const struct head heads[] = {
        HEAD(VERSION HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", TWICE, NONE),
        HEAD(VERSION HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", TWICE,
             CHUNKED),
        HEAD(VERSION HOST "Transfer-Encoding: gzip\r\n\r\n", CODING, UNREAD),
        HEAD(VERSION HOST "Transfer-Encoding:\r\n\r\n", CODING, UNREAD),
        HEAD(VERSION HOST "Transfer-Encoding: chunked \r\n\r\n", CODING, UNREAD),
        HEAD(VERSION HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING, UNREAD),
        HEAD(VERSION HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", CODING,
             CHUNKED | UNREAD),
        HEAD(VERSION HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", TWICE,
             CHUNKED),
        HEAD(VERSION HOST "Transfer_Encoding: chunked\r\n\r\n", MALFORMED, CHUNKED),
        HEAD(VERSION HOST "content_length: 5\r\n\r\n", MALFORMED, NONE),
        HEAD("HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 has no transfer codings",
             CHUNKED),
        HEAD(VERSION HOST "Expect: 100-continue\r\n\r\n",
             "the client waits to send a body, and there is none", UNREAD),
        HEAD(VERSION HOST "Content-Length: 00\r\nExpect: 100-continue\r\n\r\n",
             "the client waits to send a body, and there is none", UNREAD),
    };
    CHECK_ALL(heads);
}

static void hosts(void)
{
    static const struct head heads[] = {
        HEAD(VERSION "\r\n", "there has to be exactly one Host field", NONE),
        HEAD("HTTP/1.2\r\n\r\n", "there has to be exactly one Host field", NONE),
        HEAD(VERSION HOST HOST "\r\n", "there has to be exactly one Host field", NONE),
        HEAD("HTTP/1.0\r\n" HOST HOST "\r\n", "there has to be exactly one Host field", NONE),
        HEAD(VERSION "Host: a b\r\n\r\n", "the Host field is malformed", NONE),
        HEAD(VERSION "Host: a,b\r\n\r\n", "the Host field is malformed", NONE),
        HEAD(VERSION "Host: u@a\r\n\r\n", "the Host field is malformed", NONE),
        HEAD(VERSION "Host: a/b\r\n\r\n", "the Host field is malformed", NONE),
        HEAD(VERSION "Host: \xe4\r\n\r\n", "the Host field is malformed", NONE),
    };
    CHECK_ALL(heads);
}

static void targets(void)
{
    static const char *const bad[] = {"", "/a b", "/a\tb", "/a\rb", "/\x01", "/\x7f", "/a#b"};
    static const char *const good[] = {"/", "*", "/a?b=%zz&c", "http://a/", "/\xc3\xa4|{}\"<>\\^`"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_OF(!bw_framing_target_ok(bad[i]), "%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(bw_framing_target_ok(good[i]), "%s", good[i]);
}

static void paths(void)
{
    static const struct {
        const char *target, *host, *path;
    } cases[] = {
        {"/", "a", "/"},
        {"/x/y", "a", "/x/y"},
        {"//b/x", "a", "//b/x"},
        {"http://a/x", "a", "/x"},
        {"HTTPS://A:1/x", "a:1", "/x"},
        {"http://a", "a", "/"},
        {"http://a/x", NULL, "/x"},
        {"http://a/x", "b", NULL},
        {"http://a/x", "ab", NULL},
        {"http://a/x", "", NULL},
        {"http:///x", "", NULL},
        {"http://u@a/x", "a", NULL},
        {"ftp://a/x", "a", NULL},
        {"a:80", "a:80", NULL},
        {"x", "a", NULL},
        {"*", "a", NULL},
        {"", "a", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = bw_framing_path(cases[i].target, cases[i].host);
        CHECK_OF(!path == !cases[i].path && (!path || strcmp(path, cases[i].path) == 0), "%s: %s",
                 cases[i].target, path ? path : "none");
    }
}

static void sizes(void)
{
    struct bw_framing framing;
    static const char text[] = VERSION "Host: a.example:80 \t \r\n\r\n";
    char *head = cut(text, sizeof text - 1);
    bw_framing_read(&framing, head, sizeof text - 1);
    CHECK_INT(framing.field_bytes, sizeof text - sizeof VERSION);
    CHECK(framing.host && strcmp(framing.host, "a.example:80") == 0);
    free(head);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(plain), TEST(lines),   TEST(lengths),
                                              TEST(hosts), TEST(targets), TEST(paths),
                                              TEST(sizes)};
    return CHECK_RUN("framing", tests);
}
