/* Events as a strict reader of Server-Sent Events sees them. */
#include "api/events.h"

#include "api/openai.h"
#include "tests/unit/check.h"

#include <jansson.h>

enum { MAX_READ = 16 };

struct read_event {
    char id[32], name[64];
    json_t *data;
};

struct reader {
    struct read_event events[MAX_READ];
    int count, comments;
    bool broken; // something that no renderer here should write
};

/* One line of an event, without its end. Stricter than a browser: a field we do not use, or a
 * second one of a kind, is wrong. */
static void read_line(struct reader *r, const char *line, size_t length)
{
    struct read_event *e = &r->events[r->count];
    if (*line == ':') {
        r->comments++;
    } else if (length > 4 && !memcmp(line, "id: ", 4) && !*e->id && !*e->name) {
        snprintf(e->id, sizeof e->id, "%.*s", (int)(length - 4), line + 4);
    } else if (length > 7 && !memcmp(line, "event: ", 7) && !*e->name && !e->data) {
        snprintf(e->name, sizeof e->name, "%.*s", (int)(length - 7), line + 7);
    } else if (length > 6 && !memcmp(line, "data: ", 6) && *e->name && !e->data) {
        e->data = json_loadb(line + 6, length - 6, JSON_REJECT_DUPLICATES, NULL);
        r->broken |= !e->data;
    } else {
        r->broken = true;
    }
}

/* Blank lines dispatch; what follows the last of them was cut off, which is wrong here. */
static struct reader read_stream(const struct bw_buf *buf)
{
    struct reader r = {.broken = buf->failed || strlen(buf->data) != buf->length_bytes};
    const char *at = buf->data;
    for (const char *end; !r.broken && (end = strchr(at, '\n')); at = end + 1) {
        if (end > at)
            read_line(&r, at, (size_t)(end - at));
        else if (*r.events[r.count].name && r.events[r.count].data)
            r.broken |= ++r.count == MAX_READ;
        else if (*r.events[r.count].name || *r.events[r.count].id)
            r.broken = true;
    }
    r.broken |= *at || strchr(buf->data, '\r');
    return r;
}

static void release(struct reader *r)
{
    for (int i = 0; i < MAX_READ; i++)
        json_decref(r->events[i].data);
}

static long long integer(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : -999;
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void native_events(void)
{
    struct bw_buf buf = {0};
    const struct bw_event events[] = {
        {.id = 1, .kind = BW_EVENT_QUEUED, .pictures = 2, .steps = 20, .predicted_ms = 1234.5678},
        {.id = 2,
         .kind = BW_EVENT_PROGRESS,
         .picture = 1,
         .step = 3,
         .steps = 20,
         .resting = 0x85,
         .eta_ms = 99.25},
        {.id = 3, .kind = BW_EVENT_PROGRESS, .step = 20, .steps = 20, .eta_ms = -1},
        {.id = 9007199254740993,
         .kind = BW_EVENT_PARTIAL,
         .picture = 7,
         .step = 10,
         .steps = 20,
         .partial = 5,
         .jpeg = "\xff\xd8\n\r",
         .jpeg_bytes = 4}};
    for (int i = 0; i < 4; i++)
        bw_event_render(&buf, &events[i]);
    struct reader r = read_stream(&buf);
    bw_buf_release(&buf);
    REQUIRE(!r.broken && r.count == 4);
    static const char *const names[] = {"queued", "progress", "progress", "partial"};
    static const char *const ids[] = {"1", "2", "3", "9007199254740993"};
    static const size_t members[] = {3, 5, 5, 6};
    for (int i = 0; i < 4; i++) {
        CHECK_TEXT(r.events[i].name, names[i]);
        CHECK_TEXT(r.events[i].id, ids[i]);
        CHECK_INT(json_object_size(r.events[i].data), members[i]);
    }
    const json_t *queued = r.events[0].data, *progress = r.events[1].data, *last = r.events[2].data,
                 *partial = r.events[3].data, *skip = json_object_get(progress, "skip");
    CHECK(integer(queued, "pictures") == 2 && integer(queued, "steps") == 20);
    CHECK_NEAR(number(queued, "predicted_ms"), 1234.568, 1e-9);
    CHECK(integer(progress, "picture") == 1 && integer(progress, "step") == 3);
    CHECK(integer(progress, "steps") == 20 && number(progress, "eta_ms") == 99.25);
    REQUIRE(json_array_size(skip) == 3);
    for (size_t k = 0; k < 3; k++)
        CHECK_INT(json_integer_value(json_array_get(skip, k)), ((int[]){0, 2, 7})[k]);
    CHECK(json_is_array(json_object_get(last, "skip")) && number(last, "eta_ms") == 0);
    CHECK_INT(json_array_size(json_object_get(last, "skip")), 0);
    CHECK(integer(partial, "picture") == 7 && integer(partial, "partial") == 5);
    CHECK(integer(partial, "step") == 10 && integer(partial, "steps") == 20);
    CHECK_TEXT(text(partial, "media_type"), "image/jpeg");
    CHECK_TEXT(text(partial, "b64"), "/9gKDQ==");
    release(&r);
}

static void frames_and_pings(void)
{
    struct bw_buf buf = {0};
    bw_event_ping(&buf);
    bw_event_frame(&buf, bw_event_name(BW_EVENT_COMPLETED), 12, "{\"a\":\"\\n\"}");
    bw_event_ping(&buf);
    bw_event_frame(&buf, bw_event_name(BW_EVENT_ERROR), 0, "{}");
    struct reader r = read_stream(&buf);
    bw_buf_release(&buf);
    REQUIRE(!r.broken && r.count == 2);
    CHECK_INT(r.comments, 2);
    CHECK_TEXT(r.events[0].name, "completed");
    CHECK_TEXT(r.events[0].id, "12");
    CHECK_TEXT(text(r.events[0].data, "a"), "\n");
    CHECK_TEXT(r.events[1].name, "error");
    CHECK_TEXT(r.events[1].id, "");
    release(&r);
}

static void check_openai(const json_t *data, const char *type, const char *format, const char *b64)
{
    CHECK_TEXT(text(data, "type"), type);
    CHECK_TEXT(text(data, "output_format"), format);
    CHECK_TEXT(text(data, "b64_json"), b64);
    CHECK_TEXT(text(data, "size"), "128x192");
    CHECK_TEXT(text(data, "quality"), "medium");
    CHECK_TEXT(text(data, "background"), "opaque");
    CHECK_INT(integer(data, "created_at"), 1700000000);
    CHECK_INT(json_object_size(data), 8);
}

static void openai_events(void)
{
    const struct bw_openai_stream stream = {1700000000, 128, 192, "medium"};
    const struct bw_image images[] = {{.bytes = "a", .size_bytes = 1},
                                      {.bytes = "bc", .size_bytes = 2}};
    const struct bw_generation g = {.request = {.count = 2, .format = BW_FORMAT_PNG},
                                    .images = images};
    struct bw_buf buf = {0};
    for (int kind = BW_EVENT_QUEUED; kind <= BW_EVENT_PARTIAL; kind++) {
        const struct bw_event event = {.id = 5,
                                       .kind = (enum bw_event_kind)kind,
                                       .partial = 2,
                                       .jpeg = "xyz",
                                       .jpeg_bytes = 3};
        bw_event_render_openai(&buf, &event, &stream);
    }
    bw_event_complete_openai(&buf, &g, &stream);
    struct reader r = read_stream(&buf);
    bw_buf_release(&buf);
    REQUIRE(!r.broken && r.count == 3);
    check_openai(r.events[0].data, "image_generation.partial_image", "jpeg", "eHl6");
    check_openai(r.events[1].data, "image_generation.completed", "png", "YQ==");
    check_openai(r.events[2].data, "image_generation.completed", "png", "YmM=");
    CHECK_INT(integer(r.events[0].data, "partial_image_index"), 2);
    for (int i = 0; i < 3; i++) {
        const json_t *usage = json_object_get(r.events[i].data, "usage");
        CHECK_TEXT(r.events[i].name, text(r.events[i].data, "type"));
        CHECK_TEXT(r.events[i].id, "");
        CHECK(!usage == !i);
        CHECK(!usage ||
              (integer(usage, "total_tokens") == 0 && integer(usage, "input_tokens") == 0 &&
               integer(usage, "output_tokens") == 0));
    }
    release(&r);
}

/* The problem of an OpenAI stream is an event like any other. */
static void problems_are_events(void)
{
    struct bw_buf buf = {0};
    const struct bw_err err = {.code = BW_EIO, .message = "two\nlines"};
    char *problem = bw_problem_render(BW_PROBLEM_INTERNAL, &err, NULL, "id", 1);
    REQUIRE(problem != NULL);
    bw_event_frame(&buf, bw_event_name(BW_EVENT_ERROR), 0, problem);
    free(problem);
    struct reader r = read_stream(&buf);
    bw_buf_release(&buf);
    REQUIRE(!r.broken && r.count == 1);
    const json_t *error = json_object_get(r.events[0].data, "error");
    CHECK_TEXT(r.events[0].name, "error");
    CHECK_TEXT(text(error, "message"), "two\nlines");
    release(&r);
}

static void qualities_come_back(void)
{
    static const struct {
        struct bw_skip skip;
        const char *quality;
    } table[] = {{{.kind = BW_SKIP_NONE}, "high"},
                 {{.kind = BW_SKIP_PRESET, .preset = "balanced"}, "medium"},
                 {{.kind = BW_SKIP_PRESET, .preset = "fast"}, "low"},
                 {{.kind = BW_SKIP_PRESET, .preset = "light"}, "high"}};
    for (int i = 0; i < 4; i++)
        CHECK_TEXT(bw_openai_quality(&table[i].skip), table[i].quality);
}

static void last_event_ids(void)
{
    static const struct {
        const char *field;
        int64_t id; // -1: refused
    } table[] = {{NULL, 0},  {"", 0},   {"0", 0},   {"17", 17}, {"9223372036854775807", INT64_MAX},
                 {"-1", -1}, {"x", -1}, {"1 ", -1}, {"+1", -1}, {"9223372036854775808", -1}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t id = -77;
        struct bw_err err = {0};
        int code = bw_event_last_id(table[i].field, &id, &err);
        CHECK_OF(code == (table[i].id < 0 ? BW_ESYNTAX : BW_OK), "%zu", i);
        CHECK_OF(id == (code ? -77 : table[i].id), "%zu: %lld", i, (long long)id);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(native_events),       TEST(frames_and_pings),
                                              TEST(openai_events),       TEST(problems_are_events),
                                              TEST(qualities_come_back), TEST(last_event_ids)};
    return CHECK_RUN("events", tests);
}
