/* Lists of hosts: an input is a list, a line end, and a host. What is refused has a reason; what is
 * allowed is in the list in so many words, and never by a name at an address of the own network. */
#include "server/allow.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

static bool at(enum bw_allowed allowed, const char *address)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    inet_pton(AF_INET, address, &a.sin_addr);
    return bw_allow_address(allowed, (const struct sockaddr *)&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    char *list = fuzz_text(bytes, count);
    struct bw_err err = {0};
    char *host = strchr(list, '\n');
    if (host)
        *host++ = '\0';
    if (bw_allow_check(list, &err)) {
        MUST(err.code == BW_ERANGE && *err.message);
        free(list);
        return 0;
    }
    enum bw_allowed allowed = host ? bw_allow_find(list, host, 443) : BW_ALLOWED_NOT;
    const char *domain = host ? strchr(host, '.') : NULL;
    MUST(bw_allow_find(list, "", 443) == BW_ALLOWED_NOT);
    MUST(!at(BW_ALLOWED_NOT, "8.8.8.8"));
    if (allowed == BW_ALLOWED_PUBLIC) {
        MUST(strcasestr(list, host) || (domain && strchr(list, '*')));
        MUST(!at(allowed, "127.0.0.1") && !at(allowed, "10.1.2.3") && at(allowed, "8.8.8.8"));
    } else if (allowed == BW_ALLOWED_LOOPBACK) {
        MUST(strcasecmp(host, "localhost") == 0 && strcasestr(list, "localhost"));
        MUST(at(allowed, "127.0.0.1") && !at(allowed, "10.1.2.3"));
    } else if (allowed == BW_ALLOWED_ADDRESS) {
        MUST(*host == '[' || strstr(list, host));
    }
    free(list);
    return 0;
}
