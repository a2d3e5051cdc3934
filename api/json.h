/* JSON: how this module reads objects. One table per kind of object says which fields there are;
 * everything not in the table is refused. Used by api/, and by cli/ for files of requests. Any
 * thread.
 */
#ifndef BW_API_JSON_H
#define BW_API_JSON_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { BW_POINTER_CHARS = sizeof((struct bw_err *)0)->field };

/* Reads one field's value into `out`; `pointer` is the field's JSON pointer, for the error. */
typedef int bw_json_reader(const json_t *value, const char *pointer, void *out, struct bw_err *err);

struct bw_json_field {
    const char *name;
    bw_json_reader *read;
};

/* Has jansson been refused memory on this thread since this was asked last? What was built since
 * then may lack parts. bw_json_render() asks, so who ends with it need not. */
bool bw_json_lacked_memory(void);

/* Note that a part is missing for want of memory that jansson knows nothing of. */
void bw_json_lack_memory(void);

/* Parse a whole text as jansson does with those flags, and without a key twice. BW_ESYNTAX (then
 * `syntax` says why), BW_ENOMEM. */
int bw_json_load(json_t **value, const char *text, size_t length, size_t flags,
                 json_error_t *syntax);

/* Parse a whole text that must be one JSON object, which the caller json_decref()s. BW_ESYNTAX (not
 * JSON, not UTF-8, a key twice, nested too deep, a number too large, not an object), BW_ENOMEM. */
int bw_json_object(json_t **object, const char *text, size_t length, struct bw_err *err);

/* Hand every field of `object` to its reader. `at` is the object's own pointer ("" for the root);
 * `fields` ends with a NULL name. A field that is not in the table, or a value that is not an
 * object: BW_ERANGE. */
int bw_json_read(const json_t *object, const char *at, const struct bw_json_field *fields,
                 void *out, struct bw_err *err);

/* "at/name" as a JSON pointer, cut where it gets too long. */
void bw_json_pointer(char pointer[BW_POINTER_CHARS], const char *at, const char *name);

/* An integer, or a number within; otherwise BW_ERANGE that names the bounds. */
int bw_json_int(const json_t *value, const char *pointer, int low, int high, int *out,
                struct bw_err *err);
int bw_json_wide(const json_t *value, const char *pointer, int64_t low, int64_t high, int64_t *out,
                 struct bw_err *err);
int bw_json_number(const json_t *value, const char *pointer, double low, double high, double *out,
                   struct bw_err *err);

/* Text of 1 to room - 1 bytes; otherwise BW_ERANGE. */
int bw_json_text(const json_t *value, const char *pointer, char *out, size_t room,
                 struct bw_err *err);

/* An object, as text of its own in `*out`, which the caller free()s; otherwise BW_ERANGE.
 * BW_ENOMEM. */
int bw_json_object_text(const json_t *value, const char *pointer, char **out, struct bw_err *err);

/* The text of `root` in ASCII without spaces, or NULL if there was no memory for all of it;
 * consumes the reference, NULL is allowed. The caller free()s it. */
char *bw_json_render(json_t *root);

#endif
