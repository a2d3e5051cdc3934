/* Trace context: the thread that joins the logs of all services a request passes through (W3C Trace
 * Context, level 1). Any thread.
 */
#ifndef BW_SERVER_TRACE_CONTEXT_H
#define BW_SERVER_TRACE_CONTEXT_H

#include <stdbool.h>

enum { BW_TRACE_ID_CHARS = 33, BW_SPAN_ID_CHARS = 17, BW_TRACEPARENT_CHARS = 56 };

struct bw_trace_context {
    char trace[BW_TRACE_ID_CHARS]; // of the whole; 32 lower-case hex digits, not all 0
    char span[BW_SPAN_ID_CHARS];   // of one part of it; 16 likewise
    bool sampled;                  // the caller may have recorded it
};

/* Read a traceparent: version 00 exactly, later ones as far as they begin like it. False if it is
 * none; `context` is then untouched. */
bool bw_trace_context_parse(const char *traceparent, struct bw_trace_context *context);

/* The context of our own part: a new span in the trace that `traceparent` names, or if it names
 * none
 * ("" or broken) in a new trace, which nobody has sampled. */
struct bw_trace_context bw_trace_context_enter(const char *traceparent);

/* The context as a traceparent of version 00. */
void bw_trace_context_render(const struct bw_trace_context *context,
                             char traceparent[BW_TRACEPARENT_CHARS]);

#endif
