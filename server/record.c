/* Writing and reading mirror each other: the lines come in one order and none may be missing, so
 * that there is nothing to decide. */
#include "server/record.h"

#include "base/text.h"
#include "engine/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "brickwork-record 1 "

static const char *const outcomes[] = {"open", "completed", "failed"};

enum { DIGITS = 10, OUTCOMES = 3 };

bool bw_record_id_ok(const char *id)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = strlen(id);
    bool is_step = strcmp(id, ".") == 0 || strcmp(id, "..") == 0; // which no URL keeps
    return length && length < BW_JOB_ID_CHARS && strspn(id, allowed) == length && !is_step;
}

bool bw_record_owner_ok(const char *owner)
{
    for (const unsigned char *c = (const unsigned char *)owner; *c; c++) {
        if (*c < ' ' || *c == 0x7f)
            return false;
    }
    return strlen(owner) < BW_OWNER_CHARS;
}

bool bw_record_fingerprint_ok(const char *fingerprint)
{
    return strlen(fingerprint) == BW_SHA256_CHARS - 1 &&
           strspn(fingerprint, "0123456789abcdef") == BW_SHA256_CHARS - 1;
}

static bool media_type_ok(const char *type)
{
    for (const char *c = type; *c; c++) {
        if (*c <= ' ' || *c >= 0x7f)
            return false;
    }
    return *type && strlen(type) < BW_MEDIA_TYPE_CHARS;
}

/* ---- writing ---- */

static void write_text(struct bw_buf *out, const char *name, const char *text)
{
    bw_buf_addf(out, "%s %zu\n", name, strlen(text));
    bw_buf_add_text(out, text);
    bw_buf_add_text(out, "\n");
}

void bw_record_write(const struct bw_record *record, struct bw_buf *out)
{
    struct bw_buf rest = {.ceiling_bytes = BW_RECORD_CEILING_BYTES - BW_RECORD_LINE_BYTES};
    char digest[BW_DIGEST_CHARS];
    bw_buf_addf(&rest, "id %s\nowner %s\nfingerprint %s\ncreated %lld\noutcome %s\nfinished %lld\n",
                record->id, record->owner, record->fingerprint, (long long)record->created_s,
                outcomes[record->outcome], (long long)record->finished_s);
    write_text(&rest, "body", record->body);
    write_text(&rest, "result", record->result ? record->result : "");
    bw_buf_addf(&rest, "pictures %d\n", record->picture_count);
    for (int i = 0; i < record->picture_count; i++) {
        const struct bw_record_picture *p = &record->pictures[i];
        bw_buf_addf(&rest, "picture %zu %s %s\n", p->size_bytes, p->media_type, p->etag);
    }
    if (rest.failed) {
        out->failed = true;
    } else {
        bw_digest(rest.data, rest.length_bytes, digest);
        bw_buf_addf(out, MAGIC "%0*zu %s\n", DIGITS, BW_RECORD_LINE_BYTES + rest.length_bytes,
                    digest);
        bw_buf_add(out, rest.data, rest.length_bytes);
    }
    bw_buf_release(&rest);
}

void bw_record_place(struct bw_record *record, size_t header_bytes)
{
    uint64_t at = header_bytes;
    for (int i = 0; i < record->picture_count; i++) {
        record->pictures[i].offset_bytes = at;
        at += record->pictures[i].size_bytes;
    }
}

/* ---- reading ---- */

struct cursor {
    const char *at, *end;
    const char *wrong; // name of the first line that is not as it should be; NULL: none
};

/* The value of the line "name value" into a text of that room. */
static void take_line(struct cursor *c, const char *name, char *value, size_t room)
{
    size_t length = strlen(name), left = (size_t)(c->end - c->at);
    const char *stop = memchr(c->at, '\n', left);
    *value = '\0';
    if (c->wrong)
        return;
    c->wrong = name;
    if (!stop || (size_t)(stop - c->at) <= length || memcmp(c->at, name, length) ||
        c->at[length] != ' ')
        return;
    const char *begin = c->at + length + 1;
    size_t size = (size_t)(stop - begin);
    if (size >= room || memchr(begin, '\0', size))
        return;
    memcpy(value, begin, size);
    value[size] = '\0';
    c->at = stop + 1;
    c->wrong = NULL;
}

static int64_t take_int(struct cursor *c, const char *name, int64_t high)
{
    char text[24];
    int64_t value = 0;
    take_line(c, name, text, sizeof text);
    if (!c->wrong && !bw_text_to_int(text, 0, high, &value))
        c->wrong = name;
    return value;
}

/* The line "name BYTES" and so many bytes after it, as text the caller frees. */
static char *take_text(struct cursor *c, const char *name)
{
    int64_t size = take_int(c, name, BW_RECORD_CEILING_BYTES);
    if (!c->wrong &&
        (size >= c->end - c->at || c->at[size] != '\n' || memchr(c->at, '\0', (size_t)size)))
        c->wrong = name;
    char *text = c->wrong ? NULL : strndup(c->at, (size_t)size);
    if (!text && !c->wrong)
        c->wrong = "memory";
    if (text)
        c->at += size + 1;
    return text;
}

static struct bw_record_picture take_picture(struct cursor *c)
{
    struct bw_record_picture p = {0};
    char text[160], *rest = text;
    int64_t size;
    take_line(c, "picture", text, sizeof text);
    if (c->wrong)
        return p;
    const char *number = strsep(&rest, " "), *type = strsep(&rest, " ");
    if (!type || !rest || !bw_text_to_int(number, 1, INT32_MAX, &size) || !media_type_ok(type) ||
        !bw_record_fingerprint_ok(rest)) {
        c->wrong = "picture";
        return p;
    }
    p.size_bytes = (size_t)size;
    strcpy(p.media_type, type);
    strcpy(p.etag, rest);
    return p;
}

static enum bw_job_end take_outcome(struct cursor *c)
{
    char text[16];
    take_line(c, "outcome", text, sizeof text);
    for (int i = 0; i < OUTCOMES && !c->wrong; i++) {
        if (strcmp(outcomes[i], text) == 0)
            return (enum bw_job_end)i;
    }
    c->wrong = c->wrong ? c->wrong : "outcome";
    return BW_JOB_OPEN;
}

static void take_all(struct cursor *c, struct bw_record *r)
{
    take_line(c, "id", r->id, sizeof r->id);
    take_line(c, "owner", r->owner, sizeof r->owner);
    take_line(c, "fingerprint", r->fingerprint, sizeof r->fingerprint);
    r->created_s = take_int(c, "created", INT64_MAX);
    r->outcome = take_outcome(c);
    r->finished_s = take_int(c, "finished", INT64_MAX);
    r->body = take_text(c, "body");
    r->result = take_text(c, "result");
    r->picture_count = (int)take_int(c, "pictures", BW_RECORD_PICTURES);
    for (int i = 0; i < r->picture_count && !c->wrong; i++)
        r->pictures[i] = take_picture(c);
    if (!c->wrong && c->at != c->end)
        c->wrong = "end";
}

/* What no line can say alone; NULL: all is well. */
static const char *contradiction(const struct bw_record *r, size_t header_bytes,
                                 uint64_t file_bytes)
{
    uint64_t size = header_bytes;
    for (int i = 0; i < r->picture_count; i++)
        size += r->pictures[i].size_bytes;
    if (!bw_record_id_ok(r->id) || !bw_record_owner_ok(r->owner) ||
        !bw_record_fingerprint_ok(r->fingerprint))
        return "who it is";
    if (size != file_bytes)
        return "the size of the file";
    if (r->outcome != BW_JOB_COMPLETED && r->picture_count)
        return "pictures of what is not completed";
    if (r->outcome == BW_JOB_COMPLETED && !r->picture_count)
        return "completed without pictures";
    return NULL;
}

size_t bw_record_header_bytes(const char *line, size_t count)
{
    char digits[DIGITS + 1] = "";
    int64_t size;
    const size_t start = sizeof MAGIC - 1;
    if (count < BW_RECORD_LINE_BYTES || memcmp(line, MAGIC, start) || line[start + DIGITS] != ' ' ||
        line[BW_RECORD_LINE_BYTES - 1] != '\n')
        return 0;
    memcpy(digits, line + start, DIGITS);
    return bw_text_to_int(digits, BW_RECORD_LINE_BYTES, BW_RECORD_CEILING_BYTES, &size)
               ? (size_t)size
               : 0;
}

int bw_record_parse(struct bw_record *record, const char *bytes, size_t count, uint64_t file_bytes,
                    struct bw_err *err)
{
    size_t size = bw_record_header_bytes(bytes, count);
    char digest[BW_DIGEST_CHARS];
    if (!size || size > count)
        return bw_err_set(err, BW_ESYNTAX, "not a record, or not all of it");
    bw_digest(bytes + BW_RECORD_LINE_BYTES, size - BW_RECORD_LINE_BYTES, digest);
    if (memcmp(digest, bytes + sizeof MAGIC + DIGITS, BW_SHA256_CHARS - 1))
        return bw_err_set(err, BW_ESYNTAX, "the header is not what was written");
    struct bw_record r = {0};
    struct cursor c = {bytes + BW_RECORD_LINE_BYTES, bytes + size, NULL};
    take_all(&c, &r);
    const char *wrong = c.wrong ? c.wrong : contradiction(&r, size, file_bytes);
    if (wrong) {
        bw_record_release(&r);
        return bw_err_set(err, strcmp(wrong, "memory") ? BW_ESYNTAX : BW_ENOMEM,
                          "the record is wrong: %s", wrong);
    }
    if (r.outcome == BW_JOB_OPEN) {
        free(r.result);
        r.result = NULL;
    }
    bw_record_place(&r, size);
    *record = r;
    return BW_OK;
}

void bw_record_release(struct bw_record *record)
{
    free(record->body);
    free(record->result);
    *record = (struct bw_record){0};
}
