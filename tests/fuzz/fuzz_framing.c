/* Heads of requests: whatever is taken at its word can be written down and read again. */
#include "server/framing.h"
#include "tests/fuzz/fuzz.h"

/* The fault does not depend on what lies beyond the end. */
static struct bw_framing judge(const uint8_t *bytes, size_t count, char beyond)
{
    struct bw_framing framing;
    char *head = malloc(count + 1);
    MUST(head);
    memcpy(head, bytes, count);
    head[count] = beyond;
    bw_framing_read(&framing, head, count);
    if (framing.host)
        MUST(framing.host >= head && framing.host + strlen(framing.host) < head + count);
    framing.host = NULL;
    free(head);
    return framing;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct bw_framing one = judge(bytes, count, '\0'), other = judge(bytes, count, 'x');
    MUST(one.fault == other.fault && one.unread == other.unread && one.chunked == other.chunked);
    MUST(!one.unread || one.fault);
    MUST(one.field_bytes <= count);
    if (!one.fault)
        MUST(count >= 4 && memcmp(bytes + count - 4, "\0\0\0\0", 4) == 0);
    char *text = fuzz_text(bytes, count);
    const char *path = bw_framing_path(text, "a");
    MUST(!path || *path == '/');
    MUST(!bw_framing_target_ok(text) || !strchr(text, ' '));
    MUST(!bw_framing_is_token(text) || bw_framing_target_ok(text) || strchr(text, '#'));
    free(text);
    return 0;
}
