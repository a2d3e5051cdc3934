/* Sockets that are handed in: lines of LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. Only what is meant
 * for this process counts, every descriptor is one of those that were counted, and none is used
 * twice. */
#include "server/supervisor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    enum { SELF = 7 };
    struct bw_sockets found = {-2, -2};
    struct bw_err err = {0};
    char *text = fuzz_text(bytes, count), *rest = text;
    const char *pid = strsep(&rest, "\n"), *fds = strsep(&rest, "\n"), *names = rest;
    if (bw_sockets_parse(pid, fds, names, SELF, &found, &err)) {
        MUST(err.code == BW_ERANGE && *err.message);
        MUST(found.main == -2 && found.admin == -2);
    } else {
        int sockets = (found.main >= 0) + (found.admin >= 0);
        int wanted = atoi(pid) == SELF && fds ? atoi(fds) : 0;
        MUST(sockets == wanted && sockets <= 2);
        MUST(found.main >= -1 && found.main < BW_FIRST_SOCKET + sockets);
        MUST(found.admin >= -1 && found.admin < BW_FIRST_SOCKET + sockets);
        MUST(!sockets || found.main != found.admin);
        MUST(found.admin < 0 || (names && strstr(names, BW_ADMIN_SOCKET)));
    }
    free(text);
    return 0;
}
