/* Who asks, from where, and in which trace: proxies, origins, trace contexts. */
#include "server/cors.h"
#include "server/peers.h"
#include "server/trace_context.h"
#include "tests/unit/check.h"

static void networks(void)
{
    static const char *const good[] = {"10.0.0.0/8",
                                       "0.0.0.0/0",
                                       "127.0.0.1",
                                       "127.0.0.1/32",
                                       "::/0",
                                       "::1",
                                       "2001:db8::/32, 10.0.0.0/8 ,192.168.1.128/25"};
    static const char *const bad[] = {"",
                                      ",",
                                      "10.0.0.0/8,",
                                      "10.0.0.0/33",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/",
                                      "10.0.0.0/8/8",
                                      "10.0.0.1/8",
                                      "10.0.0.0/08x",
                                      "10.0.0",
                                      "010.0.0.1",
                                      "::/129",
                                      "2001:db8::1/32",
                                      "localhost",
                                      "[::1]",
                                      "127.0.0.1:80",
                                      "1.2.3.4 5.6.7.8"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(bw_peers_check(good[i], NULL) == BW_OK, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        CHECK_OF(bw_peers_check(bad[i], &err) == BW_ERANGE && *err.message, "%s", bad[i]);
    }
    char list[BW_MOST_NETWORKS * 8 + 8] = "1.1.1.1";
    for (int i = 1; i < BW_MOST_NETWORKS; i++)
        strcat(list, ",1.1.1.1");
    CHECK_INT(bw_peers_check(list, NULL), BW_OK);
    strcat(list, ",1.1.1.1");
    CHECK_INT(bw_peers_check(list, NULL), BW_ERANGE);
}

static void clients(void)
{
    static const struct {
        const char *peer, *forwarded, *client;
    } cases[] = {
        {"8.8.8.8", "", "8.8.8.8"},
        {"8.8.8.8", "1.2.3.4", "8.8.8.8"}, // not one of ours
        {"10.1.2.3", "", "10.1.2.3"},
        {"10.1.2.3", "1.2.3.4", "1.2.3.4"},
        {"10.1.2.3", "6.6.6.6, 1.2.3.4", "1.2.3.4"},
        {"10.1.2.3", "6.6.6.6,1.2.3.4 , 10.9.9.9,::1", "1.2.3.4"},
        {"10.1.2.3", "10.2.2.2, 10.3.3.3", "10.2.2.2"}, // everyone is ours
        {"10.1.2.3", "1.2.3.4, unknown, 10.3.3.3", "10.3.3.3"},
        {"10.1.2.3", "unknown, 10.2.2.2, 10.3.3.3", "10.2.2.2"},
        {"10.1.2.3", "1.2.3.4, unknown", "10.1.2.3"},
        {"10.1.2.3", "1.2.3.4, 1.2.3.4:80", "10.1.2.3"},
        {"10.1.2.3", "1.2.3.4,", "10.1.2.3"},
        {"::1", "2001:DB8:0::1", "2001:db8::1"},
        {"::2", "2001:db8::1", "::2"},
        {"::ffff:10.1.2.3", "1.2.3.4", "1.2.3.4"}, // IPv4 through a socket for both
        {"::ffff:8.8.8.8", "1.2.3.4", "8.8.8.8"},
        {"10.1.2.3", "::ffff:1.2.3.4", "1.2.3.4"},
        {"172.31.255.255", "1.2.3.4", "1.2.3.4"},
        {"172.32.0.0", "1.2.3.4", "172.32.0.0"},
        {"?", "1.2.3.4", "?"},
    };
    struct bw_peers peers, none = {.count = 0};
    REQUIRE(bw_peers_parse(&peers, "10.0.0.0/8, ::1, 172.16.0.0/12", NULL) == BW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char client[BW_ADDRESS_CHARS];
        bw_peers_client(&peers, cases[i].peer, cases[i].forwarded, client);
        CHECK_TEXT(client, cases[i].client);
        bw_peers_client(&none, "10.1.2.3", cases[i].forwarded, client);
        CHECK_TEXT(client, "10.1.2.3");
    }
    REQUIRE(bw_peers_parse(&peers, "::/0", NULL) == BW_OK);
    char client[BW_ADDRESS_CHARS];
    bw_peers_client(&peers, "8.8.8.8", "1.2.3.4", client);
    CHECK_TEXT(client, "1.2.3.4");
}

static void origins(void)
{
    static const char *const good[] = {"*",
                                       "https://a.example",
                                       "http://localhost:3000, https://a.example:8443",
                                       "http://[::1]:8080",
                                       "http://[::1]",
                                       "app+x://host",
                                       "https://a.example:80"};
    static const char *const bad[] = {"",
                                      "null",
                                      "*, https://a.example",
                                      "https://*.example",
                                      "a.example",
                                      "https://",
                                      "https://a.example/",
                                      "https://a.example/x",
                                      "HTTPS://a.example",
                                      "https://A.example",
                                      "https://a.example:443",
                                      "http://a.example:80",
                                      "https://a.example:",
                                      "https://a.example:0",
                                      "https://a.example:65536",
                                      "https://a.example:08443",
                                      "https://a.example:-1",
                                      "https://user@a.example",
                                      "https://[::1",
                                      "https://[]",
                                      "https://[::1]x",
                                      "https://a.example,",
                                      "https://a.example b.example",
                                      "://a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_OF(bw_cors_check(good[i], NULL) == BW_OK, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_err err = {0};
        CHECK_OF(bw_cors_check(bad[i], &err) == BW_ERANGE && *err.message, "%s", bad[i]);
    }
}

static void allowed_origins(void)
{
    static const char list[] = "https://a.example, http://localhost:3000";
    CHECK_TEXT(bw_cors_allow(list, "https://a.example"), "https://a.example");
    CHECK_TEXT(bw_cors_allow(list, "http://localhost:3000"), "http://localhost:3000");
    CHECK_TEXT(bw_cors_allow("*", "null"), "*");
    static const char *const others[] = {"",
                                         "https://a.example.org",
                                         "https://a.exampl",
                                         "http://a.example",
                                         "https://A.example",
                                         "null",
                                         "https://a.example, http://localhost:3000"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK_OF(!bw_cors_allow(list, others[i]), "%s", others[i]);
        CHECK_OF(!bw_cors_allow("", others[i]), "%s", others[i]);
    }
}

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN  "b7ad6b7169203331"

static void trace_contexts(void)
{
    static const struct {
        const char *text;
        bool sampled;
    } good[] = {{"00-" TRACE "-" SPAN "-01", true},  {"00-" TRACE "-" SPAN "-00", false},
                {"00-" TRACE "-" SPAN "-ff", true},  {"00-" TRACE "-" SPAN "-02", false},
                {"01-" TRACE "-" SPAN "-01", true},  {"cc-" TRACE "-" SPAN "-03-what-ever", true},
                {"fe-" TRACE "-" SPAN "-00-", false}};
    static const char *const bad[] = {"",
                                      "00",
                                      "00-" TRACE "-" SPAN "-0",
                                      "00-" TRACE "-" SPAN "-01-",
                                      "00-" TRACE "-" SPAN "-01x",
                                      "01-" TRACE "-" SPAN "-01x",
                                      "ff-" TRACE "-" SPAN "-01",
                                      "0g-" TRACE "-" SPAN "-01",
                                      "00-" TRACE "-" SPAN "-0x",
                                      "00_" TRACE "-" SPAN "-01",
                                      "00-" TRACE "_" SPAN "-01",
                                      "00-" TRACE "-" SPAN "_01",
                                      "00-00000000000000000000000000000000-" SPAN "-01",
                                      "00-" TRACE "-0000000000000000-01",
                                      "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
                                      "00-" TRACE "-B7AD6B7169203331-01",
                                      " 00-" TRACE "-" SPAN "-01",
                                      "00-" TRACE "-" SPAN "-01, 00-" TRACE "-" SPAN "-01",
                                      "01-" TRACE "-" SPAN "-01, 00-" TRACE "-" SPAN "-01"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct bw_trace_context c = {0};
        CHECK_OF(bw_trace_context_parse(good[i].text, &c), "%s", good[i].text);
        CHECK_TEXT(c.trace, TRACE);
        CHECK_TEXT(c.span, SPAN);
        CHECK_OF(c.sampled == good[i].sampled, "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_trace_context c = {.trace = "x"};
        CHECK_OF(!bw_trace_context_parse(bad[i], &c), "%s", bad[i]);
        CHECK_TEXT(c.trace, "x");
    }
}

static void traces_go_on(void)
{
    char text[BW_TRACEPARENT_CHARS];
    struct bw_trace_context c = bw_trace_context_enter("02-" TRACE "-" SPAN "-ff-more"), again;
    CHECK_TEXT(c.trace, TRACE);
    CHECK(strcmp(c.span, SPAN) != 0 && c.sampled);
    bw_trace_context_render(&c, text);
    CHECK(strncmp(text, "00-" TRACE "-", 36) == 0 && strcmp(text + 53, "01") == 0);
    CHECK(bw_trace_context_parse(text, &again));
    CHECK_TEXT(again.span, c.span);
    c = bw_trace_context_enter("00-broken");
    again = bw_trace_context_enter("");
    CHECK(strcmp(c.trace, again.trace) != 0 && strcmp(c.span, again.span) != 0);
    CHECK(!c.sampled && !again.sampled);
    bw_trace_context_render(&c, text);
    CHECK(bw_trace_context_parse(text, &again));
}

int main(void)
{
    static const struct check_test tests[] = {TEST(networks),       TEST(clients),
                                              TEST(origins),        TEST(allowed_origins),
                                              TEST(trace_contexts), TEST(traces_go_on)};
    return CHECK_RUN("access", tests);
}
