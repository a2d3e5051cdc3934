/* Options: the command line as a list of --name value pairs, checked against a table.
 *
 * "--name value" and "--name=value" are the same; "--help" needs no entry. No command takes words
 * without a name.
 */
#ifndef BW_CLI_OPTIONS_H
#define BW_CLI_OPTIONS_H

#include "base/err.h"

#include <stdbool.h>

struct bw_option {
    const char *name;    // without the dashes; NULL ends the table
    const char *value;   // what the help calls the value
    const char *meaning; // one line
};

/* Called for each option in order of appearance; a failure stops the reading. */
typedef int bw_option_fn(void *context, const char *name, const char *value, struct bw_err *err);

/* Read arguments[0..count-1]. *help is set if --help was among them, and reading stops there.
 * BW_ERANGE: an option that is not in the table, or one without a value. */
int bw_options_read(const struct bw_option *table, int count, char **arguments, bw_option_fn *fn,
                    void *context, bool *help, struct bw_err *err);

/* The value of an option that is one of two words; *second says which. BW_ERANGE: neither. */
int bw_option_choice(const char *name, const char *value, const char *first_word,
                     const char *second_word, bool *second, struct bw_err *err);

/* Print "usage" and the table to standard output. */
void bw_options_help(const char *usage, const struct bw_option *table);

#endif
