/* Runs a fuzz target without a fuzzing engine: every seed as it is, then deterministic mutations of
 * the seeds, so that each build tries the same inputs.
 *
 *     fuzz_NAME ITERATIONS FILE_OR_FOLDER...
 */
#include "base/buf.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/random.h"

#include <dirent.h>

#pragma weak LLVMFuzzerCustomMutator

enum { MAX_SEEDS = 2048, ROOM_BYTES = 4 << 20 };

static struct bw_buf seeds[MAX_SEEDS];
static int seed_count;
static uint64_t state = 1;

static void add_seed(const char *path)
{
    MUST(seed_count < MAX_SEEDS);
    struct bw_err err = {0};
    seeds[seed_count].ceiling_bytes = ROOM_BYTES;
    if (bw_buf_add_file(&seeds[seed_count], path, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(2);
    }
    bw_buf_add(&seeds[seed_count++], "", 0);
}

/* A file, or the files of a folder by name, so that the order is the same everywhere. */
static void add_seeds(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        add_seed(path);
        return;
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            add_seed(name);
        free(entries[i]);
    }
    free(entries);
}

/* Overwrite, insert, remove or repeat a few bytes. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t room)
{
    static const char *const words[] = {
        "\"",      "{",     "}",    "[",    "]",  ":", ",",
        "-1",      "1e999", "null", "\xff", "\n", "=", "9223372036854775808",
        "\\u0000", "0.5"};
    size_t at = count ? random_next(&state) % count : 0;
    size_t length = (size_t)random_int(&state, 1, 8);
    const char *word = words[random_int(&state, 0, 15)];
    switch (random_int(&state, 0, 4)) {
    case 0: // another byte
        if (count)
            bytes[at] = (uint8_t)random_next(&state);
        return count;
    case 1: // another bit
        if (count)
            bytes[at] ^= (uint8_t)(1 << random_int(&state, 0, 7));
        return count;
    case 2: // bytes fewer
        length = length < count - at ? length : count - at;
        memmove(bytes + at, bytes + at + length, count - at - length);
        return count - length;
    case 3: // bytes twice
        length = length < count - at ? length : count - at;
        break;
    default: // a word more
        length = strlen(word);
    }
    if (count + length > room)
        return count;
    memmove(bytes + at + length, bytes + at, count - at);
    if (word && length == strlen(word))
        memcpy(bytes + at, word, length);
    return count + length;
}

static size_t mutate(uint8_t *bytes, size_t count)
{
    for (int i = random_int(&state, 1, 6); i > 0; i--) {
        if (LLVMFuzzerCustomMutator)
            count =
                LLVMFuzzerCustomMutator(bytes, count, ROOM_BYTES, (unsigned)random_next(&state));
        else
            count = LLVMFuzzerMutate(bytes, count, ROOM_BYTES);
    }
    return count;
}

/* In memory of exactly that size, so that a sanitizer sees every read past its end. */
static void run(const void *bytes, size_t count)
{
    uint8_t *copy = malloc(count ? count : 1);
    MUST(copy);
    memcpy(copy, bytes, count);
    LLVMFuzzerTestOneInput(copy, count);
    free(copy);
}

int main(int count, char **arguments)
{
    long iterations = count > 2 ? strtol(arguments[1], NULL, 10) : -1;
    if (iterations < 0) {
        fprintf(stderr, "usage: %s ITERATIONS SEED_FILE_OR_FOLDER...\n", arguments[0]);
        return 2;
    }
    uint8_t *bytes = malloc(ROOM_BYTES);
    MUST(bytes);
    for (int i = 2; i < count; i++)
        add_seeds(arguments[i]);
    MUST(seed_count > 0);
    for (int i = 0; i < seed_count; i++)
        run(seeds[i].data, seeds[i].length_bytes);
    for (long i = 0; i < iterations; i++) {
        const struct bw_buf *seed = &seeds[random_int(&state, 0, seed_count - 1)];
        memcpy(bytes, seed->data, seed->length_bytes);
        size_t size = mutate(bytes, seed->length_bytes);
        run(bytes, size);
    }
    const char *slash = strrchr(arguments[0], '/');
    printf("ok %s %ld inputs\n", slash ? slash + 1 : arguments[0], seed_count + iterations);
    for (int i = 0; i < seed_count; i++)
        bw_buf_release(&seeds[i]);
    free(bytes);
    return 0;
}
