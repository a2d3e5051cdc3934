/* Lines are parsed one by one, and each request's body is written anew from what was read, so that
 * what is sent is what was checked. */
#include "api/trace.h"

#include "api/json.h"

#include <stdlib.h>
#include <string.h>

static const double most_ms = 1e9;

struct line {
    double at_ms;
    char client[BW_TRACE_CLIENT_CHARS];
    char *body;
};

static int read_at(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_number(value, pointer, 0, most_ms, &((struct line *)out)->at_ms, err);
}

static int read_client(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct line *line = out;
    return bw_json_text(value, pointer, line->client, sizeof line->client, err);
}

static int read_request(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_object_text(value, pointer, &((struct line *)out)->body, err);
}

int bw_trace_add(struct bw_trace *trace, double at_ms, const char *client, const char *body,
                 struct bw_err *err)
{
    struct bw_arrival arrival = {.at_ms = at_ms};
    int code = bw_request_parse(&arrival.request, body, strlen(body), err);
    if (code)
        return code;
    if (trace->count == trace->room) {
        int room = trace->room ? 2 * trace->room : 64;
        void *grown = realloc(trace->arrivals, (size_t)room * sizeof *trace->arrivals);
        if (!grown)
            return bw_err_set(err, BW_ENOMEM, "out of memory for %d requests", room);
        trace->arrivals = grown;
        trace->room = room;
    }
    strncpy(arrival.client, client, sizeof arrival.client - 1);
    arrival.body = strdup(body);
    if (!arrival.body)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    trace->arrivals[trace->count++] = arrival;
    return BW_OK;
}

static int add_line(struct bw_trace *trace, const char *text, size_t length, struct bw_err *err)
{
    static const struct bw_json_field fields[] = {
        {"at_ms", read_at}, {"client", read_client}, {"request", read_request}, {NULL, NULL}};
    struct line line = {.at_ms = -1};
    double before_ms = trace->count ? trace->arrivals[trace->count - 1].at_ms : 0;
    json_t *root;
    int code = bw_json_object(&root, text, length, err);
    if (code)
        return code;
    code = bw_json_read(root, "", fields, &line, err);
    json_decref(root);
    if (!code && (!line.body || line.at_ms < 0))
        code = bw_err_set(err, BW_ERANGE, "at_ms and request are needed");
    if (!code && line.at_ms < before_ms)
        code = bw_err_set(err, BW_ERANGE, "at_ms falls below %g", before_ms);
    if (!code)
        code = bw_trace_add(trace, line.at_ms, line.client, line.body, err);
    free(line.body);
    return code;
}

static bool is_blank(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
        i++;
    return i == length;
}

int bw_trace_parse(struct bw_trace *trace, const char *text, size_t length, struct bw_err *err)
{
    struct bw_trace out = {0};
    const char *end = text + length;
    int code = BW_OK;
    for (int number = 1; !code && text < end; number++) {
        struct bw_err reason = {0};
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t chars = (size_t)((stop ? stop : end) - text);
        if (!is_blank(text, chars) && add_line(&out, text, chars, &reason))
            code = bw_err_set_field(err, reason.code, reason.field, "line %d: %s%s%s", number,
                                    reason.field, *reason.field ? ": " : "", reason.message);
        text += chars + 1;
    }
    if (code)
        bw_trace_release(&out);
    else
        *trace = out;
    return code;
}

void bw_trace_release(struct bw_trace *trace)
{
    for (int i = 0; i < trace->count; i++)
        free(trace->arrivals[i].body);
    free(trace->arrivals);
    *trace = (struct bw_trace){0};
}
