/* A line is read like every JSON of the service, and its request as the server would, so that what
 * can be refused before the clock runs is. */
#include "cli/load_mix.h"

#include "api/json.h"
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double most_weight = 1e6;

static int read_weight(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_number(value, pointer, 0, most_weight, &((struct bw_load_entry *)out)->weight,
                          err);
}

static int read_client(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    struct bw_load_entry *entry = out;
    return bw_json_text(value, pointer, entry->client, sizeof entry->client, err);
}

static int read_request(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    return bw_json_object_text(value, pointer, &((struct bw_load_entry *)out)->body, err);
}

static int read_deadline(const json_t *value, const char *pointer, void *out, struct bw_err *err)
{
    int *range = ((struct bw_load_entry *)out)->deadline_ms;
    int code = json_array_size(value) == 2 ? BW_OK : BW_ERANGE;
    for (size_t i = 0; !code && i < 2; i++)
        code = bw_json_int(json_array_get(value, i), pointer, BW_MIN_DEADLINE_MS,
                           BW_MAX_DEADLINE_MS, &range[i], NULL);
    if (code || range[0] > range[1])
        return bw_err_set_field(err, BW_ERANGE, pointer,
                                "not [low, high] with integers of %d..%d that do not fall",
                                BW_MIN_DEADLINE_MS, BW_MAX_DEADLINE_MS);
    return BW_OK;
}

/* Check the request of an entry whose members have been read. */
static int check_entry(const struct bw_load_entry *entry, struct bw_err *err)
{
    struct bw_request request;
    if (!entry->body)
        return bw_err_set(err, BW_ERANGE, "request is needed");
    if (!(entry->weight > 0))
        return bw_err_set_field(err, BW_ERANGE, "/weight", "not above 0");
    int code = bw_request_parse(&request, entry->body, strlen(entry->body), err);
    if (!code && request.deadline_ms > 0 && entry->deadline_ms[0])
        code = bw_err_set_field(err, BW_ERANGE, "/deadline_ms", "in the request as well");
    return code;
}

static int add_line(struct bw_load_mix *mix, const char *text, size_t length, struct bw_err *err)
{
    static const struct bw_json_field fields[] = {{"weight", read_weight},
                                                  {"client", read_client},
                                                  {"request", read_request},
                                                  {"deadline_ms", read_deadline},
                                                  {NULL, NULL}};
    if (mix->count == BW_LOAD_GROUPS)
        return bw_err_set(err, BW_ERANGE, "more than %d entries", BW_LOAD_GROUPS);
    json_t *root;
    int code = bw_json_object(&root, text, length, err);
    if (code)
        return code;
    struct bw_load_entry *entry = &mix->entries[mix->count++];
    *entry = (struct bw_load_entry){.weight = 1};
    code = bw_json_read(root, "", fields, entry, err);
    json_decref(root);
    return code ? code : check_entry(entry, err);
}

/* The reason with its place; the pointer goes into the text. What the user wrote is to blame,
 * unless there is no memory. */
static int blame(const char *place, const struct bw_err *reason, struct bw_err *err)
{
    return bw_err_set(err, reason->code == BW_ENOMEM ? BW_ENOMEM : BW_ERANGE, "%s: %s%s%s", place,
                      reason->field, *reason->field ? ": " : "", reason->message);
}

static int add_lines(struct bw_load_mix *mix, const char *path, const struct bw_buf *text,
                     struct bw_err *err)
{
    const char *line = text->data, *end = line + text->length_bytes;
    for (int number = 1; line < end; number++) {
        struct bw_err reason = {0};
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t chars = (size_t)((stop ? stop : end) - line);
        bool blank = strspn(line, " \t\r") >= chars;
        if (!blank && add_line(mix, line, chars, &reason)) {
            char place[sizeof reason.message];
            snprintf(place, sizeof place, "%s: line %d", path, number);
            return blame(place, &reason, err);
        }
        line += chars + 1;
    }
    return mix->count ? BW_OK : bw_err_set(err, BW_ERANGE, "%s: no entries", path);
}

int bw_load_mix_read(struct bw_load_mix *mix, const char *path, struct bw_err *err)
{
    struct bw_buf text = {.ceiling_bytes = 1 << 20};
    *mix = (struct bw_load_mix){0};
    int code = bw_buf_add_file(&text, path, err);
    bw_buf_add(&text, "", 0); // an empty file has a text as well
    if (!code && text.failed)
        code = bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!code)
        code = add_lines(mix, path, &text, err);
    bw_buf_release(&text);
    return code;
}

int bw_load_mix_one(struct bw_load_mix *mix, const char *body, struct bw_err *err)
{
    struct bw_err reason = {0};
    *mix = (struct bw_load_mix){.count = 1};
    mix->entries[0].weight = 1;
    json_t *root = NULL;
    int code = bw_json_object(&root, body, strlen(body), &reason);
    if (!code)
        code = read_request(root, "", &mix->entries[0], &reason);
    json_decref(root);
    if (!code)
        code = check_entry(&mix->entries[0], &reason);
    return code ? blame("--request", &reason, err) : BW_OK;
}

void bw_load_mix_release(struct bw_load_mix *mix)
{
    for (int i = 0; i < mix->count; i++)
        free(mix->entries[i].body);
    *mix = (struct bw_load_mix){0};
}
