/* Pictures may have to be read from the disk first, so what an answer needs of its record is copied
 * when it is asked for; the record may be gone when the pictures are there. */
#include "server/replay.h"

#include "api/job.h"
#include "server/answer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    struct replay *owner;
    struct bw_buf bytes;
};

struct replay {
    struct bw_exchange *exchange; // NULL once the client has left, or if there is a teller
    bw_replay_text_fn *teller;    // is told the text; NULL: the exchange is answered
    void *context;
    char request_id[BW_REQUEST_ID_CHARS];
    enum bw_form form;
    char *result; // of the record; NULL: only a picture is wanted
    char media_type[BW_MEDIA_TYPE_CHARS], etag[BW_SHA256_CHARS + 2];
    int count, arrived; // pictures
    struct bw_err err;  // of any of them
    struct slot pictures[BW_RECORD_PICTURES];
};

static void client_left(void *context)
{
    ((struct replay *)context)->exchange = NULL;
}

/* A stream that consists of its last event; `data` passes. */
static void respond_event(struct bw_exchange *x, enum bw_event_kind kind, char *data)
{
    static const struct bw_header headers[] = {
        {"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"}, {NULL, NULL}};
    struct bw_buf out = {0};
    if (data)
        bw_event_frame(&out, bw_event_name(kind), BW_LAST_EVENT_ID, data);
    free(data);
    size_t length = out.length_bytes;
    if (length && !out.failed) {
        bw_exchange_respond(x, 200, headers, bw_buf_steal(&out), length);
        return;
    }
    bw_buf_release(&out);
    bw_answer_no_memory(x);
}

/* All pictures of the record are there: answer as when they were new. */
static void respond_result(struct replay *r)
{
    struct bw_generation result;
    struct bw_image images[BW_MAX_COUNT];
    char digest[BW_JOB_DIGEST_CHARS];
    struct bw_err err = {0};
    int code = r->err.code ? r->err.code : bw_job_parse(r->result, &result, images, digest, &err);
    if (!code && result.request.count != r->count)
        code = bw_err_set(&err, BW_ESYNTAX, "not the result of a job");
    for (int i = 0; !code && i < r->count; i++) {
        images[i].bytes = r->pictures[i].bytes.data;
        images[i].size_bytes = r->pictures[i].bytes.length_bytes;
    }
    result.request_id = r->request_id;
    if (r->teller)
        r->teller(r->context, code ? NULL : bw_generation_render(&result));
    else if (code)
        bw_exchange_refuse(r->exchange, BW_PROBLEM_INTERNAL, &err, NULL);
    else if (r->form == BW_FORM_EVENTS)
        respond_event(r->exchange, BW_EVENT_COMPLETED, bw_generation_render(&result));
    else
        bw_answer_result(r->exchange, r->form, &result);
}

/* A job may be deleted, and another one may take its id: the tag says whether it is the same. */
static const char picture_lasting[] = "private, no-cache";

static void respond_picture(struct replay *r)
{
    struct bw_buf *bytes = &r->pictures[0].bytes;
    size_t length = bytes->length_bytes;
    const struct bw_header headers[] = {{"Content-Type", r->media_type},
                                        {"ETag", r->etag},
                                        {"Cache-Control", picture_lasting},
                                        {NULL, NULL}};
    bw_exchange_respond(r->exchange, 200, headers, bw_buf_steal(bytes), length);
}

static void refuse_picture(struct bw_exchange *x, const struct bw_err *err)
{
    if (err->code == BW_EBUSY)
        bw_exchange_refuse(x, BW_PROBLEM_STORE, err, &(struct bw_header){"Retry-After", "1"});
    else
        bw_exchange_refuse(x, err->code == BW_ENOTFOUND ? BW_PROBLEM_GONE : BW_PROBLEM_INTERNAL,
                           err, NULL);
}

static void on_picture(void *context, struct bw_buf *bytes, const struct bw_err *err)
{
    struct slot *slot = context;
    struct replay *r = slot->owner;
    if (err->code) {
        r->err = *err;
    } else {
        slot->bytes = *bytes;
        *bytes = (struct bw_buf){0};
    }
    if (++r->arrived < r->count)
        return;
    if (r->exchange && r->err.code)
        refuse_picture(r->exchange, &r->err);
    else if (r->teller || (r->exchange && r->result))
        respond_result(r);
    else if (r->exchange)
        respond_picture(r);
    for (int i = 0; i < r->count; i++)
        bw_buf_release(&r->pictures[i].bytes);
    free(r->result);
    free(r);
}

/* Fetch `count` pictures from `first` on and answer. */
static void fetch(struct bw_shelf shelf, const struct bw_record *record, int first, int count,
                  const struct replay *from, struct bw_exchange *x)
{
    struct replay *r = malloc(sizeof *r);
    assert(count > 0);
    if (!r) {
        free(from->result);
        if (from->teller)
            from->teller(from->context, NULL);
        else
            bw_answer_no_memory(x);
        return;
    }
    *r = *from;
    r->exchange = x;
    r->count = count;
    if (x) {
        snprintf(r->request_id, sizeof r->request_id, "%s", bw_exchange_id(x));
        bw_exchange_on_leave(x, client_left, r);
    }
    for (int i = 0; i < count; i++)
        r->pictures[i].owner = r;
    for (int i = 0; i < count; i++) // the last one frees r
        shelf.fetch(shelf.source, record, first + i, on_picture, &r->pictures[i]);
}

static void fetch_from_store(void *store, const struct bw_record *record, int index,
                             bw_store_picture_fn *fn, void *context)
{
    bw_store_picture(store, record, index, fn, context);
}

struct bw_shelf bw_shelf_of_store(struct bw_store *store)
{
    return (struct bw_shelf){fetch_from_store, store};
}

void bw_replay(struct bw_shelf shelf, const struct bw_record *record, struct bw_exchange *x,
               enum bw_form form)
{
    int status = 0;
    bool completed = record->outcome == BW_JOB_COMPLETED;
    char *text = completed ? strdup(record->result)
                           : bw_job_problem(record->result, bw_exchange_id(x), &status);
    if (!text)
        bw_answer_no_memory(x);
    else if (completed)
        fetch(shelf, record, 0, record->picture_count,
              &(struct replay){.form = form, .result = text}, x);
    else if (form == BW_FORM_EVENTS)
        respond_event(x, BW_EVENT_ERROR, text);
    else
        bw_exchange_respond(x, status, bw_problem_headers, text, strlen(text));
}

void bw_replay_text(struct bw_shelf shelf, const struct bw_record *record, const char *request_id,
                    bw_replay_text_fn *fn, void *context)
{
    struct replay from = {.teller = fn, .context = context, .result = strdup(record->result)};
    snprintf(from.request_id, sizeof from.request_id, "%s", request_id);
    if (from.result && record->picture_count) {
        fetch(shelf, record, 0, record->picture_count, &from, NULL);
        return;
    }
    free(from.result);
    fn(context, NULL);
}

static void replay_picture(struct bw_shelf shelf, const struct bw_record *record, int i,
                           struct bw_exchange *x)
{
    struct replay from = {0};
    const char *const offer = record->pictures[i].media_type;
    char reason[BW_MEDIA_TYPE_CHARS + 32];
    snprintf(reason, sizeof reason, "this picture comes as %s", offer);
    if (bw_answer_choose(x, &offer, 1, reason) < 0)
        return;
    snprintf(from.media_type, sizeof from.media_type, "%s", offer);
    snprintf(from.etag, sizeof from.etag, "\"%s\"", record->pictures[i].etag);
    if (!bw_answer_not_modified(x, from.etag, picture_lasting))
        fetch(shelf, record, i, 1, &from, x);
}

void bw_replay_image(struct bw_shelf shelf, const struct bw_record *record, struct bw_exchange *x)
{
    char number[3];
    struct bw_err err = {0};
    bw_exchange_segment(x, 4, number, sizeof number);
    int i = number[1] ? -1 : *number - '0'; // no job has more than ten pictures
    if (record->outcome == BW_JOB_OPEN) {
        bw_err_set(&err, BW_EBUSY, "the job is not over");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_READY, &err, &(struct bw_header){"Retry-After", "1"});
    } else if (record->outcome == BW_JOB_FAILED) {
        bw_err_set(&err, BW_ERANGE, "the job failed; it has no pictures");
        bw_exchange_refuse(x, BW_PROBLEM_CONFLICT, &err, NULL);
    } else if (i < 0 || i >= record->picture_count) {
        bw_err_set(&err, BW_ENOTFOUND, "the job has %d pictures, counted from 0",
                   record->picture_count);
        bw_exchange_refuse(x, BW_PROBLEM_UNKNOWN_JOB, &err, NULL);
    } else {
        replay_picture(shelf, record, i, x);
    }
}

void bw_replay_end(const struct bw_record *record, char *job, int64_t seen, struct bw_exchange *x)
{
    int status = 0;
    if (seen >= BW_LAST_EVENT_ID) {
        free(job);
        bw_exchange_respond(x, 204, NULL, NULL, 0);
    } else if (record->outcome == BW_JOB_COMPLETED) {
        respond_event(x, BW_EVENT_COMPLETED, job);
    } else {
        free(job);
        respond_event(x, BW_EVENT_ERROR,
                      bw_job_problem(record->result, bw_exchange_id(x), &status));
    }
}
