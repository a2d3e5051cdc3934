/* The patterns of paths. */
#include "server/routes.h"

#include "tests/unit/check.h"

static void patterns(void)
{
    static const struct {
        const char *pattern, *path;
        bool fits;
    } cases[] = {
        {"/livez", "/livez", true},
        {"/livez", "/livez/", false},
        {"/livez", "/live", false},
        {"/", "/", true},
        {"/", "", false},
        {"/v1/jobs/{id}", "/v1/jobs/a", true},
        {"/v1/jobs/{id}", "/v1/jobs/", false},
        {"/v1/jobs/{id}", "/v1/jobs", false},
        {"/v1/jobs/{id}", "/v1/jobs/a/", false},
        {"/v1/jobs/{id}", "/v1/jobs/a/events", false},
        {"/v1/jobs/{id}/events", "/v1/jobs/a/events", true},
        {"/v1/jobs/{id}/events", "/v1/jobs//events", false},
        {"/v1/jobs/{id}/images/{i}", "/v1/jobs/{id}/images/{i}", true},
        {"/v1/jobs/{id}/images/{i}", "/v1/jobs/x.y/images/7", true},
        {"/v1/jobs/{id}/images/{i}", "/v1/jobs/x/images/7/8", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_OF(bw_route_matches(cases[i].pattern, cases[i].path) == cases[i].fits, "%s on %s",
                 cases[i].pattern, cases[i].path);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(patterns)};
    return CHECK_RUN("routes", tests);
}
