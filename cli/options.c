/* Nothing is remembered here: every option goes straight to the command's own function. */
#include "cli/options.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct bw_option *find(const struct bw_option *table, const char *name, size_t length)
{
    for (; table->name; table++) {
        if (strlen(table->name) == length && memcmp(table->name, name, length) == 0)
            return table;
    }
    return NULL;
}

int bw_options_read(const struct bw_option *table, int count, char **arguments, bw_option_fn *fn,
                    void *context, bool *help, struct bw_err *err)
{
    *help = false;
    for (int i = 0; i < count; i++) {
        const char *name = bw_text_after(arguments[i], "--");
        if (!name)
            return bw_err_set(err, BW_ERANGE, "\"%s\" is not an option; see --help", arguments[i]);
        if (strcmp(name, "help") == 0) {
            *help = true;
            return BW_OK;
        }
        const char *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        const struct bw_option *option = find(table, name, length);
        if (!option)
            return bw_err_set(err, BW_ERANGE, "there is no option --%.*s; see --help", (int)length,
                              name);
        if (!equals && i + 1 == count)
            return bw_err_set(err, BW_ERANGE, "--%s needs a value", option->name);
        int code = fn(context, option->name, equals ? equals + 1 : arguments[++i], err);
        if (code)
            return code;
    }
    return BW_OK;
}

int bw_option_choice(const char *name, const char *value, const char *first_word,
                     const char *second_word, bool *second, struct bw_err *err)
{
    *second = strcmp(value, second_word) == 0;
    if (*second || strcmp(value, first_word) == 0)
        return BW_OK;
    return bw_err_set(err, BW_ERANGE, "--%s: \"%s\" is not %s or %s", name, value, first_word,
                      second_word);
}

void bw_options_help(const char *usage, const struct bw_option *table)
{
    printf("%s\n\nOptions:\n", usage);
    for (; table->name; table++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", table->name, table->value);
        printf("  %-22s %s\n", left, table->meaning);
    }
    printf("  %-22s %s\n", "--help", "this text");
}
