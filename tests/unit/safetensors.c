/* One refused file per rule of the format, then what valid files mean, to the bit. */
#include "engine/safetensors.h"

#include "tests/unit/check.h"
#include "tests/unit/weights.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char body[256];

/* Headers that must be refused with this tensor and this reason in the message. */
static const struct {
    const char *header;
    size_t body_bytes;
    const char *tensor, *reason;
} refused[] = {
    {"", 0, "", "not JSON"},
    {"{", 0, "", "not JSON"},
    {"{}x", 0, "", "not JSON"},
    {"[]", 0, "", "not a JSON object"},
    {"{\"a\\u0000\":1}", 0, "", "not JSON"},
    {"{\"\xff\":1}", 0, "", "not JSON"},
    {"{\"a\":{},\"a\":{}}", 0, "", "duplicate"},
    {"{\"__metadata__\":[]}", 0, "", "__metadata__ is not an object"},
    {"{\"__metadata__\":null}", 0, "", "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "\"k\"", "is not text"},
    {"{}", 1, "", "bytes after the last tensor"},
    {"{\"t\":5}", 0, "\"t\"", "not exactly dtype, shape and data_offsets"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"t\"", "not exactly"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "\"t\"",
     "not exactly"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"offsets\":[0,4]}}", 4, "\"t\"", "data_offsets"},
#define T(dtype, shape, offsets) \
    "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    {T("\"F64\"", "[1]", "[0,8]"), 8, "\"t\"", "dtype"},
    {T("\"f32\"", "[1]", "[0,4]"), 4, "\"t\"", "dtype"},
    {T("7", "[1]", "[0,4]"), 4, "\"t\"", "dtype"},
    {T("\"F32\"", "4", "[0,4]"), 4, "\"t\"", "shape is not an array"},
    {T("\"F32\"", "{}", "[0,4]"), 4, "\"t\"", "shape is not an array"},
    {T("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "\"t\"", "at most 8"},
    {T("\"F32\"", "[-1]", "[0,4]"), 4, "\"t\"", "not a size"},
    {T("\"F32\"", "[1.0]", "[0,4]"), 4, "\"t\"", "not a size"},
    {T("\"F32\"", "[\"1\"]", "[0,4]"), 4, "\"t\"", "not a size"},
    {T("\"F32\"", "[9223372036854775807]", "[0,4]"), 4, "\"t\"", "absurdly large"},
    {T("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, "\"t\"", "absurdly large"},
    {T("\"F32\"", "[65536,65536,65536,65536,4]", "[0,4]"), 4, "\"t\"", "absurdly large"},
    {T("\"F32\"", "[1]", "4"), 4, "\"t\"", "pair of integers"},
    {T("\"F32\"", "[1]", "[0]"), 4, "\"t\"", "pair of integers"},
    {T("\"F32\"", "[1]", "[0,4,8]"), 4, "\"t\"", "pair of integers"},
    {T("\"F32\"", "[1]", "[0,4.0]"), 4, "\"t\"", "pair of integers"},
    {T("\"F32\"", "[1]", "[4,0]"), 4, "\"t\"", "backwards"},
    {T("\"F32\"", "[1]", "[-4,0]"), 4, "\"t\"", "backwards"},
    {T("\"F32\"", "[1]", "[-9223372036854775807,9223372036854775807]"), 4, "\"t\"", "backwards"},
    {T("\"F32\"", "[2]", "[0,8]"), 7, "\"t\"", "past the end"},
    {T("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, "\"t\"", "past the end"},
    {T("\"F32\"", "[2]", "[0,4]"), 4, "\"t\"", "do not match dtype and shape"},
    {T("\"F16\"", "[2]", "[0,8]"), 8, "\"t\"", "do not match dtype and shape"},
    {T("\"U8\"", "[0]", "[0,1]"), 1, "\"t\"", "do not match dtype and shape"},
    {T("\"F32\"", "[1]", "[4,8]"), 8, "\"t\"", "after a hole"},
    {T("\"F32\"", "[1]", "[0,4]"), 5, "", "bytes after the last tensor"},
    {T("\"F32\"", "[0]", "[0,0]"), 1, "", "bytes after the last tensor"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[4,12]}}",
     12, "\"b\"", "overlaps"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
     8, "", "overlaps"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
     "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
     8, "\"z\"", "overlaps"},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
     8, "\"b\"", "after a hole"},
};

static void every_rule_refuses(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct bw_buf file = weights_file(refused[i].header, body, refused[i].body_bytes);
        struct bw_safetensors st = {.file_bytes = 77};
        struct bw_err err = {0};
        CHECK_OF(bw_safetensors_parse(&st, file.data, file.length_bytes, &err) == BW_ESYNTAX, "%s",
                 refused[i].header);
        CHECK_OF(strstr(err.message, refused[i].tensor) && strstr(err.message, refused[i].reason),
                 "%s: %s", refused[i].header, err.message);
        CHECK_OF(st.file_bytes == 77 && !st.tensors, "%s", refused[i].header);
        bw_buf_release(&file);
    }
}

static void check_prefix(const char *bytes, size_t count, const char *reason)
{
    struct bw_safetensors st;
    struct bw_err err = {0};
    char *copy = malloc(count + 1); // of its own, so that a sanitizer sees reading past the end
    memcpy(copy, bytes, count);
    CHECK_INT(bw_safetensors_parse(&st, copy, count, &err), BW_ESYNTAX);
    CHECK_HOLDS(err.message, reason);
    free(copy);
}

static void header_lengths(void)
{
    check_prefix("", 0, "shorter than its 8-byte");
    check_prefix("\2\0\0\0\0\0\0", 7, "shorter than its 8-byte");
    check_prefix("\0\0\0\0\0\0\0\0", 8, "not JSON");
    check_prefix("\3\0\0\0\0\0\0\0{}", 10, "past the end");
    check_prefix("\377\377\377\377\377\377\377\377{}", 10, "absurdly large");
    check_prefix("\0\0\0\0\0\0\0\200{}", 10, "absurdly large");
    check_prefix("\1\0\0\1\0\0\0\0{}", 10, "absurdly large");
    check_prefix("\0\0\0\1\0\0\0\0{}", 10, "past the end");
}

static void deep_headers(void)
{
    char text[20000];
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct bw_buf file = weights_file(text, NULL, 0);
    struct bw_safetensors st;
    CHECK_INT(bw_safetensors_parse(&st, file.data, file.length_bytes, NULL), BW_ESYNTAX);
    bw_buf_release(&file);
}

static void valid_files(void)
{
    static const char header[] =
        "{\"b\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]},"
        "\"__metadata__\":{\"k\":\"v\"},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[2,4],\"data_offsets\":[0,8]}}  ";
    struct bw_buf file = weights_file(header, body, 10);
    struct bw_safetensors st;
    REQUIRE(bw_safetensors_parse(&st, file.data, file.length_bytes, NULL) == BW_OK);
    CHECK_INT((long long)st.tensor_count, 3);
    CHECK_TEXT(st.tensors[0].name, "a");
    CHECK_TEXT(st.tensors[1].name, "z");
    CHECK_TEXT(st.tensors[2].name, "b");
    CHECK(st.tensors[2].dims == 0 && st.tensors[2].count == 1);
    CHECK(st.tensors[1].count == 0 && st.tensors[0].shape[1] == 4);
    CHECK(bw_safetensors_find(&st, "b") == &st.tensors[2]);
    CHECK(!bw_safetensors_find(&st, "__metadata__") && !bw_safetensors_find(&st, ""));
    CHECK_TEXT(bw_safetensors_metadata(&st, "k"), "v");
    CHECK(!bw_safetensors_metadata(&st, "a"));
    bw_safetensors_release(&st);
    bw_buf_release(&file);
    file = weights_file("{}", NULL, 0);
    REQUIRE(bw_safetensors_parse(&st, file.data, file.length_bytes, NULL) == BW_OK);
    CHECK(st.tensor_count == 0 && !bw_safetensors_metadata(&st, "k"));
    bw_safetensors_release(&st);
    bw_buf_release(&file);
}

/* What 16 bits mean, by the formula of the standard. */
static double meaning(unsigned bits, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, most = (1 << exponent_bits) - 1;
    int exponent = (int)(bits >> fraction_bits) & most;
    double fraction = ldexp((double)(bits & ((1u << fraction_bits) - 1)), -fraction_bits);
    double size = exponent == most ? (fraction > 0 ? NAN : INFINITY)
                  : exponent       ? ldexp(1 + fraction, exponent - bias)
                                   : ldexp(fraction, 1 - bias);
    return bits >> 15 ? -size : size;
}

static void check_all_halves(enum bw_dtype dtype, int exponent_bits, int fraction_bits)
{
    enum { COUNT = 65536 };
    unsigned char *bytes = malloc(2 * COUNT + 1);
    float *out = malloc(COUNT * sizeof *out);
    for (unsigned i = 0; i < COUNT; i++) {
        bytes[2 * i + 1] = (unsigned char)i; // one byte further: any alignment is allowed
        bytes[2 * i + 2] = (unsigned char)(i >> 8);
    }
    struct bw_tensor t = {
        .bytes = bytes + 1, .size_bytes = 2 * COUNT, .count = COUNT, .dtype = dtype};
    bw_tensor_to_float(&t, 0, COUNT, out);
    for (unsigned i = 0; i < COUNT; i++) {
        double want = meaning(i, exponent_bits, fraction_bits);
        CHECK_OF(isnan(want) ? isnan(out[i]) : out[i] == want && !signbit(out[i]) == !(i >> 15),
                 "%04x gives %g, not %g", i, (double)out[i], want);
    }
    float part[3] = {0, 0, 77};
    bw_tensor_to_float(&t, 15361, 2, part);
    CHECK(part[0] == out[15361] && part[1] == out[15362] && part[2] == 77);
    free(bytes);
    free(out);
}

static void all_halves(void)
{
    check_all_halves(BW_F16, 5, 10);
    check_all_halves(BW_BF16, 8, 7);
}

static void floats_are_copied(void)
{
    const float values[4] = {1.5f, -0.0f, 1e-45f, INFINITY};
    float out[4];
    struct bw_tensor t = {.bytes = (const unsigned char *)values,
                          .size_bytes = sizeof values,
                          .count = 4,
                          .dtype = BW_F32};
    bw_tensor_to_float(&t, 0, 4, out);
    CHECK(memcmp(values, out, sizeof out) == 0);
    bw_tensor_to_float(&t, 3, 1, out);
    CHECK(isinf(out[0]));
}

static void write_then_read(void)
{
    static const char path[] = "/tmp/brickwork-safetensors-test";
    const struct bw_tensor tensors[] = {
        {.name = "odd \"name\"",
         .dtype = BW_U8,
         .dims = 1,
         .shape = {3},
         .bytes = body + 3,
         .size_bytes = 3},
        {.name = "scalar", .dtype = BW_F32, .dims = 0, .bytes = body + 10, .size_bytes = 4},
        {.name = "empty", .dtype = BW_BF16, .dims = 2, .shape = {0, 5}, .bytes = body}};
    struct bw_safetensors st;
    for (int i = 0; i < 256; i++)
        body[i] = (unsigned char)i;
    REQUIRE(bw_safetensors_write(path, tensors, 3, "case", "{\"a\":\"\n\"}", NULL) == BW_OK);
    CHECK(access("/tmp/brickwork-safetensors-test.tmp", F_OK) != 0);
    REQUIRE(bw_safetensors_open(&st, path, NULL) == BW_OK);
    CHECK_INT((long long)st.tensor_count, 3);
    CHECK_TEXT(bw_safetensors_metadata(&st, "case"), "{\"a\":\"\n\"}");
    for (int i = 0; i < 3; i++) {
        const struct bw_tensor *t = bw_safetensors_find(&st, tensors[i].name);
        REQUIRE(t != NULL);
        CHECK(t->dtype == tensors[i].dtype && t->dims == tensors[i].dims);
        CHECK(t->size_bytes == tensors[i].size_bytes &&
              memcmp(t->bytes, tensors[i].bytes, t->size_bytes) == 0);
    }
    bw_safetensors_release(&st);
    unlink(path);
    struct bw_err err = {0};
    CHECK_INT(bw_safetensors_write("/nonexistent/x", tensors, 3, NULL, NULL, &err), BW_EIO);
    CHECK_HOLDS(err.message, "/nonexistent/x");
}

static void check_not_opened(const char *path, int code, const char *reason)
{
    struct bw_safetensors st = {.file_bytes = 77};
    struct bw_err err = {0};
    CHECK_INT(bw_safetensors_open(&st, path, &err), code);
    CHECK_HOLDS(err.message, path);
    CHECK_HOLDS(err.message, reason);
    CHECK_INT((long long)st.file_bytes, 77);
}

static void paths_that_are_no_files(void)
{
    char path[] = "/tmp/brickwork-empty-XXXXXX";
    close(mkstemp(path));
    check_not_opened("/nonexistent/model", BW_EIO, "No such file");
    check_not_opened("/tmp", BW_EIO, "not a regular file");
    check_not_opened("/dev/null", BW_EIO, "not a regular file");
    check_not_opened(path, BW_ESYNTAX, "shorter than its 8-byte");
    unlink(path);
    check_not_opened("Makefile", BW_ESYNTAX, "absurdly large");
}

/* A pipe nobody writes to must not keep a program waiting for ever: SIGALRM would end it. */
static void a_pipe_is_refused_at_once(void)
{
    char path[] = "/tmp/brickwork-pipe-XXXXXX";
    close(mkstemp(path));
    unlink(path);
    REQUIRE(mkfifo(path, 0600) == 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(3);
        struct bw_safetensors st;
        _exit(bw_safetensors_open(&st, path, NULL) == BW_EIO ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    unlink(path);
    CHECK_OF(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status %d", status);
}

static bool read_file(void *st, size_t at, size_t count, void *out)
{
    return bw_safetensors_read(st, at, count, out);
}

/* Copied bytes are those of the file, mapped or in memory; a file that has shrunk is no crash. */
static void bytes_are_copied(void)
{
    struct bw_safetensors st, copy;
    char whole[BW_DIGEST_CHARS], parts[BW_DIGEST_CHARS], path[] = "/tmp/brickwork-file-XXXXXX";
    unsigned char some[100];
    REQUIRE(bw_safetensors_open(&st, TINY_U, NULL) == BW_OK);
    REQUIRE(st.file_bytes > 10000);
    bw_digest(st.file, st.file_bytes, whole);
    CHECK(bw_digest_in_parts(st.file_bytes, read_file, &st, parts));
    CHECK_TEXT(whole, parts);
    CHECK(bw_safetensors_read(&st, 4321, sizeof some, some));
    CHECK(memcmp(some, st.file + 4321, sizeof some) == 0);

    REQUIRE(bw_safetensors_parse(&copy, st.file, st.file_bytes, NULL) == BW_OK);
    CHECK(bw_digest_in_parts(copy.file_bytes, read_file, &copy, parts));
    CHECK_TEXT(whole, parts);
    bw_safetensors_release(&copy);

    int fd = mkstemp(path);
    REQUIRE(fd >= 0 && write(fd, st.file, st.file_bytes) == (ssize_t)st.file_bytes);
    REQUIRE(bw_safetensors_open(&copy, path, NULL) == BW_OK);
    REQUIRE(ftruncate(fd, 5000) == 0);
    CHECK(bw_safetensors_read(&copy, 4321, sizeof some, some));
    CHECK(!bw_safetensors_read(&copy, 4950, sizeof some, some));
    CHECK(!bw_digest_in_parts(copy.file_bytes, read_file, &copy, parts));
    bw_safetensors_release(&copy);
    bw_safetensors_release(&st);
    close(fd);
    unlink(path);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(every_rule_refuses),
                                              TEST(header_lengths),
                                              TEST(deep_headers),
                                              TEST(valid_files),
                                              TEST(all_halves),
                                              TEST(floats_are_copied),
                                              TEST(write_then_read),
                                              TEST(paths_that_are_no_files),
                                              TEST(a_pipe_is_refused_at_once),
                                              TEST(bytes_are_copied)};
    return CHECK_RUN("safetensors", tests);
}
