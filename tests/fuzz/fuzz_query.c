/* Queries: what is refused has a reason that can be sent; what is accepted has a seed and one
 * picture, and no pair of it can be said twice. */
#include "api/problem.h"
#include "api/request.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_PAIRS = 64 };

struct pairs {
    const char *names[MAX_PAIRS + 1], *values[MAX_PAIRS + 1];
    int count;
};

static bool pair_of(const void *query, int i, const char **name, const char **value)
{
    const struct pairs *pairs = query;
    if (i >= pairs->count)
        return false;
    *name = pairs->names[i];
    *value = pairs->values[i];
    return true;
}

/* "name=value&name=value", without escapes: those are the server's. */
static struct pairs split(char *text)
{
    struct pairs pairs = {.count = 0};
    char *rest = NULL;
    for (char *word = strtok_r(text, "&", &rest); word && pairs.count < MAX_PAIRS;
         word = strtok_r(NULL, "&", &rest)) {
        char *equals = strchr(word, '=');
        if (equals)
            *equals = '\0';
        pairs.names[pairs.count] = word;
        pairs.values[pairs.count++] = equals ? equals + 1 : "";
    }
    return pairs;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *text = fuzz_text(bytes, count);
    struct pairs pairs = split(text);
    struct bw_request request;
    struct bw_err err = {0};
    if (bw_request_from_query(&request, pair_of, &pairs, &err)) {
        char *body = bw_problem_render(bw_problem_of(&err), &err, NULL, "id", 0);
        MUST(err.code == BW_ERANGE && *err.message && body);
        free(body);
    } else {
        MUST(request.seeded && request.count == 1 && pairs.count > 0);
        MUST(!request.partial_images && !*request.webhook);
        pairs.names[pairs.count] = pairs.names[0];
        pairs.values[pairs.count++] = pairs.values[0];
        MUST(bw_request_from_query(&request, pair_of, &pairs, &err) == BW_ERANGE);
    }
    free(text);
    return 0;
}
