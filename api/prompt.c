/* A prompt and a name are sequences of words; two words are the same if one may be the plural of
 * the other. */
#include "api/prompt.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static bool is_letter(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* The next run of letters at *text; its length, 0 at the end. */
static size_t next_word(const char **text)
{
    size_t length = 0;
    while (**text && !is_letter(**text))
        (*text)++;
    while (is_letter((*text)[length]))
        length++;
    return length;
}

enum { ROOTS = 4 };

/* A word that this one may be the plural of: its first `length` letters, with a 'y' after them or
 * not. */
struct root {
    size_t length; // 0: there is none
    bool y;
};

/* The word itself, and what it is without -s, -es, and -ies: lemons, mangoes, cherries. */
static struct root root_of(const char *word, size_t length, int which)
{
    static const char *const endings[ROOTS] = {"", "s", "es", "ies"};
    size_t cut = strlen(endings[which]);
    if (length < cut + (cut ? 2 : 1) || strncasecmp(word + length - cut, endings[which], cut) != 0)
        return (struct root){0, false};
    if (which == 0 && (word[length - 1] | 32) == 'y')
        return (struct root){length - 1, true};
    return (struct root){length - cut, which == 3};
}

/* The same word, singular and plural aside. */
static bool is_same_word(const char *a, size_t a_length, const char *b, size_t b_length)
{
    for (int i = 0; i < ROOTS; i++) {
        struct root x = root_of(a, a_length, i);
        for (int j = 0; x.length && j < ROOTS; j++) {
            struct root y = root_of(b, b_length, j);
            if (x.length == y.length && x.y == y.y && strncasecmp(a, b, x.length) == 0)
                return true;
        }
    }
    return false;
}

static bool holds_word(const char *text, const char *word, size_t length)
{
    size_t count;
    for (; (count = next_word(&text)) > 0; text += count) {
        if (is_same_word(text, count, word, length))
            return true;
    }
    return false;
}

static bool holds_all_words(const char *prompt, const char *name)
{
    size_t length;
    bool any = false;
    for (; (length = next_word(&name)) > 0; name += length) {
        if (!holds_word(prompt, name, length))
            return false;
        any = true;
    }
    return any;
}

int bw_prompt_class(const char *prompt, const char (*class_names)[BW_NAME_CHARS], int class_count)
{
    int best = -1;
    for (int i = 0; i < class_count; i++) {
        if (holds_all_words(prompt, class_names[i]) &&
            (best < 0 || strlen(class_names[i]) > strlen(class_names[best])))
            best = i;
    }
    return best;
}
