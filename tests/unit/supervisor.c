/* Sockets that are handed in: whose they are, and which is which. */
#include "server/supervisor.h"
#include "tests/unit/check.h"

enum { SELF = 4711 };

static void handed_in(void)
{
    static const struct {
        const char *pid, *fds, *names;
        int main, admin;
    } cases[] = {
        {NULL, NULL, NULL, -1, -1},
        {NULL, "1", "main", -1, -1}, // for nobody in particular
        {"4711", NULL, NULL, -1, -1},
        {"4711", "0", "", -1, -1},
        {"4711", "1", NULL, 3, -1},
        {"4711", "1", "", 3, -1},
        {"4711", "1", "brickwork.socket", 3, -1},
        {"4711", "1", "admin", -1, 3},
        {"4711", "1", "administration", 3, -1},
        {"4711", "1", "adm", 3, -1},
        {"4711", "1", "main:admin", 3, -1}, // names of what is not there
        {"4711", "2", "main:admin", 3, 4},
        {"4711", "2", "admin:main", 4, 3},
        {"4711", "2", "admin", 4, 3},
        {"4711", "2", ":admin", 3, 4},
        {"4712", "2", "main:admin", -1, -1},
        {"4712", "nonsense", NULL, -1, -1}, // of another: none of our business
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_sockets found = {7, 7};
        CHECK_INT(bw_sockets_parse(cases[i].pid, cases[i].fds, cases[i].names, SELF, &found, NULL),
                  BW_OK);
        CHECK_OF(found.main == cases[i].main, "case %zu: %d", i, found.main);
        CHECK_OF(found.admin == cases[i].admin, "case %zu: %d", i, found.admin);
    }
}

static void refused(void)
{
    static const struct {
        const char *pid, *fds, *names, *reason;
    } cases[] = {
        {"", "1", NULL, "LISTEN_PID"},
        {"0", "1", NULL, "LISTEN_PID"},
        {"-4711", "1", NULL, "LISTEN_PID"},
        {"4711 ", "1", NULL, "LISTEN_PID"},
        {"99999999999", "1", NULL, "LISTEN_PID"},
        {"4711", "", NULL, "LISTEN_FDS"},
        {"4711", "-1", NULL, "LISTEN_FDS"},
        {"4711", "3", "main:admin:more", "LISTEN_FDS"},
        {"4711", "1x", NULL, "LISTEN_FDS"},
        {"4711", "2", NULL, "exactly one"},
        {"4711", "2", "main:other", "exactly one"},
        {"4711", "2", "admin:admin", "exactly one"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bw_sockets found = {7, 7};
        struct bw_err err = {0};
        CHECK_OF(bw_sockets_parse(cases[i].pid, cases[i].fds, cases[i].names, SELF, &found, &err) ==
                     BW_ERANGE,
                 "case %zu", i);
        CHECK_HOLDS(err.message, cases[i].reason);
        CHECK(found.main == 7 && found.admin == 7);
    }
}

static void watchdog(void)
{
    static const struct {
        const char *period, *pid;
        int64_t ms;
    } cases[] = {{NULL, NULL, 0},  {"30000000", NULL, 30000}, {"30000000", "1", 0},
                 {"999", NULL, 0}, {"1000", NULL, 1},         {"-1", NULL, 0},
                 {"", NULL, 0},    {"1s", NULL, 0},           {"30000000", "", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (cases[i].period)
            setenv("WATCHDOG_USEC", cases[i].period, 1);
        if (cases[i].pid)
            setenv("WATCHDOG_PID", cases[i].pid, 1);
        CHECK_OF(bw_supervisor_watchdog_ms() == cases[i].ms, "case %zu", i);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(handed_in), TEST(refused), TEST(watchdog)};
    return CHECK_RUN("supervisor", tests);
}
