/* Fuzz: what the targets share. */
#ifndef BW_TESTS_FUZZ_FUZZ_H
#define BW_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one function of a target; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

/* A target may bring its own; returns the new size. The other is the engine's plain one. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t room);

/* A property of the code under test does not hold. */
#define MUST(claim)                                                                   \
    do {                                                                              \
        if (!(claim)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #claim); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

/* The input as text; what follows its first NUL is lost. The caller frees it. */
static inline char *fuzz_text(const uint8_t *bytes, size_t count)
{
    char *text = malloc(count + 1);
    MUST(text);
    memcpy(text, bytes, count);
    text[count] = '\0';
    return text;
}

#endif
