#include "base/err.h"

#include "base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static void record(struct bw_err *err, int code, const char *field, const char *format,
                   va_list args)
{
    if (!err || err->code)
        return;
    err->code = code;
    snprintf(err->field, sizeof err->field, "%s", field);
    vsnprintf(err->message, sizeof err->message, format, args);
    bw_text_mend(err->field);
    bw_text_mend(err->message);
    for (char *c = err->message; *c; c++) // names in files may hold anything; a message is one line
        *c = iscntrl((unsigned char)*c) ? '?' : *c;
}

int(bw_err_set)(struct bw_err *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record(err, code, "", format, args);
    va_end(args);
    return code;
}

int(bw_err_set_field)(struct bw_err *err, int code, const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record(err, code, field, format, args);
    va_end(args);
    return code;
}
