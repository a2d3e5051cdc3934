/* Trace contexts: a valid one goes on, anything else begins a new one; ours is always valid. */
#include "server/trace_context.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_trace_context given = {0}, own, again;
    char *text = fuzz_text(bytes, count), rendered[BW_TRACEPARENT_CHARS];
    bool valid = bw_trace_context_parse(text, &given);
    own = bw_trace_context_enter(text);
    bw_trace_context_render(&own, rendered);
    MUST(bw_trace_context_parse(rendered, &again));
    MUST(strcmp(again.trace, own.trace) == 0 && strcmp(again.span, own.span) == 0);
    MUST((strcmp(own.trace, given.trace) == 0) == valid && own.sampled == given.sampled);
    MUST(strcmp(own.span, given.span) != 0);
    free(text);
    return 0;
}
