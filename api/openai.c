/* Fields of that API fall into three kinds: those that mean something here, those that may only say
 * what is so anyway, and the rest, which are refused rather than silently ignored. */
#include "api/openai.h"

#include "api/json.h"
#include "base/text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct reading {
    struct bw_request *request;
    char *prompt;
    size_t prompt_room;
};

static int read_model(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = ((struct reading *)out)->request;
    return bw_json_text(value, pointer, r->model, sizeof r->model, err);
}

static int read_prompt(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct reading *r = out;
    return bw_json_text(value, pointer, r->prompt, r->prompt_room, err);
}

static int read_count(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_request *r = ((struct reading *)out)->request;
    return bw_json_int(value, pointer, 1, BW_MAX_COUNT, &r->count, err);
}

static int read_size(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_picture *p = &((struct reading *)out)->request->picture;
    const char *text = json_string_value(value);
    if (!text || (strcmp(text, "auto") && !bw_text_to_size(text, &p->width, &p->height)))
        return bw_err_set_field(err, BW_ERANGE, pointer,
                                "not \"auto\" or a size such as \"128x192\"");
    return BW_OK;
}

static int read_output_format(const json_t *value, const char *pointer, void *out,
                              struct bw_err *err)
{
    struct bw_request *r = ((struct reading *)out)->request;
    const char *name = json_string_value(value);
    if (!name || !bw_format_named(name, &r->format))
        return bw_err_set_field(err, BW_ERANGE, pointer, "not one of png, jpeg, webp");
    return BW_OK;
}

static int read_output_compression(const json_t *value, const char *pointer, void *out,
                                   struct bw_err *err)
{
    struct bw_request *r = ((struct reading *)out)->request;
    int quality, code = bw_json_int(value, pointer, 0, 100, &quality, err);
    if (!code)
        r->quality = quality ? quality : 1;
    return code;
}

/* Quality is said in bricks: what "low" and "medium" save is the client's explicit choice. The
 * names of one meaning end with that API's own. */
static const struct {
    const char *name, *preset;
} qualities[] = {{"auto", NULL}, {"standard", NULL},     {"hd", NULL},
                 {"high", NULL}, {"medium", "balanced"}, {"low", "fast"}};

enum { QUALITIES = sizeof qualities / sizeof *qualities, QUALITY_HIGH = 3 };

const char *bw_openai_quality(const struct bw_skip *asked)
{
    for (int i = QUALITY_HIGH + 1; asked->kind == BW_SKIP_PRESET && i < QUALITIES; i++) {
        if (strcmp(asked->preset, qualities[i].preset) == 0)
            return qualities[i].name;
    }
    return qualities[QUALITY_HIGH].name;
}

static int read_quality(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_skip *skip = &((struct reading *)out)->request->picture.skip;
    const char *name = json_string_value(value);
    for (int i = 0; name && i < QUALITIES; i++) {
        if (strcmp(name, qualities[i].name))
            continue;
        if (qualities[i].preset) {
            skip->kind = BW_SKIP_PRESET;
            strcpy(skip->preset, qualities[i].preset);
        }
        return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, pointer,
                            "not one of auto, low, medium, high, standard, hd");
}

/* Fields that may only say what is so anyway. */
static int read_constant(const json_t *value, const char *pointer, struct bw_err *err,
                         const char *const *allowed)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && allowed[i]; i++) {
        if (strcmp(text, allowed[i]) == 0)
            return BW_OK;
    }
    return bw_err_set_field(err, BW_ERANGE, pointer, "only \"%s\" is supported", allowed[0]);
}

static int read_response_format(const json_t *value, const char *pointer, void *out,
                                struct bw_err *err)
{
    (void)out;
    return read_constant(value, pointer, err, (const char *const[]){"b64_json", NULL});
}

static int read_background(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return read_constant(value, pointer, err, (const char *const[]){"opaque", "auto", NULL});
}

static int read_stream(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    (void)out;
    return json_is_false(value)
               ? BW_OK
               : bw_err_set_field(err, BW_ERANGE, pointer, "only false is supported");
}

/* Who the end user is makes no difference here. */
static int read_user(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    char ignored[512];
    (void)out;
    return bw_json_text(value, pointer, ignored, sizeof ignored, err);
}

int bw_openai_parse(struct bw_request *request, char *prompt, size_t prompt_room, const char *body,
                    size_t length, struct bw_err *err)
{
    static const struct bw_json_field fields[] = {
        {"model", read_model},
        {"prompt", read_prompt},
        {"n", read_count},
        {"size", read_size},
        {"quality", read_quality},
        {"output_format", read_output_format},
        {"output_compression", read_output_compression},
        {"response_format", read_response_format},
        {"background", read_background},
        {"stream", read_stream},
        {"user", read_user},
        {NULL, NULL},
    };
    json_t *root = bw_json_object(body, length, err);
    if (!root)
        return BW_ESYNTAX;
    struct bw_request out = bw_request_default();
    out.format = BW_FORMAT_PNG;
    *prompt = '\0';
    int code = bw_json_read(root, "", fields, &(struct reading){&out, prompt, prompt_room}, err);
    json_decref(root);
    if (!code && !*prompt)
        code = bw_err_set_field(err, BW_ERANGE, "/prompt", "a prompt is required");
    if (!code)
        *request = out;
    return code;
}

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

int bw_openai_class(const char *prompt, const char (*class_names)[BW_NAME_CHARS], int class_count)
{
    int best = -1;
    for (int i = 0; i < class_count; i++) {
        if (holds_all_words(prompt, class_names[i]) &&
            (best < 0 || strlen(class_names[i]) > strlen(class_names[best])))
            best = i;
    }
    return best;
}
