/* Every address becomes 16 bytes, so there is one kind of network and one comparison. */
#include "server/peers.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { ITEM_CHARS = 64 };

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}; // what precedes IPv4

static bool read_address(const char *text, uint8_t address[16])
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1) {
        memcpy(address, mapped, sizeof mapped);
        memcpy(address + sizeof mapped, bytes, 4);
        return true;
    }
    return inet_pton(AF_INET6, text, address) == 1;
}

static void write_address(const uint8_t address[16], char text[BW_ADDRESS_CHARS])
{
    bool four = memcmp(address, mapped, sizeof mapped) == 0;
    inet_ntop(four ? AF_INET : AF_INET6, address + (four ? sizeof mapped : 0), text,
              BW_ADDRESS_CHARS);
}

/* Bit `i` from the left. */
static bool bit(const uint8_t address[16], int i)
{
    return address[i / 8] >> (7 - i % 8) & 1;
}

static bool holds(const struct bw_network *network, const uint8_t address[16])
{
    for (int i = 0; i < network->bits; i++) {
        if (bit(network->address, i) != bit(address, i))
            return false;
    }
    return true;
}

static bool trusts(const struct bw_peers *peers, const uint8_t address[16])
{
    for (int i = 0; i < peers->count; i++) {
        if (holds(&peers->networks[i], address))
            return true;
    }
    return false;
}

static int read_network(struct bw_network *network, char *text, struct bw_err *err)
{
    char *slash = strchr(text, '/');
    int64_t bits;
    if (slash)
        *slash = '\0';
    int most = strchr(text, ':') ? 128 : 32;
    if (!read_address(text, network->address))
        return bw_err_set(err, BW_ERANGE, "\"%s\" is not a numeric address", text);
    if (!slash)
        bits = most;
    else if (slash[1] == '-' || !bw_text_to_int(slash + 1, 0, most, &bits))
        return bw_err_set(err, BW_ERANGE, "the prefix of \"%s\" is not of 0..%d bits", text, most);
    network->bits = (int)bits + 128 - most;
    for (int i = network->bits; i < 128; i++) {
        if (bit(network->address, i))
            return bw_err_set(err, BW_ERANGE, "\"%s/%s\" has bits beyond its prefix", text,
                              slash + 1);
    }
    return BW_OK;
}

int bw_peers_parse(struct bw_peers *peers, const char *list, struct bw_err *err)
{
    char item[ITEM_CHARS];
    for (peers->count = 0; bw_text_item(&list, item, sizeof item); peers->count++) {
        if (peers->count == BW_MOST_NETWORKS)
            return bw_err_set(err, BW_ERANGE, "more than %d networks", BW_MOST_NETWORKS);
        int code = read_network(&peers->networks[peers->count], item, err);
        if (code)
            return code;
    }
    return BW_OK;
}

int bw_peers_check(const char *list, struct bw_err *err)
{
    struct bw_peers peers;
    return bw_peers_parse(&peers, list, err);
}

void bw_peers_client(const struct bw_peers *peers, const char *peer, const char *forwarded,
                     char client[BW_ADDRESS_CHARS])
{
    uint8_t address[16], found[16];
    char item[ITEM_CHARS];
    if (!read_address(peer, found)) { // "?"
        snprintf(client, BW_ADDRESS_CHARS, "%s", peer);
        return;
    }
    if (trusts(peers, found)) {
        // From the left: what follows the last entry that is not believed counts, and of that the
        // last one that is not a proxy, or the first one.
        bool any = false;
        while (bw_text_item(&forwarded, item, sizeof item)) {
            if (!read_address(item, address)) {
                any = false;
            } else if (!any || !trusts(peers, address)) {
                memcpy(found, address, sizeof found);
                any = true;
            }
        }
        if (!any)
            read_address(peer, found);
    }
    write_address(found, client);
}
