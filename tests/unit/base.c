/* Errors, arenas, buffers, names: what everything else stands on. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/picture.h"
#include "tests/unit/check.h"

#include <unistd.h>

/* Sanitizers end a program that asks for too much memory unless told not to. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void err_first_wins(void)
{
    struct bw_err err = {0};
    CHECK_INT(bw_err_set_field(&err, BW_ERANGE, "/steps", "first %d", 1), BW_ERANGE);
    CHECK_INT(bw_err_set(&err, BW_EIO, "second"), BW_EIO);
    CHECK_INT(bw_err_set_field(&err, BW_ENOMEM, "/size", "third"), BW_ENOMEM);
    CHECK_INT(err.code, BW_ERANGE);
    CHECK_TEXT(err.field, "/steps");
    CHECK_TEXT(err.message, "first 1");
    CHECK_INT(bw_err_set(NULL, BW_EBUSY, "nobody listens"), BW_EBUSY);
    CHECK_INT(bw_err_set_field(NULL, BW_EBUSY, "/x", "nobody listens"), BW_EBUSY);
}

static void err_without_field(void)
{
    struct bw_err err = {.field = "left over"};
    bw_err_set(&err, BW_EIO, "%s", "message");
    CHECK_TEXT(err.field, "");
}

static void err_is_one_line(void)
{
    struct bw_err err = {0};
    bw_err_set(&err, BW_ESYNTAX, "tensor \"%s\"", "a\nb\x1b[31m\x7f\xc3\xa4");
    CHECK_TEXT(err.message, "tensor \"a?b?[31m?\xc3\xa4\"");
}

static void err_cuts_long_text(void)
{
    struct bw_err err = {0};
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    bw_err_set_field(&err, BW_EIO, text, "%s", text);
    CHECK_INT((long long)strlen(err.field), sizeof err.field - 1);
    CHECK_INT((long long)strlen(err.message), sizeof err.message - 1);
}

struct carved {
    char *bytes;
    double *numbers;
    void *nothing;
};

static void carve(struct bw_arena *arena, struct carved *out)
{
    out->bytes = BW_TAKE(arena, char, 3);
    out->numbers = BW_TAKE(arena, double, 17);
    out->nothing = BW_TAKE(arena, int, 0);
}

static void arena_measures_then_takes(void)
{
    struct bw_arena arena = {0};
    struct carved out;
    carve(&arena, &out);
    CHECK(!out.bytes && !out.numbers && !out.nothing);
    CHECK_INT((long long)arena.used_bytes, 64 + 192);
    REQUIRE(bw_arena_reserve(&arena, NULL) == BW_OK);
    CHECK_INT((long long)arena.size_bytes, 256);
    CHECK_INT((long long)arena.used_bytes, 0);
    carve(&arena, &out);
    CHECK_INT((long long)((uintptr_t)out.bytes % BW_ARENA_ALIGN), 0);
    CHECK_INT((long long)((uintptr_t)out.numbers % BW_ARENA_ALIGN), 0);
    CHECK_INT((char *)out.numbers - out.bytes, 64);
    memset(out.numbers, 0xff, 17 * sizeof *out.numbers);
    memset(out.bytes, 1, 3);
    CHECK_INT((long long)arena.used_bytes, (long long)arena.size_bytes);
    bw_arena_release(&arena);
    CHECK(!arena.memory && !arena.used_bytes && !arena.size_bytes);
}

static void arena_of_nothing(void)
{
    struct bw_arena arena = {0};
    REQUIRE(bw_arena_reserve(&arena, NULL) == BW_OK);
    CHECK(arena.memory != NULL);
    bw_arena_release(&arena);
    bw_arena_release(&arena);
}

static void arena_refuses_the_impossible(void)
{
    struct bw_arena arena = {0};
    struct bw_err err = {0};
    arena.used_bytes = SIZE_MAX / 4 & ~(size_t)63; // more than any machine has
    CHECK_INT(bw_arena_reserve(&arena, &err), BW_ENOMEM);
    CHECK(!arena.memory && !arena.size_bytes && !arena.used_bytes);
    CHECK_HOLDS(err.message, "memory");
}

static void buf_grows(void)
{
    struct bw_buf buf = {0};
    char expect[20001];
    for (int i = 0; i < 20000; i++) {
        expect[i] = (char)('a' + i % 26);
        bw_buf_add(&buf, &expect[i], 1);
    }
    expect[20000] = '\0';
    CHECK_INT((long long)buf.length_bytes, 20000);
    CHECK(buf.data && strcmp(buf.data, expect) == 0 && !buf.failed);
    bw_buf_release(&buf);
    CHECK(!buf.data && !buf.length_bytes && !buf.room_bytes);
}

static void buf_ceiling_is_exact_and_sticky(void)
{
    struct bw_buf buf = {.ceiling_bytes = 8};
    bw_buf_add_text(&buf, "12345678");
    CHECK(!buf.failed);
    bw_buf_add(&buf, "", 0);
    CHECK(!buf.failed);
    bw_buf_add_text(&buf, "9");
    CHECK(buf.failed);
    CHECK_TEXT(buf.data, "12345678");
    bw_buf_add(&buf, "", 0);
    bw_buf_addf(&buf, "%s", "");
    bw_buf_add_base64(&buf, "", 0);
    CHECK(buf.failed);
    CHECK_INT((long long)buf.length_bytes, 8);
    CHECK(bw_buf_steal(&buf) == NULL);
    CHECK(!buf.failed && !buf.data);
    CHECK_INT((long long)buf.ceiling_bytes, 8);
}

static void buf_ceiling_of_every_writer(void)
{
    struct bw_buf buf = {.ceiling_bytes = 3};
    bw_buf_addf(&buf, "%d", 1234);
    CHECK(buf.failed && !buf.length_bytes);
    bw_buf_release(&buf);
    CHECK_INT((long long)buf.ceiling_bytes, 3);
    bw_buf_add_base64(&buf, "a", 1);
    CHECK(buf.failed && !buf.length_bytes);
    bw_buf_release(&buf);
}

static void buf_formats(void)
{
    struct bw_buf buf = {0};
    bw_buf_addf(&buf, "%s-%05d", "x", 42);
    bw_buf_addf(&buf, "%300d", 7);
    CHECK_INT((long long)buf.length_bytes, 307);
    CHECK(strncmp(buf.data, "x-00042 ", 8) == 0 && buf.data[306] == '7' && !buf.data[307]);
    bw_buf_release(&buf);
}

static void buf_base64_vectors(void)
{
    static const char *const vectors[][2] = {{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct bw_buf buf = {0};
        bw_buf_add_base64(&buf, vectors[i][0], strlen(vectors[i][0]));
        CHECK_TEXT(buf.data, vectors[i][1]);
        CHECK_INT((long long)buf.length_bytes, (long long)strlen(vectors[i][1]));
        bw_buf_release(&buf);
    }
}

static void buf_base64_high_bytes(void)
{
    struct bw_buf buf = {0};
    bw_buf_add_base64(&buf, "\xff\xff\xff\xfb\xf0", 5);
    bw_buf_add_text(&buf, ".");
    CHECK_TEXT(buf.data, "////+/A=.");
    bw_buf_release(&buf);
}

static void buf_steal_hands_over(void)
{
    struct bw_buf buf = {0};
    char *empty = bw_buf_steal(&buf);
    CHECK_TEXT(empty, "");
    free(empty);
    bw_buf_add_text(&buf, "kept");
    char *text = bw_buf_steal(&buf);
    CHECK_TEXT(text, "kept");
    CHECK(!buf.data && !buf.length_bytes && !buf.room_bytes);
    bw_buf_add_text(&buf, "new");
    CHECK_TEXT(buf.data, "new");
    CHECK_TEXT(text, "kept");
    free(text);
    bw_buf_release(&buf);
}

static void buf_reads_files(void)
{
    char path[] = "/tmp/brickwork-base-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    CHECK_INT(write(fd, "a\0b", 3), 3);
    close(fd);
    struct bw_buf buf = {.ceiling_bytes = 3};
    struct bw_err err = {0};
    CHECK_INT(bw_buf_add_file(&buf, path, &err), BW_OK);
    CHECK(buf.length_bytes == 3 && memcmp(buf.data, "a\0b", 4) == 0);
    CHECK_INT(bw_buf_add_file(&buf, path, &err), BW_ERANGE);
    CHECK_HOLDS(err.message, path);
    bw_buf_release(&buf);
    unlink(path);
    err = (struct bw_err){0};
    CHECK_INT(bw_buf_add_file(&buf, path, &err), BW_EIO);
    CHECK_HOLDS(err.message, path);
    CHECK_INT(bw_buf_add_file(&buf, "/tmp", NULL), BW_EIO);
    bw_buf_release(&buf);
}

static void solvers_have_names(void)
{
    enum bw_solver solver = BW_EULER;
    for (int i = BW_DPMPP2M; i <= BW_EULER; i++) {
        CHECK(bw_solver_named(bw_solver_name((enum bw_solver)i), &solver));
        CHECK_INT(solver, i);
    }
    CHECK(!bw_solver_named("", &solver));
    CHECK(!bw_solver_named("Heun", &solver));
    CHECK(!bw_solver_named("heun ", &solver));
    CHECK_INT(solver, BW_EULER);
}

static void dates_are_rfc_3339(void)
{
    char text[BW_DATE_CHARS];
    int year, month, day, hour, minute, second, ms, end = 0;
    bw_date_now(text);
    CHECK_INT(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute,
                     &second, &ms, &end),
              7);
    CHECK_INT(end, 24);
    CHECK_INT((long long)strlen(text), 24);
}

int main(void)
{
    static const struct check_test tests[] = {
        TEST(err_first_wins),
        TEST(err_without_field),
        TEST(err_is_one_line),
        TEST(err_cuts_long_text),
        TEST(arena_measures_then_takes),
        TEST(arena_of_nothing),
        TEST(arena_refuses_the_impossible),
        TEST(buf_grows),
        TEST(buf_ceiling_is_exact_and_sticky),
        TEST(buf_ceiling_of_every_writer),
        TEST(buf_formats),
        TEST(buf_base64_vectors),
        TEST(buf_base64_high_bytes),
        TEST(buf_steal_hands_over),
        TEST(buf_reads_files),
        TEST(solvers_have_names),
        TEST(dates_are_rfc_3339),
    };
    return CHECK_RUN("base", tests);
}
