/* Traces: what is refused has a reason; what is accepted keeps its order and, written as a trace
 * again, gives the same arrivals. */
#include "api/trace.h"
#include "base/buf.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

static void write_line(struct bw_buf *out, const struct bw_arrival *a)
{
    json_t *line =
        json_pack("{s:f, s:o}", "at_ms", a->at_ms, "request", json_loads(a->body, 0, NULL));
    if (*a->client)
        json_object_set_new(line, "client", json_string(a->client));
    char *text = json_dumps(line, 0);
    MUST(text);
    bw_buf_addf(out, "%s\n", text);
    free(text);
    json_decref(line);
}

static void check_again(const struct bw_trace *trace)
{
    struct bw_trace again;
    struct bw_err err = {0};
    struct bw_buf text = {0};
    for (int i = 0; i < trace->count; i++)
        write_line(&text, &trace->arrivals[i]);
    bw_buf_add(&text, "", 0);
    MUST(!text.failed && bw_trace_parse(&again, text.data, text.length_bytes, &err) == BW_OK);
    MUST(again.count == trace->count);
    for (int i = 0; i < trace->count; i++) {
        const struct bw_arrival *a = &trace->arrivals[i], *b = &again.arrivals[i];
        MUST(a->at_ms == b->at_ms && strcmp(a->client, b->client) == 0);
        MUST(strcmp(a->body, b->body) == 0);
    }
    bw_trace_release(&again);
    bw_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_trace trace = {0};
    struct bw_err err = {0};
    if (bw_trace_parse(&trace, (const char *)bytes, count, &err)) {
        MUST(err.code == BW_ESYNTAX || err.code == BW_ERANGE);
        MUST(strncmp(err.message, "line ", 5) == 0);
        MUST(!trace.arrivals && !trace.count);
        return 0;
    }
    for (int i = 0; i < trace.count; i++) {
        const struct bw_arrival *a = &trace.arrivals[i];
        MUST(a->at_ms >= (i ? a[-1].at_ms : 0) && a->at_ms <= 1e9);
        MUST(strlen(a->client) < BW_TRACE_CLIENT_CHARS);
        MUST(a->request.count >= 1 && a->request.count <= BW_MAX_COUNT);
    }
    check_again(&trace);
    bw_trace_release(&trace);
    return 0;
}
