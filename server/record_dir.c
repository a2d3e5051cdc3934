/* All names are relative to the directory's descriptor, so it may be moved while the server runs.
 */
#include "server/record_dir.h"

#include "base/log.h"
#include "base/text.h"
#include "engine/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define INCOMING "incoming"
#define PREFIX   "record-"

enum { NAME_CHARS = 96 };

void bw_record_key(const char *owner, const char *id, char key[BW_SHA256_CHARS])
{
    char text[BW_OWNER_CHARS + BW_JOB_ID_CHARS];
    int length = snprintf(text, sizeof text, "%s\n%s", owner, id); // no owner holds a line end
    bw_digest(text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1, key);
}

static void name_of(const char *key, char name[NAME_CHARS])
{
    snprintf(name, NAME_CHARS, PREFIX "%s", key);
}

int bw_record_dir_open(const char *path, int *dir, int *lock, struct bw_err *err)
{
    mkdir(path, 0700); // if that is not possible, opening it says why
    int d = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d < 0)
        return bw_err_set(err, BW_EIO, "%s: %s", path, strerror(errno));
    int l = openat(d, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600), code = BW_OK;
    if (l < 0)
        code = bw_err_set(err, BW_EIO, "%s/lock: %s", path, strerror(errno));
    else if (flock(l, LOCK_EX | LOCK_NB))
        code = bw_err_set(err, errno == EWOULDBLOCK ? BW_EBUSY : BW_EIO,
                          "%s: another server works there", path);
    if (code) {
        close(d);
        if (l >= 0)
            close(l);
        return code;
    }
    unlinkat(d, INCOMING, 0); // of one that was interrupted
    *dir = d;
    *lock = l;
    return BW_OK;
}

/* ---- writing ---- */

static bool write_all(int fd, const void *bytes, size_t count)
{
    for (const char *at = bytes; count;) {
        ssize_t done = write(fd, at, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += done;
        count -= (size_t)done;
    }
    return true;
}

static bool write_file(int dir, const struct bw_buf *header, const struct bw_record *record,
                       unsigned char *const *pictures)
{
    int fd = openat(dir, INCOMING, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool well = write_all(fd, header->data, header->length_bytes);
    for (int i = 0; i < record->picture_count && well; i++)
        well = write_all(fd, pictures[i], record->pictures[i].size_bytes);
    well = well && fsync(fd) == 0;
    int reason = errno;
    if (close(fd) == 0)
        errno = reason;
    else
        well = false;
    return well;
}

int bw_record_dir_write(int dir, const char *key, const struct bw_record *record,
                        unsigned char *const *pictures, size_t *header_bytes, struct bw_err *err)
{
    char name[NAME_CHARS];
    struct bw_buf header = {0};
    int code = BW_OK;
    bw_record_write(record, &header);
    name_of(key, name);
    if (header.failed) {
        code = bw_err_set(err, BW_ENOMEM, "no memory for the record of a job, or it is too large");
    } else if (!write_file(dir, &header, record, pictures) || renameat(dir, INCOMING, dir, name) ||
               fsync(dir)) {
        code = bw_err_set(err, BW_EIO, "a job cannot be saved: %s", strerror(errno));
        unlinkat(dir, INCOMING, 0);
    } else {
        *header_bytes = header.length_bytes;
    }
    bw_buf_release(&header);
    return code;
}

int bw_record_dir_erase(int dir, const char *key, struct bw_err *err)
{
    char name[NAME_CHARS];
    name_of(key, name);
    if (unlinkat(dir, name, 0) && errno != ENOENT)
        return bw_err_set(err, BW_EIO, "%s cannot be removed: %s", name, strerror(errno));
    return BW_OK;
}

/* ---- reading ---- */

/* Append `count` bytes of a file from `at`; false: they are not there, or there is no memory. */
static bool read_part(int fd, uint64_t at, size_t count, struct bw_buf *out)
{
    char block[16384];
    while (count) {
        size_t most = count < sizeof block ? count : sizeof block;
        ssize_t got = pread(fd, block, most, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bw_buf_add(out, block, (size_t)got);
        at += (uint64_t)got;
        count -= (size_t)got;
    }
    return !out->failed;
}

int bw_record_dir_picture(int dir, const char *key, const struct bw_record_picture *picture,
                          struct bw_buf *out, struct bw_err *err)
{
    char name[NAME_CHARS], digest[BW_DIGEST_CHARS];
    name_of(key, name);
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bw_err_set(err, errno == ENOENT ? BW_ENOTFOUND : BW_EIO, "%s: %s", name,
                          strerror(errno));
    size_t start = out->length_bytes;
    bool well = read_part(fd, picture->offset_bytes, picture->size_bytes, out);
    close(fd);
    if (out->failed)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a picture of %zu bytes",
                          picture->size_bytes);
    if (well)
        bw_digest(out->data + start, picture->size_bytes, digest);
    if (!well || strcmp(digest, picture->etag))
        return bw_err_set(err, BW_EIO, "%s: a picture cannot be read, or is damaged", name);
    return BW_OK;
}

static int parse_file(int fd, const char *key, struct bw_record *record, struct bw_err *err)
{
    struct bw_buf bytes = {.ceiling_bytes = BW_RECORD_CEILING_BYTES};
    struct stat file;
    char own_key[BW_SHA256_CHARS];
    if (fstat(fd, &file) || !S_ISREG(file.st_mode) ||
        !read_part(fd, 0, BW_RECORD_LINE_BYTES, &bytes)) {
        bw_buf_release(&bytes);
        return bw_err_set(err, BW_ESYNTAX, "not a file, or too short for a record");
    }
    size_t size = bw_record_header_bytes(bytes.data, bytes.length_bytes);
    if (size)
        read_part(fd, BW_RECORD_LINE_BYTES, size - BW_RECORD_LINE_BYTES, &bytes);
    int code = bytes.failed ? bw_err_set(err, BW_ENOMEM, "out of memory")
                            : bw_record_parse(record, bytes.data, bytes.length_bytes,
                                              (uint64_t)file.st_size, err);
    bw_buf_release(&bytes);
    if (code)
        return code;
    bw_record_key(record->owner, record->id, own_key);
    if (strcmp(key, own_key)) {
        bw_record_release(record);
        return bw_err_set(err, BW_ESYNTAX, "the record of another job");
    }
    return BW_OK;
}

static void move_aside(int dir, const char *name, const struct bw_err *reason)
{
    char aside[NAME_CHARS + 8];
    struct bw_log_line line;
    snprintf(aside, sizeof aside, "%s.broken", name);
    bool moved = renameat(dir, name, dir, aside) == 0;
    bw_log_begin(&line, BW_LOG_ERROR, "job-broken");
    bw_log_text(&line, "file", moved ? aside : name);
    bw_log_text(&line, "reason", reason->message);
    bw_log_end(&line);
}

static int load_file(int dir, const char *name, bw_record_dir_fn *fn, void *context,
                     struct bw_err *err)
{
    const char *key = bw_text_after(name, PREFIX);
    struct bw_record record;
    struct bw_err reason = {0};
    if (!key || !bw_record_fingerprint_ok(key))
        return BW_OK; // not ours, or set aside before
    int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int code = fd < 0 ? bw_err_set(&reason, BW_EIO, "%s", strerror(errno))
                      : parse_file(fd, key, &record, &reason);
    if (fd >= 0)
        close(fd);
    if (code == BW_ENOMEM)
        return bw_err_set(err, code, "%s: %s", name, reason.message);
    if (!code)
        return fn(context, key, &record) ? bw_err_set(err, BW_ENOMEM, "out of memory") : BW_OK;
    move_aside(dir, name, &reason);
    return BW_OK;
}

int bw_record_dir_load(int dir, bw_record_dir_fn *fn, void *context, struct bw_err *err)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = BW_OK;
    DIR *list = again < 0 ? NULL : fdopendir(again);
    if (!list) {
        if (again >= 0)
            close(again);
        return bw_err_set(err, BW_EIO, "the directory of jobs cannot be listed: %s",
                          strerror(errno));
    }
    for (struct dirent *entry; !code && (entry = readdir(list));)
        code = load_file(dir, entry->d_name, fn, context, err);
    closedir(list);
    return code;
}
