/* Lists are short and looked at once for each webhook, so they stay text. Addresses are public
 * unless a table says otherwise; an IPv4 address within an IPv6 one counts as itself. */
#include "server/allow.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { HOST_CHARS = 256 };

struct entry {
    char host[HOST_CHARS]; // of a wildcard ".example.com"
    int port;              // 0: any
    bool is_wildcard;
};

/* ---- lists ---- */

/* An address as the system would write it, or the text as it is; true: it is one. */
static bool normalise(const char *host, char out[HOST_CHARS])
{
    unsigned char bytes[16];
    size_t length = strlen(host);
    snprintf(out, HOST_CHARS, "%s", host);
    if (inet_pton(AF_INET, host, bytes) == 1)
        return true;
    if (length < 3 || length >= HOST_CHARS || host[0] != '[' || host[length - 1] != ']')
        return false;
    out[length - 1] = '\0';
    if (inet_pton(AF_INET6, out + 1, bytes) != 1)
        return false;
    inet_ntop(AF_INET6, bytes, out, HOST_CHARS);
    return true;
}

static bool is_name(const char *text)
{
    size_t length = strlen(text);
    return length && text[0] != '.' && !strstr(text, "..") &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               length;
}

/* One entry without the spaces around it. */
static bool read_entry(const char *text, size_t length, struct entry *e)
{
    char copy[HOST_CHARS];
    int64_t port = 0;
    if (!length || length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *colon = strrchr(copy, ':');
    if (colon && !strchr(colon, ']')) {
        *colon = '\0';
        if (!bw_text_to_int(colon + 1, 1, 65535, &port))
            return false;
    }
    *e = (struct entry){.port = (int)port, .is_wildcard = copy[0] == '*'};
    if (normalise(copy, e->host))
        return true;
    if (e->is_wildcard)
        strcpy(e->host, copy + 1);
    return is_name(e->host + e->is_wildcard) && (!e->is_wildcard || e->host[0] == '.');
}

/* The next entry; false: there is none, and *rest is NULL unless what is there is no entry. */
static bool next_entry(const char **rest, struct entry *e)
{
    const char *begin = *rest;
    if (!begin)
        return false;
    begin += strspn(begin, " ");
    size_t length = strcspn(begin, ",");
    *rest = begin[length] ? begin + length + 1 : NULL;
    while (length && begin[length - 1] == ' ')
        length--;
    if (read_entry(begin, length, e))
        return true;
    *rest = begin;
    return false;
}

int bw_allow_check(const char *list, struct bw_err *err)
{
    const char *rest = list[strspn(list, " ")] ? list : NULL;
    struct entry e;
    while (next_entry(&rest, &e))
        ;
    if (!rest)
        return BW_OK;
    return bw_err_set(err, BW_ERANGE, "\"%.*s\" is not a host, host:port or *.domain",
                      (int)strcspn(rest, ","), rest);
}

static bool matches(const struct entry *e, const char *host, int port)
{
    size_t length = strlen(host), end = strlen(e->host);
    if (e->port && e->port != port)
        return false;
    if (!e->is_wildcard)
        return bw_text_same(host, e->host);
    return length > end && bw_text_same(host + length - end, e->host);
}

enum bw_allowed bw_allow_find(const char *list, const char *host, int port)
{
    char normal[HOST_CHARS];
    bool is_address = normalise(host, normal);
    const char *rest = list[strspn(list, " ")] ? list : NULL;
    enum bw_allowed best = BW_ALLOWED_NOT;
    struct entry e;
    if (strlen(host) >= HOST_CHARS)
        return BW_ALLOWED_NOT;
    while (next_entry(&rest, &e)) {
        if (!matches(&e, normal, port))
            continue;
        enum bw_allowed found = e.is_wildcard                     ? BW_ALLOWED_PUBLIC
                                : is_address                      ? BW_ALLOWED_ADDRESS
                                : bw_text_same(host, "localhost") ? BW_ALLOWED_LOOPBACK
                                                                  : BW_ALLOWED_PUBLIC;
        best = found > best ? found : best;
    }
    return best;
}

/* ---- addresses ---- */

struct range {
    const char *first;
    int bits;
};

/* Of the IANA registries of special-purpose addresses, and multicast. */
static const struct range special_4[] = {
    {"0.0.0.0", 8},       // this network
    {"10.0.0.0", 8},      // private
    {"100.64.0.0", 10},   // shared by the clients of a carrier
    {"127.0.0.0", 8},     // loopback
    {"169.254.0.0", 16},  // link-local; clouds keep credentials there
    {"172.16.0.0", 12},   // private
    {"192.0.0.0", 24},    // protocol assignments
    {"192.0.2.0", 24},    // documentation
    {"192.88.99.0", 24},  // 6to4 relays
    {"192.168.0.0", 16},  // private
    {"198.18.0.0", 15},   // benchmarks
    {"198.51.100.0", 24}, // documentation
    {"203.0.113.0", 24},  // documentation
    {"224.0.0.0", 3},     // multicast, reserved, broadcast
    {NULL, 0},
};
static const struct range special_6[] = {
    {"2001::", 23},     // protocol assignments, Teredo among them
    {"2001:db8::", 32}, // documentation
    {"2002::", 16},     // 6to4: an IPv4 address in disguise
    {"3fff::", 20},     // documentation
    {NULL, 0},
};
static const struct range global_6[] = {{"2000::", 3}, {NULL, 0}};
/* IPv6 addresses that end in the IPv4 address that is meant. */
static const struct range embedded_4[] = {{"::ffff:0:0", 96}, {"64:ff9b::", 96}, {NULL, 0}};
static const struct range loopback_4[] = {{"127.0.0.0", 8}, {NULL, 0}};
static const struct range loopback_6[] = {{"::1", 128}, {NULL, 0}};

static bool is_within(const struct range *ranges, int family, const unsigned char *bytes)
{
    for (; ranges->first; ranges++) {
        unsigned char first[16];
        int whole = ranges->bits / 8, rest = ranges->bits % 8;
        inet_pton(family, ranges->first, first);
        if (memcmp(first, bytes, (size_t)whole) == 0 &&
            (!rest || (first[whole] ^ bytes[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}

bool bw_allow_address(enum bw_allowed allowed, const struct sockaddr *address)
{
    int family = address->sa_family;
    const unsigned char *bytes;
    if (family == AF_INET)
        bytes =
            (const unsigned char *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (family == AF_INET6)
        bytes =
            (const unsigned char *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    else
        return false;
    if (family == AF_INET6 && is_within(embedded_4, AF_INET6, bytes)) {
        family = AF_INET;
        bytes += 12;
    }
    if (allowed == BW_ALLOWED_LOOPBACK)
        return is_within(family == AF_INET ? loopback_4 : loopback_6, family, bytes);
    if (allowed == BW_ALLOWED_PUBLIC)
        return family == AF_INET
                   ? !is_within(special_4, AF_INET, bytes)
                   : is_within(global_6, AF_INET6, bytes) && !is_within(special_6, AF_INET6, bytes);
    return allowed == BW_ALLOWED_ADDRESS;
}
