/* Errors: what every fallible function of Brickwork fills in.
 *
 * A fallible function returns 0 or one of the negative codes below and describes the failure in the
 * caller's `struct bw_err`. The first error wins: a second bw_err_set() on a filled struct changes
 * nothing, so a caller may add context on the way out without hiding the cause. Every function
 * accepts err == NULL. Thread: an error belongs to one caller; nothing here is shared.
 */
#ifndef BW_BASE_ERR_H
#define BW_BASE_ERR_H

#include <stddef.h>

enum bw_code {
    BW_OK = 0,
    BW_ESYNTAX = -1,    // the text is not what its grammar asks for
    BW_ERANGE = -2,     // well formed, but not a value that is allowed
    BW_ENOTFOUND = -3,  // names something that does not exist
    BW_EIO = -4,        // the system refused to read, write or bind
    BW_ENOMEM = -5,     // no memory
    BW_EBUSY = -6,      // the bound on work in progress is reached
    BW_ECANCELLED = -7, // the one who asked has left
};

struct bw_err {
    int code;          // enum bw_code; 0: no error yet
    char field[96];    // JSON pointer (RFC 6901) to the offending field, or ""
    char message[400]; // one sentence, no final stop, fit to show to a user
};

/* Record an error and return `code`, ready for `return bw_err_set(...)`. */
int bw_err_set(struct bw_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failure of one field; `field` is a JSON pointer such as "/skip/t_break". */
int bw_err_set_field(struct bw_err *err, int code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#ifdef __clang_analyzer__ // reads one file at a time, so it is told what comes back
#define bw_err_set(err, code, ...)       ((bw_err_set)(err, code, __VA_ARGS__), (code))
#define bw_err_set_field(err, code, ...) ((bw_err_set_field)(err, code, __VA_ARGS__), (code))
#endif

#endif
