/* The header is parsed once by jansson into a tree that stays alive for its strings; the checks
 * then turn every entry into a `struct bw_tensor`. Sorting by offset makes overlap and hole checks
 * a walk over neighbours. */
#include "engine/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 16 << 20, MAX_TENSORS = 65536 };

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [BW_F16] = {"F16", 2}, [BW_BF16] = {"BF16", 2}, [BW_F32] = {"F32", 4}, [BW_U8] = {"U8", 1}};

enum { DTYPE_COUNT = sizeof dtypes / sizeof *dtypes };

static int refuse(struct bw_err *err, const char *tensor, const char *reason)
{
    return bw_err_set(err, BW_ESYNTAX, "tensor \"%.80s\": %s", tensor, reason);
}

static int read_dtype(struct bw_tensor *t, const json_t *entry, struct bw_err *err)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (int i = 0; name && i < DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            t->dtype = (enum bw_dtype)i;
            return BW_OK;
        }
    }
    return refuse(err, t->name, "dtype is none of F16, BF16, F32, U8");
}

/* Fills dims, shape, count and size_bytes; the product is checked against overflow. */
static int read_shape(struct bw_tensor *t, const json_t *entry, struct bw_err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > BW_MAX_DIMS)
        return refuse(err, t->name, "shape is not an array of at most 8 sizes");
    t->dims = (int)json_array_size(shape);
    t->count = 1;
    for (int i = 0; i < t->dims; i++) {
        const json_t *side = json_array_get(shape, (size_t)i);
        t->shape[i] = json_integer_value(side);
        if (!json_is_integer(side) || t->shape[i] < 0)
            return refuse(err, t->name, "shape holds something that is not a size");
        if (t->shape[i] && t->count > (SIZE_MAX >> 4) / (size_t)t->shape[i])
            return refuse(err, t->name, "shape is absurdly large");
        t->count *= (size_t)t->shape[i];
    }
    t->size_bytes = t->count * dtypes[t->dtype].bytes;
    return BW_OK;
}

/* Fills bytes; `body` is what follows the header. */
static int read_offsets(struct bw_tensor *t, const json_t *entry, const unsigned char *body,
                        size_t body_bytes, struct bw_err *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return refuse(err, t->name, "data_offsets is not a pair of integers");
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin)
        return refuse(err, t->name, "data_offsets run backwards");
    if ((uint64_t)end > body_bytes)
        return refuse(err, t->name, "data lies past the end of the file (is it truncated?)");
    if ((size_t)(end - begin) != t->size_bytes)
        return refuse(err, t->name, "data_offsets do not match dtype and shape");
    t->bytes = body + begin;
    return BW_OK;
}

static int read_tensor(struct bw_tensor *t, const json_t *entry, const unsigned char *body,
                       size_t body_bytes, struct bw_err *err)
{
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return refuse(err, t->name, "entry is not exactly dtype, shape and data_offsets");
    int code = read_dtype(t, entry, err);
    if (!code)
        code = read_shape(t, entry, err);
    if (!code)
        code = read_offsets(t, entry, body, body_bytes, err);
    return code;
}

static int by_offset(const void *a, const void *b)
{
    const struct bw_tensor *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return x->size_bytes < y->size_bytes ? -1 : x->size_bytes > y->size_bytes;
}

/* The format wants every byte to belong to exactly one tensor. */
static int check_layout(const struct bw_tensor *tensors, size_t count, const unsigned char *body,
                        size_t body_bytes, struct bw_err *err)
{
    const unsigned char *at = body;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].bytes < at)
            return refuse(err, tensors[i].name, "data overlaps another tensor's");
        if (tensors[i].bytes > at)
            return refuse(err, tensors[i].name, "data begins after a hole");
        at += tensors[i].size_bytes;
    }
    if (at != body + body_bytes)
        return bw_err_set(err, BW_ESYNTAX, "bytes after the last tensor belong to none");
    return BW_OK;
}

static int check_metadata(const json_t *metadata, struct bw_err *err)
{
    const char *key;
    json_t *value;
    if (metadata && !json_is_object(metadata))
        return bw_err_set(err, BW_ESYNTAX, "__metadata__ is not an object");
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return bw_err_set(err, BW_ESYNTAX, "__metadata__ \"%.80s\" is not text", key);
    }
    return BW_OK;
}

static int read_tensors(struct bw_safetensors *st, const unsigned char *body, size_t body_bytes,
                        struct bw_err *err)
{
    json_t *metadata = json_object_get(st->header, "__metadata__");
    size_t count = json_object_size(st->header) - (metadata != NULL);
    if (check_metadata(metadata, err))
        return BW_ESYNTAX;
    if (count > MAX_TENSORS)
        return bw_err_set(err, BW_ESYNTAX, "%zu tensors are more than the %d allowed", count,
                          MAX_TENSORS);
    st->tensors = calloc(count + 1, sizeof *st->tensors);
    if (!st->tensors)
        return bw_err_set(err, BW_ENOMEM, "out of memory for %zu tensors", count);
    const char *name;
    json_t *entry;
    json_object_foreach(st->header, name, entry)
    {
        if (entry == metadata)
            continue;
        struct bw_tensor *t = &st->tensors[st->tensor_count++];
        t->name = name;
        int code = read_tensor(t, entry, body, body_bytes, err);
        if (code)
            return code;
    }
    qsort(st->tensors, count, sizeof *st->tensors, by_offset);
    return check_layout(st->tensors, count, body, body_bytes, err);
}

static uint64_t header_length(const unsigned char *head)
{
    uint64_t bytes = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        bytes = bytes << 8 | head[i];
    return bytes;
}

/* `head` is what the file of that many bytes begins with, as far as its header goes; of `file`
 * itself nothing is read. */
static int parse(struct bw_safetensors *st, const unsigned char *head, const unsigned char *file,
                 size_t size_bytes, struct bw_err *err)
{
    if (size_bytes < LENGTH_BYTES)
        return bw_err_set(err, BW_ESYNTAX, "file is shorter than its 8-byte header length");
    uint64_t header_bytes = header_length(head);
    if (header_bytes > MAX_HEADER_BYTES)
        return bw_err_set(err, BW_ESYNTAX, "header of %llu bytes is absurdly large",
                          (unsigned long long)header_bytes);
    if (header_bytes > size_bytes - LENGTH_BYTES)
        return bw_err_set(err, BW_ESYNTAX, "header runs past the end of the file");

    json_error_t syntax;
    json_t *header = json_loadb((const char *)head + LENGTH_BYTES, header_bytes,
                                JSON_REJECT_DUPLICATES, &syntax);
    if (!header && json_error_code(&syntax) == json_error_out_of_memory)
        return bw_err_set(err, BW_ENOMEM, "out of memory for the header");
    if (!header)
        return bw_err_set(err, BW_ESYNTAX, "header is not JSON: %s", syntax.text);
    struct bw_safetensors out = {.file = file, .file_bytes = size_bytes, .header = header};
    size_t body_at = LENGTH_BYTES + header_bytes;
    int code = json_is_object(header)
                   ? read_tensors(&out, file + body_at, size_bytes - body_at, err)
                   : bw_err_set(err, BW_ESYNTAX, "header is not a JSON object");
    if (code)
        bw_safetensors_release(&out);
    else
        *st = out;
    return code;
}

int bw_safetensors_parse(struct bw_safetensors *st, const void *bytes, size_t size_bytes,
                         struct bw_err *err)
{
    return parse(st, bytes, bytes, size_bytes, err);
}

static bool read_at(int fd, size_t at, size_t count, void *out)
{
    for (size_t done = 0; done < count;) {
        ssize_t now = pread(fd, (char *)out + done, count - done, (off_t)(at + done));
        if (now <= 0)
            return false;
        done += (size_t)now;
    }
    return true;
}

/* The first bytes of a file of that size, its header included unless that is too long; NULL and why
 * if they cannot be read. */
static unsigned char *read_head(int fd, size_t size_bytes, struct bw_err *err)
{
    unsigned char length[LENGTH_BYTES] = {0};
    size_t count = size_bytes < LENGTH_BYTES ? size_bytes : LENGTH_BYTES;
    bool read = read_at(fd, 0, count, length);
    uint64_t header_bytes = header_length(length);
    if (header_bytes <= MAX_HEADER_BYTES && header_bytes <= size_bytes - count)
        count += header_bytes;
    unsigned char *head = malloc(count + 1);
    if (!head) {
        bw_err_set(err, BW_ENOMEM, "out of memory for the header");
    } else if (!read || !read_at(fd, 0, count, head)) {
        bw_err_set(err, BW_EIO, "the header cannot be read");
        free(head);
        head = NULL;
    }
    return head;
}

/* The header is read, not looked at where it is mapped: reading notices if the file becomes
 * shorter, looking would end the process. */
int bw_safetensors_open(struct bw_safetensors *st, const char *path, struct bw_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd < 0)
        return bw_err_set(err, BW_EIO, "%.200s: %s", path, strerror(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        close(fd);
        return bw_err_set(err, BW_EIO, "%.200s: not a regular file", path);
    }
    size_t size = (size_t)info.st_size;
    void *map = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (map == MAP_FAILED) {
        bw_err_set(err, BW_EIO, "%.200s: cannot be mapped: %s", path, strerror(errno));
        close(fd);
        return BW_EIO;
    }

    struct bw_err reason = {0};
    struct bw_safetensors out;
    unsigned char *head = read_head(fd, size, &reason);
    int code = head ? parse(&out, head, map, size, &reason) : (int)reason.code;
    free(head);
    if (code) {
        if (map)
            munmap(map, size);
        close(fd);
        return bw_err_set(err, code, "%.200s: %s", path, reason.message);
    }
    out.mapped = true;
    out.fd = fd;
    *st = out;
    return BW_OK;
}

void bw_safetensors_release(struct bw_safetensors *st)
{
    if (st->mapped) {
        munmap((void *)st->file, st->file_bytes);
        close(st->fd);
    }
    free(st->tensors);
    json_decref(st->header);
    *st = (struct bw_safetensors){0};
}

bool bw_safetensors_read(const struct bw_safetensors *st, size_t at, size_t count, void *out)
{
    assert(at <= st->file_bytes && count <= st->file_bytes - at);
    if (!st->mapped) {
        memcpy(out, st->file + at, count);
        return true;
    }
    return read_at(st->fd, at, count, out);
}

const struct bw_tensor *bw_safetensors_find(const struct bw_safetensors *st, const char *name)
{
    for (size_t i = 0; i < st->tensor_count; i++) {
        if (strcmp(st->tensors[i].name, name) == 0)
            return &st->tensors[i];
    }
    return NULL;
}

const char *bw_safetensors_metadata(const struct bw_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(json_object_get(st->header, "__metadata__"), key));
}

/* IEEE 754 binary16 to binary32, subnormals, infinities and NaN included, without branches so that
 * the compiler makes vectors of it: the exponent's offset is a factor, which subnormals take as
 * well; what was the highest exponent has to become the highest. */
static float half_to_float(uint16_t half)
{
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void bw_tensor_to_float(const struct bw_tensor *tensor, size_t first, size_t count, float *out)
{
    assert(tensor->dtype != BW_U8 && first + count <= tensor->count);
    const unsigned char *in = tensor->bytes + first * dtypes[tensor->dtype].bytes;
    if (tensor->dtype == BW_F32) {
        memcpy(out, in, count * sizeof *out);
        return;
    }
    for (size_t i = 0; tensor->dtype == BW_F16 && i < count; i++) {
        uint16_t half;
        memcpy(&half, in + 2 * i, sizeof half);
        out[i] = half_to_float(half);
    }
    for (size_t i = 0; tensor->dtype == BW_BF16 && i < count; i++) {
        uint16_t half;
        memcpy(&half, in + 2 * i, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

/* The header of a file to be written, padded so that the data begins on a multiple of 8 bytes; NULL
 * without memory. */
static char *render_header(const struct bw_tensor *tensors, size_t count, const char *key,
                           const char *value)
{
    json_t *header = json_object();
    json_int_t offset = 0;
    bool ok = !key || !json_object_set_new(header, "__metadata__", json_pack("{s:s}", key, value));
    for (size_t i = 0; ok && i < count; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < tensors[i].dims; d++)
            ok = !json_array_append_new(shape, json_integer(tensors[i].shape[d])) && ok;
        json_int_t end = offset + (json_int_t)tensors[i].size_bytes;
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[tensors[i].dtype].name,
                                  "shape", shape, "data_offsets", offset, end);
        ok = !json_object_set_new(header, tensors[i].name, entry) && ok;
        offset = end;
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT) : NULL;
    json_t *read = text ? json_loads(text, 0, NULL) : NULL;
    ok = json_equal(read, header); // without memory jansson may leave words out
    json_decref(read);
    json_decref(header);
    size_t length = text ? strlen(text) : 0, padded = (length + 7) & ~(size_t)7;
    char *grown = ok ? realloc(text, padded + 1) : NULL;
    if (!grown) {
        free(text);
        return NULL;
    }
    memset(grown + length, ' ', padded - length);
    grown[padded] = '\0';
    return grown;
}

int bw_safetensors_write(const char *path, const struct bw_tensor *tensors, size_t count,
                         const char *key, const char *value, struct bw_err *err)
{
    char *header = render_header(tensors, count, key, value), *temporary = NULL;
    struct stat there;
    bool direct = lstat(path, &there) == 0 && !S_ISREG(there.st_mode); // a device, a pipe, a link
    int code = BW_OK;
    FILE *file = NULL;
    if (!header || asprintf(&temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) {
        code = bw_err_set(err, BW_ENOMEM, "out of memory writing %s", path);
        temporary = NULL; // whatever it is by now
        goto out;
    }
    file = fopen(direct ? path : temporary, direct ? "wb" : "wbx");
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)strlen(header) >> (8 * i));
    bool ok = file && fwrite(length, 1, sizeof length, file) == sizeof length &&
              fwrite(header, 1, strlen(header), file) == strlen(header);
    for (size_t i = 0; ok && i < count; i++)
        ok = fwrite(tensors[i].bytes, 1, tensors[i].size_bytes, file) == tensors[i].size_bytes;
    if (file && fclose(file))
        ok = false;
    if (!ok || (!direct && rename(temporary, path))) {
        code = bw_err_set(err, BW_EIO, "%.200s: cannot be written: %s", path, strerror(errno));
        if (file && !direct)
            remove(temporary);
    }
out:
    free(header);
    free(temporary);
    return code;
}
