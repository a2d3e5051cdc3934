/* jansson checks the grammar; what is allowed where is in tables of readers, walked here. And it
 * gets its memory here, so that a value that lacks a part for want of it is never taken for whole:
 * those who build values need not look at each part. */
#include "api/json.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESERVE_BYTES = 65536, BLOCK_ALIGN = 16 };

static _Thread_local bool lacked_memory;
static _Thread_local bool reading;
static _Thread_local size_t reserve_used_bytes;
static _Thread_local _Alignas(BLOCK_ALIGN) char reserve[RESERVE_BYTES];

/* jansson's reader takes a string that it has no memory for for one it has read wrongly, and calls
 * abort(). So there is a little for it to come to its end with; the result is thrown away. */
static void *take_reserve(size_t size)
{
    size_t bytes = (size + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
    if (!reading || bytes > RESERVE_BYTES - reserve_used_bytes)
        return NULL;
    reserve_used_bytes += bytes;
    return reserve + reserve_used_bytes - bytes;
}

static void *take_memory(size_t size)
{
    void *block = malloc(size);
    if (block)
        return block;
    lacked_memory = true;
    return take_reserve(size);
}

static void give_memory(void *block)
{
    uintptr_t at = (uintptr_t)block, first = (uintptr_t)reserve;
    if (at < first || at >= first + RESERVE_BYTES)
        free(block);
}

/* Before any other use of jansson, in whatever program. */
__attribute__((constructor)) static void watch_memory(void)
{
    json_set_alloc_funcs(take_memory, give_memory);
}

bool bw_json_lacked_memory(void)
{
    bool lacked = lacked_memory;
    lacked_memory = false;
    return lacked;
}

void bw_json_lack_memory(void)
{
    lacked_memory = true;
}

int bw_json_load(json_t **out, const char *text, size_t length, size_t flags, json_error_t *syntax)
{
    reading = true;
    json_t *root = json_loadb(text, length, flags | JSON_REJECT_DUPLICATES, syntax);
    if (lacked_memory) {
        json_decref(root);
        root = NULL;
    }
    reading = false;
    reserve_used_bytes = 0;
    *out = root;
    return bw_json_lacked_memory() ? BW_ENOMEM : root ? BW_OK : BW_ESYNTAX;
}

int bw_json_object(json_t **out, const char *text, size_t length, struct bw_err *err)
{
    json_error_t syntax;
    json_t *root;
    int code = bw_json_load(&root, text, length, 0, &syntax);
    if (code == BW_ENOMEM)
        bw_err_set(err, code, "out of memory");
    else if (code)
        bw_err_set(err, code, "not valid JSON, line %d column %d: %s", syntax.line, syntax.column,
                   syntax.text);
    else if (!json_is_object(root))
        code = bw_err_set(err, BW_ESYNTAX, "not a JSON object");
    if (code)
        json_decref(root);
    else
        *out = root;
    return code;
}

static const struct bw_json_field *find_field(const struct bw_json_field *fields, const char *name)
{
    while (fields->name && strcmp(fields->name, name))
        fields++;
    return fields->name ? fields : NULL;
}

/* '~' and '/' in the name are escaped (RFC 6901, section 3). */
void bw_json_pointer(char pointer[BW_POINTER_CHARS], const char *at, const char *name)
{
    size_t used = (size_t)snprintf(pointer, BW_POINTER_CHARS, "%s/", at);
    for (; *name && used + 3 < BW_POINTER_CHARS; name++) {
        if (*name == '~' || *name == '/')
            pointer[used++] = '~';
        pointer[used++] = *name == '~' ? '0' : *name == '/' ? '1' : *name;
    }
    pointer[used < BW_POINTER_CHARS ? used : BW_POINTER_CHARS - 1] = '\0';
    bw_text_mend(pointer);
}

static int refuse_unknown(const char *name, const char *at, const struct bw_json_field *fields,
                          struct bw_err *err)
{
    char known[256] = "", pointer[BW_POINTER_CHARS];
    size_t used = 0;
    for (; fields->name && used + strlen(fields->name) + sizeof ", , ..." <= sizeof known; fields++)
        used += (size_t)sprintf(known + used, "%s%s", used ? ", " : "", fields->name);
    if (fields->name)
        strcpy(known + used, ", ...");
    bw_json_pointer(pointer, at, name);
    return bw_err_set_field(err, BW_ERANGE, pointer, "unknown field; known are %s", known);
}

int bw_json_read(const json_t *object, const char *at, const struct bw_json_field *fields,
                 void *out, struct bw_err *err)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return bw_err_set_field(err, BW_ERANGE, at, "not an object");
    json_object_foreach((json_t *)object, name, value)
    {
        const struct bw_json_field *field = find_field(fields, name);
        char pointer[BW_POINTER_CHARS];
        if (!field)
            return refuse_unknown(name, at, fields, err);
        bw_json_pointer(pointer, at, name);
        int code = field->read(value, pointer, out, err);
        if (code)
            return code;
    }
    return BW_OK;
}

/* 2.0 and 2e0 are the integer 2 as well (JSON Schema, validation, 6.1.1). The range is one in which
 * a double tells integers apart. */
int bw_json_wide(const json_t *value, const char *pointer, int64_t low, int64_t high, int64_t *out,
                 struct bw_err *err)
{
    double real = json_real_value(value); // 0 of anything else
    bool whole = json_is_real(value) && real >= (double)low && real <= (double)high &&
                 real == (double)(int64_t)real;
    json_int_t got = whole ? (json_int_t)real : json_integer_value(value);
    if (!(whole || json_is_integer(value)) || got < low || got > high)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not an integer of %lld..%lld",
                                (long long)low, (long long)high);
    *out = got;
    return BW_OK;
}

int bw_json_int(const json_t *value, const char *pointer, int low, int high, int *out,
                struct bw_err *err)
{
    int64_t wide = 0;
    int code = bw_json_wide(value, pointer, low, high, &wide, err);
    if (!code)
        *out = (int)wide;
    return code;
}

int bw_json_number(const json_t *value, const char *pointer, double low, double high, double *out,
                   struct bw_err *err)
{
    double got = json_number_value(value);
    if (!json_is_number(value) || !(got >= low && got <= high))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not a number of %g..%g", low, high);
    *out = got;
    return BW_OK;
}

int bw_json_text(const json_t *value, const char *pointer, char *out, size_t room,
                 struct bw_err *err)
{
    const char *text = json_string_value(value);
    if (!text || !*text || strlen(text) >= room)
        return bw_err_set_field(err, BW_ERANGE, pointer, "not text of 1 to %zu bytes", room - 1);
    memcpy(out, text, strlen(text) + 1);
    return BW_OK;
}

int bw_json_object_text(const json_t *value, const char *pointer, char **out, struct bw_err *err)
{
    if (!json_is_object(value))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not an object");
    char *text = json_dumps(value, JSON_COMPACT);
    if (bw_json_lacked_memory() || !text) {
        free(text);
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    *out = text;
    return BW_OK;
}

char *bw_json_render(json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
    json_decref(root);
    if (bw_json_lacked_memory()) {
        free(text);
        text = NULL;
    }
    return text;
}
