/* A prompt and a name are sequences of words; two words are the same if one may be the plural of
 * the other. */
#include "api/prompt.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Bytes of what stands between words: 0 where there is a letter or the end. Beyond ASCII that is
 * the no-break space and the dashes and quotes from U+2010 to U+203F; all else is taken for
 * letters. */
static size_t between(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] == 0xc2 && at[1] == 0xa0)
        return 2;
    if (at[0] == 0xe2 && at[1] == 0x80 && at[2] >= 0x90 && at[2] <= 0xbf)
        return 3;
    return at[0] && at[0] < 0x80 && !isalnum(at[0]);
}

/* The next run of letters at *text; its length, 0 at the end. */
static size_t next_word(const char **text)
{
    size_t length = 0;
    while (between(*text))
        *text += between(*text);
    while ((*text)[length] && !between(*text + length))
        length++;
    return length;
}

enum { ENDINGS = 4 };

/* A word that another may be the plural of: its first letters, with a 'y' after them or not. */
struct root {
    const char *at;
    int length; // 0: there is none
    bool y;
};

/* Of one word: itself, and what it is without -s, -es, and -ies: lemons, mangoes, cherries. */
static struct root root_of(const char *word, size_t length, int which)
{
    static const char *const endings[ENDINGS] = {"", "s", "es", "ies"};
    size_t cut = strlen(endings[which]);
    if (length < cut + (cut ? 2 : 1) || strncasecmp(word + length - cut, endings[which], cut) != 0)
        return (struct root){0};
    bool y = which == 0 && length > 1 && (word[length - 1] | 32) == 'y';
    return (struct root){word, (int)(length - cut - y), y || which == 3};
}

static int by_letters(const void *a, const void *b)
{
    const struct root *x = a, *y = b;
    int shorter = x->length < y->length ? x->length : y->length;
    int order = strncasecmp(x->at, y->at, (size_t)shorter);
    return order ? order : x->length != y->length ? x->length - y->length : x->y - y->y;
}

/* The roots of all words of a prompt, sorted: there may be as many names as words, and every word
 * of each name is looked for. */
struct roots {
    int count;
    struct root all[BW_PROMPT_CHARS];
};

static void find_roots(struct roots *roots, const char *text)
{
    size_t length;
    roots->count = 0;
    for (; (length = next_word(&text)) > 0; text += length) {
        for (int i = 0; i < ENDINGS && roots->count < BW_PROMPT_CHARS; i++) {
            struct root root = root_of(text, length, i);
            if (root.length)
                roots->all[roots->count++] = root;
        }
    }
    qsort(roots->all, (size_t)roots->count, sizeof *roots->all, by_letters);
}

/* Two words are the same, singular and plural aside, if they have a root in common. */
static bool holds_word(const struct roots *prompt, const char *word, size_t length)
{
    for (int i = 0; i < ENDINGS; i++) {
        struct root root = root_of(word, length, i);
        if (root.length &&
            bsearch(&root, prompt->all, (size_t)prompt->count, sizeof root, by_letters))
            return true;
    }
    return false;
}

static bool holds_all_words(const struct roots *prompt, const char *name)
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
    struct roots roots;
    int best = -1;
    find_roots(&roots, prompt);
    for (int i = 0; i < class_count; i++) {
        if (holds_all_words(&roots, class_names[i]) &&
            (best < 0 || strlen(class_names[i]) > strlen(class_names[best])))
            best = i;
    }
    return best;
}
