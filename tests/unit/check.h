/* Check: the harness of the unit tests.
 *
 * A test is a function that makes claims with the macros below; its first wrong claim is what is
 * reported, and the test goes on, so use REQUIRE where going on makes no sense. Every test prints
 * one line, "ok program/test" or "not ok program/test: file:line: claim". Claims are made on the
 * main thread only.
 */
#ifndef BW_TESTS_UNIT_CHECK_H
#define BW_TESTS_UNIT_CHECK_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_test {
    const char *name;
    void (*run)(void);
};

static struct {
    char failure[1024]; // of the test at hand; "" while all is well
} check_state;

static inline bool check_claim(bool holds, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static inline bool check_claim(bool holds, const char *file, int line, const char *format, ...)
{
    if (holds || *check_state.failure)
        return holds;
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) // one line, whatever the text holds
        *c = *c == '\n' ? ' ' : *c;
    snprintf(check_state.failure, sizeof check_state.failure, "%s:%d: %s", file, line, text);
    return false;
}

static inline bool check_int(long long got, long long want, const char *file, int line,
                             const char *expression)
{
    return check_claim(got == want, file, line, "%s is %lld, not %lld", expression, got, want);
}

static inline bool check_near(double got, double want, double within, const char *file, int line,
                              const char *expression)
{
    return check_claim(fabs(got - want) <= within, file, line, "%s is %.17g, not %.17g within %g",
                       expression, got, want, within);
}

static inline bool check_text(const char *got, const char *want, const char *file, int line,
                              const char *expression)
{
    return check_claim(got && strcmp(got, want) == 0, file, line, "%s is \"%s\", not \"%s\"",
                       expression, got ? got : "(null)", want);
}

static inline bool check_holds(const char *text, const char *part, const char *file, int line,
                               const char *expression)
{
    return check_claim(text && strstr(text, part), file, line, "%s is \"%s\", without \"%s\"",
                       expression, text ? text : "(null)", part);
}

#define CHECK(claim)                  check_claim((claim), __FILE__, __LINE__, "%s", #claim)
#define CHECK_INT(got, want)          check_int((got), (want), __FILE__, __LINE__, #got)
#define CHECK_TEXT(got, want)         check_text((got), (want), __FILE__, __LINE__, #got)
#define CHECK_HOLDS(text, part)       check_holds((text), (part), __FILE__, __LINE__, #text)
#define CHECK_NEAR(got, want, within) check_near((got), (want), (within), __FILE__, __LINE__, #got)
/* The claim, with what it was about: CHECK_OF(a == b, "row %d", row). */
#define CHECK_OF(claim, ...) check_of((claim), __FILE__, __LINE__, #claim, __VA_ARGS__)

#define REQUIRE(claim)     \
    do {                   \
        if (!CHECK(claim)) \
            return;        \
    } while (0)

static inline bool check_of(bool holds, const char *file, int line, const char *expression,
                            const char *format, ...) __attribute__((format(printf, 5, 6)));

static inline bool check_of(bool holds, const char *file, int line, const char *expression,
                            const char *format, ...)
{
    if (holds || *check_state.failure)
        return holds; // most claims hold, and there are many
    char about[400];
    va_list args;
    va_start(args, format);
    vsnprintf(about, sizeof about, format, args);
    va_end(args);
    return check_claim(holds, file, line, "%s (%s)", expression, about);
}

/* Is this one of the words of `list`? */
static inline bool check_listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    while (*list) {
        size_t word = strcspn(list, " ");
        if (word == length && memcmp(list, name, length) == 0)
            return true;
        list += word + (list[word] == ' ');
    }
    return false;
}

/* Run a table of tests, or those that the environment variable CHECK_TESTS names; the exit status
 * of the program, which is a failure if there was nothing to run. */
static inline int check_run(const char *program, const struct check_test *tests, size_t count)
{
    const char *wanted = getenv("CHECK_TESTS");
    int status = 0, runs = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); // what ran is known even if a later test crashes
    for (size_t i = 0; i < count; i++) {
        if (wanted && !check_listed(wanted, tests[i].name))
            continue;
        *check_state.failure = '\0';
        runs++;
        tests[i].run();
        if (*check_state.failure) {
            printf("not ok %s/%s: %s\n", program, tests[i].name, check_state.failure);
            status = 1;
        } else {
            printf("ok %s/%s\n", program, tests[i].name);
        }
    }
    return runs ? status : 1;
}

#define TEST(function)      \
    {                       \
#function, function \
    }
#define CHECK_RUN(program, tests) check_run((program), (tests), sizeof(tests) / sizeof *(tests))

#endif
