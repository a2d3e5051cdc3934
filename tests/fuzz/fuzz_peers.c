/* Proxies: a line of networks, then X-Forwarded-For. What a client is called is an address, and
 * without trust always that of its connection. */
#include "server/peers.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static const char *const connections[] = {"10.1.2.3", "::1", "::ffff:127.0.0.1", "2001:db8::9"};
    char client[BW_ADDRESS_CHARS], address[16];
    struct bw_peers peers, none = {.count = 0};
    struct bw_err err = {0};
    char *text = fuzz_text(bytes, count), *forwarded = text;
    const char *list = strsep(&forwarded, "\n");
    if (bw_peers_parse(&peers, list, &err)) {
        MUST(err.code == BW_ERANGE && *err.message);
        peers = none;
    } else {
        MUST(peers.count >= 1 && peers.count <= BW_MOST_NETWORKS);
    }
    for (int i = 0; i < 4; i++) {
        bw_peers_client(&peers, connections[i], forwarded ? forwarded : "", client);
        MUST(inet_pton(strchr(client, ':') ? AF_INET6 : AF_INET, client, address) == 1);
        bw_peers_client(&none, connections[i], forwarded ? forwarded : "", client);
        MUST(strcmp(client, i == 2 ? "127.0.0.1" : connections[i]) == 0);
    }
    free(text);
    return 0;
}
