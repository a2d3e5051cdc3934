/* safetensors: the file format of models and golden cases.
 *
 * A file is an 8-byte little-endian header length, a JSON header that names tensors with dtype,
 * shape and byte range, and the tensors' bytes (https://github.com/huggingface/safetensors). The
 * reader trusts nothing: lengths, offsets, overlaps, holes, products that overflow, duplicate names
 * and malformed JSON are refused with the tensor's name and the reason. Thread: a file belongs to
 * one thread while it is opened and released; reading an open one is free for all.
 */
#ifndef BW_ENGINE_SAFETENSORS_H
#define BW_ENGINE_SAFETENSORS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BW_MAX_DIMS = 8 };

enum bw_dtype { BW_F16, BW_BF16, BW_F32, BW_U8 };

struct bw_tensor {
    const char *name;           // owned by the file
    const unsigned char *bytes; // [size_bytes], inside the file, any alignment
    size_t size_bytes;
    size_t count; // elements: the product of shape
    enum bw_dtype dtype;
    int dims;
    int64_t shape[BW_MAX_DIMS]; // [dims]
};

struct bw_safetensors {
    const unsigned char *file; // [file_bytes], memory-mapped if `mapped`
    size_t file_bytes;
    bool mapped;
    int fd;                    // of the file, if mapped
    struct bw_tensor *tensors; // [tensor_count], by rising offset
    size_t tensor_count;
    void *header; // the parsed JSON; names and metadata live in it
};

/* Map and check a file. BW_EIO: cannot be opened or mapped. BW_ESYNTAX: not a valid file; the
 * message begins with the path and names the tensor. BW_ENOMEM. On failure `st` is untouched. */
int bw_safetensors_open(struct bw_safetensors *st, const char *path, struct bw_err *err);

/* The same on bytes already in memory, which must outlive `st`. */
int bw_safetensors_parse(struct bw_safetensors *st, const void *bytes, size_t size_bytes,
                         struct bw_err *err);

void bw_safetensors_release(struct bw_safetensors *st);

/* Copy bytes [at, at + count) of the file, which has them. Of a mapped file no page comes into this
 * process, so a file read in parts never is in memory as a whole; it is faster, too. False: the
 * file cannot be read, or has become shorter. */
bool bw_safetensors_read(const struct bw_safetensors *st, size_t at, size_t count, void *out);

/* The tensor of that name, or NULL. */
const struct bw_tensor *bw_safetensors_find(const struct bw_safetensors *st, const char *name);

/* The metadata text under that key, or NULL. Lives as long as `st`. */
const char *bw_safetensors_metadata(const struct bw_safetensors *st, const char *key);

/* Convert elements [first, first + count) to float. `tensor` is F16, BF16 or F32. */
void bw_tensor_to_float(const struct bw_tensor *tensor, size_t first, size_t count, float *out);

/* Write tensors (name, dtype, dims, shape, bytes and size_bytes filled) and one metadata entry
 * (key NULL: none). Goes through a temporary file beside `path`, so a failure leaves no half file,
 * unless `path` is no regular file: into that it is written as it is. BW_EIO, BW_ENOMEM. */
int bw_safetensors_write(const char *path, const struct bw_tensor *tensors, size_t count,
                         const char *key, const char *value, struct bw_err *err);

#endif
