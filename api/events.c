/* The data is written here as text, not built as JSON values first: all of it is numbers, base64
 * and names that need no escapes, and a stream has many of them. */
#include "api/events.h"

#include "base/text.h"

#include <assert.h>
#include <math.h>
#include <string.h>

const char *bw_event_name(enum bw_event_kind kind)
{
    static const char *const names[] = {[BW_EVENT_QUEUED] = "queued",
                                        [BW_EVENT_PROGRESS] = "progress",
                                        [BW_EVENT_PARTIAL] = "partial",
                                        [BW_EVENT_COMPLETED] = "completed",
                                        [BW_EVENT_ERROR] = "error"};
    return names[kind];
}

static void begin(struct bw_buf *out, const char *name, int64_t id)
{
    if (id)
        bw_buf_addf(out, "id: %lld\n", (long long)id);
    bw_buf_addf(out, "event: %s\ndata: ", name);
}

static void end(struct bw_buf *out)
{
    bw_buf_add_text(out, "\n\n");
}

void bw_event_frame(struct bw_buf *out, const char *name, int64_t id, const char *json)
{
    assert(!json[strcspn(json, "\r\n")]);
    begin(out, name, id);
    bw_buf_add_text(out, json);
    end(out);
}

void bw_event_ping(struct bw_buf *out)
{
    bw_buf_add_text(out, ":\n\n");
}

static void add_resting(struct bw_buf *out, uint8_t resting)
{
    const char *comma = "";
    for (int k = 0; k < BW_MAX_BRICKS; k++) {
        if (resting >> k & 1) {
            bw_buf_addf(out, "%s%d", comma, k);
            comma = ",";
        }
    }
}

void bw_event_render(struct bw_buf *out, const struct bw_event *e)
{
    assert(e->kind <= BW_EVENT_PARTIAL);
    begin(out, bw_event_name(e->kind), e->id);
    if (e->kind == BW_EVENT_QUEUED) {
        bw_buf_addf(out, "{\"pictures\":%d,\"steps\":%d,\"predicted_ms\":%.3f}", e->pictures,
                    e->steps, fmax(e->predicted_ms, 0));
        end(out);
        return;
    }
    bw_buf_addf(out, "{\"picture\":%d,\"step\":%d,\"steps\":%d,", e->picture, e->step, e->steps);
    if (e->kind == BW_EVENT_PROGRESS) {
        bw_buf_add_text(out, "\"skip\":[");
        add_resting(out, e->resting);
        bw_buf_addf(out, "],\"eta_ms\":%.3f}", fmax(e->eta_ms, 0));
    } else {
        bw_buf_addf(out, "\"partial\":%d,\"media_type\":\"image/jpeg\",\"b64\":\"", e->partial);
        bw_buf_add_base64(out, e->jpeg, e->jpeg_bytes);
        bw_buf_add_text(out, "\"}");
    }
    end(out);
}

/* What both of OpenAI's events hold; the object is left open. */
static void begin_openai(struct bw_buf *out, const char *type,
                         const struct bw_openai_stream *stream, const char *format,
                         const void *bytes, size_t count)
{
    begin(out, type, 0);
    bw_buf_addf(out,
                "{\"type\":\"%s\",\"created_at\":%lld,\"size\":\"%dx%d\",\"quality\":\"%s\","
                "\"background\":\"opaque\",\"output_format\":\"%s\",\"b64_json\":\"",
                type, (long long)stream->created_s, stream->width, stream->height, stream->quality,
                format);
    bw_buf_add_base64(out, bytes, count);
    bw_buf_add_text(out, "\"");
}

void bw_event_render_openai(struct bw_buf *out, const struct bw_event *e,
                            const struct bw_openai_stream *stream)
{
    if (e->kind != BW_EVENT_PARTIAL)
        return;
    begin_openai(out, "image_generation.partial_image", stream, "jpeg", e->jpeg, e->jpeg_bytes);
    bw_buf_addf(out, ",\"partial_image_index\":%d}", e->partial);
    end(out);
}

void bw_event_complete_openai(struct bw_buf *out, const struct bw_generation *g,
                              const struct bw_openai_stream *stream)
{
    for (int i = 0; i < g->request.count; i++) {
        begin_openai(out, "image_generation.completed", stream, bw_format_name(g->request.format),
                     g->images[i].bytes, g->images[i].size_bytes);
        bw_buf_add_text(out, ",\"usage\":{\"total_tokens\":0,\"input_tokens\":0,"
                             "\"output_tokens\":0}}");
        end(out);
    }
}

int bw_event_last_id(const char *field, int64_t *id, struct bw_err *err)
{
    int64_t value = 0;
    if (field && *field && !bw_text_to_int(field, 0, INT64_MAX, &value))
        return bw_err_set(err, BW_ESYNTAX, "Last-Event-ID is not the id of an event");
    *id = value;
    return BW_OK;
}
