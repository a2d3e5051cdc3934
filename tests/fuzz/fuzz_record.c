/* Records: what is refused has a reason; what is accepted keeps its bounds and, written again,
 * reads the same. The input is what follows the first line, which is made here: nothing else would
 * get past the digest. */
#include "engine/digest.h"
#include "server/record.h"
#include "tests/fuzz/fuzz.h"

static void check_bounds(const struct bw_record *r, size_t header_bytes, uint64_t file_bytes)
{
    uint64_t at = header_bytes;
    MUST(bw_record_id_ok(r->id) && bw_record_owner_ok(r->owner) && r->body);
    MUST((r->outcome == BW_JOB_OPEN) == !r->result);
    MUST(r->picture_count >= 0 && r->picture_count <= BW_RECORD_PICTURES);
    for (int i = 0; i < r->picture_count; i++) {
        MUST(r->pictures[i].offset_bytes == at && r->pictures[i].size_bytes > 0);
        MUST(*r->pictures[i].media_type && strlen(r->pictures[i].etag) == BW_SHA256_CHARS - 1);
        at += r->pictures[i].size_bytes;
    }
    MUST(at == file_bytes);
}

static void check_again(const struct bw_record *a, uint64_t pictures_bytes)
{
    struct bw_record b;
    struct bw_buf text = {0}, second = {0};
    bw_record_write(a, &text);
    MUST(!text.failed && bw_record_header_bytes(text.data, text.length_bytes) == text.length_bytes);
    MUST(bw_record_parse(&b, text.data, text.length_bytes, text.length_bytes + pictures_bytes,
                         NULL) == BW_OK);
    MUST(strcmp(a->body, b.body) == 0 && a->outcome == b.outcome);
    MUST(a->created_s == b.created_s && a->finished_s == b.finished_s);
    bw_record_write(&b, &second);
    MUST(second.length_bytes == text.length_bytes);
    MUST(memcmp(second.data, text.data, text.length_bytes) == 0);
    bw_record_release(&b);
    bw_buf_release(&text);
    bw_buf_release(&second);
}

static void check(const char *bytes, size_t count, uint64_t file_bytes)
{
    struct bw_record record = {0};
    struct bw_err err = {0};
    if (bw_record_parse(&record, bytes, count, file_bytes, &err)) {
        MUST(err.code == BW_ESYNTAX && *err.message && !record.body);
        return;
    }
    size_t header_bytes = bw_record_header_bytes(bytes, count);
    MUST(header_bytes && header_bytes <= count);
    check_bounds(&record, header_bytes, file_bytes);
    check_again(&record, file_bytes - header_bytes);
    bw_record_release(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char digest[BW_DIGEST_CHARS];
    struct bw_buf file = {0};
    check((const char *)bytes, count, count);
    bw_digest(bytes, count, digest);
    bw_buf_addf(&file, "brickwork-record 1 %010zu %s\n", BW_RECORD_LINE_BYTES + count, digest);
    bw_buf_add(&file, bytes, count);
    MUST(!file.failed);
    check(file.data, file.length_bytes, file.length_bytes);
    check(file.data, file.length_bytes, file.length_bytes + 3000);
    bw_buf_release(&file);
    return 0;
}
