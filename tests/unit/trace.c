/* Traces: what lines may be, what each wrong line is told, and that nothing of a refused one stays.
 */
#include "api/trace.h"

#include "tests/unit/check.h"

static int parse(struct bw_trace *trace, const char *text, struct bw_err *err)
{
    *trace = (struct bw_trace){0};
    return bw_trace_parse(trace, text, strlen(text), err);
}

static void lines_become_arrivals(void)
{
    struct bw_trace trace;
    struct bw_err err = {0};
    int code = parse(&trace,
                     "{\"at_ms\": 0, \"request\": {}}\n"
                     "{\"at_ms\": 12.5, \"client\": \"127.0.0.2\",\n"
                     "}",
                     &err);
    CHECK_INT(code, BW_ESYNTAX); // an object ends where its line does
    CHECK_HOLDS(err.message, "line 2: ");
    code = parse(&trace,
                 "{\"at_ms\": 0, \"request\": {}}\n"
                 "{\"request\": {\"steps\": 12, \"class\": 3, \"deadline_ms\": 400}, "
                 "\"client\": \"127.0.0.2\", \"at_ms\": 12.5}",
                 &err);
    REQUIRE(code == BW_OK && trace.count == 2);
    const struct bw_arrival *a = trace.arrivals;
    CHECK(a[0].at_ms == 0 && a[1].at_ms == 12.5);
    CHECK_TEXT(a[0].client, "");
    CHECK_TEXT(a[1].client, "127.0.0.2");
    CHECK_TEXT(a[0].body, "{}");
    CHECK_TEXT(a[1].body, "{\"steps\":12,\"class\":3,\"deadline_ms\":400}");
    CHECK_INT(a[0].request.picture.steps, 20);
    CHECK_INT(a[1].request.picture.steps, 12);
    CHECK_NEAR(a[1].request.deadline_ms, 400, 0);
    bw_trace_release(&trace);
    CHECK(!trace.arrivals && !trace.count);
}

static void texts_that_are_allowed(void)
{
    static const struct {
        const char *text;
        int count;
    } cases[] = {{"", 0},
                 {"\n", 0},
                 {" \t\r\n\n", 0},
                 {"\r\n{\"at_ms\":1,\"request\":{}}\r\n\r\n", 1},
                 {"{\"at_ms\":1,\"request\":{}}", 1},
                 {"  {\"at_ms\":1000000000,\"request\":{}}  ", 1},
                 {"{\"at_ms\":1,\"request\":{}}\n{\"at_ms\":1.0,\"request\":{}}\n", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_trace trace;
        struct bw_err err = {0};
        int code = parse(&trace, cases[i].text, &err);
        CHECK_OF(code == BW_OK && trace.count == cases[i].count, "case %zu: %s", i, err.message);
        bw_trace_release(&trace);
    }
}

#define GOOD "{\"at_ms\":5,\"request\":{}}\n"

static void lines_that_are_refused(void)
{
    static const struct {
        const char *text;
        int code;
        const char *field, *message; // the whole message, or its beginning
    } cases[] = {
        {"{", BW_ESYNTAX, "", "line 1: not valid JSON"},
        {GOOD "[]\n", BW_ESYNTAX, "", "line 2: not a JSON object"},
        {GOOD GOOD "7", BW_ESYNTAX, "", "line 3: not "},
        {GOOD "{\"at_ms\":5,\"at_ms\":6,\"request\":{}}", BW_ESYNTAX, "", "line 2: not valid JSON"},
        {"{\"at_ms\":5,\"request\":{}} {}", BW_ESYNTAX, "", "line 1: not valid JSON"},
        {"\n\n{}", BW_ERANGE, "", "line 3: at_ms and request are needed"},
        {"{\"at_ms\":5}", BW_ERANGE, "", "line 1: at_ms and request are needed"},
        {"{\"request\":{}}", BW_ERANGE, "", "line 1: at_ms and request are needed"},
        {"{\"at_ms\":-1,\"request\":{}}", BW_ERANGE, "/at_ms",
         "line 1: /at_ms: not a number of 0..1e+09"},
        {"{\"at_ms\":1e10,\"request\":{}}", BW_ERANGE, "/at_ms", "line 1: /at_ms: not a number"},
        {"{\"at_ms\":\"5\",\"request\":{}}", BW_ERANGE, "/at_ms", "line 1: /at_ms: not a number"},
        {GOOD "{\"at_ms\":4.999,\"request\":{}}", BW_ERANGE, "", "line 2: at_ms falls below 5"},
        {"{\"at_ms\":5,\"request\":[]}", BW_ERANGE, "/request", "line 1: /request: not an object"},
        {GOOD "{\"at_ms\":5,\"request\":{\"steps\":0}}", BW_ERANGE, "/steps",
         "line 2: /steps: not an integer of 1..256"},
        {"{\"at_ms\":5,\"request\":{\"colour\":1}}", BW_ERANGE, "/colour",
         "line 1: /colour: unknown field"},
        {"{\"at_ms\":5,\"request\":{},\"n\":1}", BW_ERANGE, "/n",
         "line 1: /n: unknown field; known are at_ms, client, request"},
        {"{\"at_ms\":5,\"request\":{},\"client\":\"\"}", BW_ERANGE, "/client",
         "line 1: /client: not text of 1 to 63 bytes"},
        {"{\"at_ms\":5,\"request\":{},\"client\":7}", BW_ERANGE, "/client", "line 1: /client: "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_trace trace;
        struct bw_err err = {0};
        int code = parse(&trace, cases[i].text, &err);
        CHECK_OF(code == cases[i].code && err.code == code, "%s: %d", cases[i].text, code);
        CHECK_TEXT(err.field, cases[i].field);
        CHECK_OF(strncmp(err.message, cases[i].message, strlen(cases[i].message)) == 0, "%s: %s",
                 cases[i].text, err.message);
        CHECK(!trace.arrivals && !trace.count);
    }
}

static void length_counts(void)
{
    struct bw_trace trace = {0};
    struct bw_err err = {0};
    const char *text = GOOD "{";
    CHECK_INT(bw_trace_parse(&trace, text, strlen(text) - 1, &err), BW_OK);
    CHECK_INT(trace.count, 1);
    bw_trace_release(&trace);
    CHECK_INT(bw_trace_parse(&trace, GOOD "\0", sizeof GOOD, &err), BW_ESYNTAX);
}

static void arrivals_are_added(void)
{
    struct bw_trace trace = {0};
    struct bw_err err = {0};
    char body[32], client[2 * BW_TRACE_CLIENT_CHARS];
    for (int i = 0; i < 200; i++) {
        snprintf(body, sizeof body, "{\"seed\": %d}", i);
        REQUIRE(bw_trace_add(&trace, i, "", body, &err) == BW_OK);
    }
    *body = '\0'; // the trace has copies
    REQUIRE(trace.count == 200);
    for (int i = 0; i < 200; i++)
        CHECK(trace.arrivals[i].at_ms == i &&
              trace.arrivals[i].request.picture.seed == (uint64_t)i);
    CHECK_TEXT(trace.arrivals[199].body, "{\"seed\": 199}");
    CHECK_INT(bw_trace_add(&trace, 200, "", "{\"seed\":-1}", &err), BW_ERANGE);
    CHECK_TEXT(err.field, "/seed");
    CHECK_INT(bw_trace_add(&trace, 200, "", "", NULL), BW_ESYNTAX);
    CHECK_INT(trace.count, 200);
    memset(client, '1', sizeof client);
    client[sizeof client - 1] = '\0';
    CHECK_INT(bw_trace_add(&trace, 200, client, "{}", NULL), BW_OK);
    CHECK_INT((long long)strlen(trace.arrivals[200].client), BW_TRACE_CLIENT_CHARS - 1);
    bw_trace_release(&trace);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(lines_become_arrivals), TEST(texts_that_are_allowed), TEST(lines_that_are_refused),
        TEST(length_counts), TEST(arrivals_are_added)};
    return CHECK_RUN("trace", tests);
}
