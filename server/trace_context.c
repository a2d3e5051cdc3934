/* 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01: version, trace, span, flags. */
#include "server/trace_context.h"

#include "base/random.h"

#include <stdio.h>
#include <string.h>

enum { TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, LENGTH = BW_TRACEPARENT_CHARS - 1 };

static bool is_hex(const char *text, size_t count)
{
    return strspn(text, "0123456789abcdef") >= count;
}

/* That many hex digits, not all of them 0. */
static bool is_id(const char *text, size_t count)
{
    return is_hex(text, count) && strspn(text, "0") < count;
}

bool bw_trace_context_parse(const char *text, struct bw_trace_context *context)
{
    size_t length = strlen(text);
    if (length < LENGTH || !is_hex(text, 2) || memcmp(text, "ff", 2) == 0)
        return false;
    if (length > LENGTH && (memcmp(text, "00", 2) == 0 || text[LENGTH] != '-'))
        return false;
    if (text[TRACE_AT - 1] != '-' || text[SPAN_AT - 1] != '-' || text[FLAGS_AT - 1] != '-')
        return false;
    if (!is_id(text + TRACE_AT, BW_TRACE_ID_CHARS - 1) ||
        !is_id(text + SPAN_AT, BW_SPAN_ID_CHARS - 1) || !is_hex(text + FLAGS_AT, 2))
        return false;
    snprintf(context->trace, sizeof context->trace, "%s", text + TRACE_AT);
    snprintf(context->span, sizeof context->span, "%s", text + SPAN_AT);
    context->sampled = strchr("13579bdf", text[FLAGS_AT + 1]) != NULL;
    return true;
}

static void add_random(char *hex)
{
    unsigned long long bits;
    do {
        bits = bw_random();
    } while (!bits);
    snprintf(hex, BW_SPAN_ID_CHARS, "%016llx", bits);
}

struct bw_trace_context bw_trace_context_enter(const char *traceparent)
{
    struct bw_trace_context context = {0};
    if (!bw_trace_context_parse(traceparent, &context)) {
        add_random(context.trace);
        add_random(context.trace + BW_SPAN_ID_CHARS - 1);
    }
    add_random(context.span);
    return context;
}

void bw_trace_context_render(const struct bw_trace_context *context,
                             char traceparent[BW_TRACEPARENT_CHARS])
{
    snprintf(traceparent, BW_TRACEPARENT_CHARS, "00-%s-%s-%02x", context->trace, context->span,
             context->sampled);
}
