/* Events: what a stream of a request's progress holds, as Server-Sent Events (WHATWG HTML, section
 * 9.2).
 *
 * openapi.yaml, schemas StreamQueued, StreamProgress, StreamPartial and OpenAIEvent, is the
 * contract. Functions append to a buffer, which remembers a lack of memory. Any thread.
 */
#ifndef BW_API_EVENTS_H
#define BW_API_EVENTS_H

#include "api/response.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bw_event_kind {
    BW_EVENT_QUEUED,    // the first
    BW_EVENT_PROGRESS,  // a step of a picture is done
    BW_EVENT_PARTIAL,   // a preview of a picture
    BW_EVENT_COMPLETED, // the last, or
    BW_EVENT_ERROR,     // the last
};

struct bw_event {
    int64_t id; // from 1, rising; 0: without
    enum bw_event_kind kind;
    int steps;           // queued, progress, partial: of each picture
    int pictures;        // queued
    double predicted_ms; // queued: until the answer
    int picture, step;   // progress, partial: which of the request, from 0; steps of it done
    uint8_t resting;     // progress: bit k set: brick k rested at this step
    double eta_ms;       // progress: until the answer
    int partial;         // partial: which of the picture's previews, from 0
    const char *jpeg;    // partial: [jpeg_bytes], the caller's
    size_t jpeg_bytes;
};

/* "queued", "progress", "partial", "completed", "error". */
const char *bw_event_name(enum bw_event_kind kind);

/* Append a queued, progress or partial event. */
void bw_event_render(struct bw_buf *out, const struct bw_event *event);

/* Append an event with any text of JSON without line breaks as its data: what the last event of a
 * stream holds. `id` 0: without. */
void bw_event_frame(struct bw_buf *out, const char *name, int64_t id, const char *json);

/* Append a comment, which keeps a connection alive that nothing happens on. */
void bw_event_ping(struct bw_buf *out);

/* What all events of a stream in the shape of OpenAI's images API have in common. */
struct bw_openai_stream {
    int64_t created_s;   // seconds since 1970
    int width, height;   // of each picture
    const char *quality; // bw_openai_quality() of the request as it was taken
};

/* Append an event in that shape, in which only previews are events: the others append nothing. */
void bw_event_render_openai(struct bw_buf *out, const struct bw_event *event,
                            const struct bw_openai_stream *stream);

/* Append what ends such a stream: an event for each picture. */
void bw_event_complete_openai(struct bw_buf *out, const struct bw_generation *generation,
                              const struct bw_openai_stream *stream);

/* The id that a reader saw last, from the field Last-Event-ID: 0 if there is none (NULL or empty).
 * BW_ESYNTAX: not an id of ours. */
int bw_event_last_id(const char *field, int64_t *id, struct bw_err *err);

#endif
