/* Fuzz: safetensors files around a header. */
#ifndef BW_TESTS_FUZZ_TENSORS_H
#define BW_TESTS_FUZZ_TENSORS_H

#include "tests/fuzz/fuzz.h"

#include <jansson.h>

enum { LENGTH_BYTES = 8 };

static inline void fuzz_write_length(uint8_t *bytes, size_t length)
{
    for (int i = 0; i < LENGTH_BYTES; i++)
        bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
}

/* The bytes a header says follow it, where that is not more than `most`. */
static inline size_t fuzz_body_bytes(const uint8_t *header, size_t count, json_int_t most)
{
    json_t *root = json_loadb((const char *)header, count, 0, NULL), *entry;
    const char *name;
    json_int_t all = 0;
    json_object_foreach(root, name, entry)
    {
        const json_t *end = json_array_get(json_object_get(entry, "data_offsets"), 1);
        json_int_t at = json_integer_value(end);
        all = at > all && at <= most ? at : all;
    }
    json_decref(root);
    return (size_t)all;
}

/* The header with its length before it and a body of zeros behind it. The caller frees it. */
static inline uint8_t *fuzz_file(const uint8_t *header, size_t count, json_int_t most, size_t *size)
{
    *size = LENGTH_BYTES + count + fuzz_body_bytes(header, count, most);
    uint8_t *file = calloc(1, *size);
    MUST(file);
    fuzz_write_length(file, count);
    memcpy(file + LENGTH_BYTES, header, count);
    return file;
}

#endif
