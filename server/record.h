/* Record: what is known of one job, and how that is written to a file.
 *
 * A file begins with a header of lines; the bytes of the pictures follow, one after the other:
 *
 *     brickwork-record 1 0000000390 SHA-256 of the rest of the header
 *     id plums-1
 *     owner alice
 *     fingerprint SHA-256
 *     created 1700000000
 *     outcome completed
 *     finished 1700000009
 *     body 17
 *     {"class":"plums"}
 *     result 2
 *     {}
 *     pictures 1
 *     picture 5120 image/jpeg SHA-256 of its bytes
 *
 * The number in the first line is the size of the whole header, those after body and result are the
 * bytes of the text in the next line. The header is checked when it is read, a picture's digest
 * whenever its bytes are. Any thread; a record belongs to one caller at a time.
 */
#ifndef BW_SERVER_RECORD_H
#define BW_SERVER_RECORD_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    BW_JOB_ID_CHARS = 65,
    BW_OWNER_CHARS = 96,
    BW_MEDIA_TYPE_CHARS = 32,
    BW_SHA256_CHARS = 65,
    BW_RECORD_PICTURES = 8,
    BW_RECORD_LINE_BYTES = 95,          // the first line of a file
    BW_RECORD_CEILING_BYTES = 64 << 20, // the largest header
};

enum bw_job_end { BW_JOB_OPEN, BW_JOB_COMPLETED, BW_JOB_FAILED }; // BW_JOB_OPEN: not over

struct bw_record_picture {
    char media_type[BW_MEDIA_TYPE_CHARS];
    char etag[BW_SHA256_CHARS]; // SHA-256 of the bytes
    size_t size_bytes;
    uint64_t offset_bytes; // in the file
};

struct bw_record {
    char id[BW_JOB_ID_CHARS];          // letters, digits, '_', '.', '-'
    char owner[BW_OWNER_CHARS];        // name of the client's key, or ""; no control characters
    char fingerprint[BW_SHA256_CHARS]; // of what the client sent
    int64_t created_s;                 // since 1970
    char *body;                        // JSON: the request, complete, to run it (again)
    enum bw_job_end outcome;
    int64_t finished_s; // 0 while open
    char *result;       // JSON, opaque here; NULL while open
    int picture_count;  // 1..BW_RECORD_PICTURES of a completed job, otherwise 0
    struct bw_record_picture pictures[BW_RECORD_PICTURES];
};

/* May these be a record's id, owner and fingerprint? */
bool bw_record_id_ok(const char *id);
bool bw_record_owner_ok(const char *owner);
bool bw_record_fingerprint_ok(const char *fingerprint);

/* Append the header. The record's offsets are not looked at: they follow from the sizes. A failure
 * is in `out->failed`. */
void bw_record_write(const struct bw_record *record, struct bw_buf *out);

/* The size of the header that begins with this line, or 0: it is not one. */
size_t bw_record_header_bytes(const char *line, size_t count);

/* Read the header at the start of `bytes`, of a file of `file_bytes`. BW_ESYNTAX: it is damaged, or
 * its file is shorter or longer than it says; BW_ENOMEM. The caller releases the record. */
int bw_record_parse(struct bw_record *record, const char *bytes, size_t count, uint64_t file_bytes,
                    struct bw_err *err);

/* Where the pictures of a header of that size are. */
void bw_record_place(struct bw_record *record, size_t header_bytes);

void bw_record_release(struct bw_record *record);

#endif
