/* From the cheapest decision to the dearest; the fields of the answer are added on the way, so that
 * a refusal has them too. */
#include "server/gate.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { AUTHORIZATION_CHARS = 1024, TRACEPARENT_LIST_CHARS = 256 };

#define PREFLIGHT_SECONDS "7200" // the most that browsers keep a preflight's answer
#define CHALLENGE         "Bearer realm=\"brickwork\""

int bw_gate_init(struct bw_gate *gate, const struct bw_config *config, struct bw_err *err)
{
    *gate = (struct bw_gate){.config = config};
    int code = BW_OK;
    if (*config->trusted_proxies)
        code = bw_peers_parse(&gate->proxies, config->trusted_proxies, err);
    if (!code && *config->keys_file)
        code = bw_keys_read(&gate->keys, config->keys_file, err);
    return code;
}

void bw_gate_release(struct bw_gate *gate)
{
    bw_keys_release(&gate->keys);
}

int bw_gate_reload(struct bw_gate *gate, struct bw_err *err)
{
    struct bw_keys fresh = {0};
    if (!*gate->config->keys_file)
        return BW_OK;
    int code = bw_keys_read(&fresh, gate->config->keys_file, err);
    if (!code)
        code = bw_keys_renew(&gate->keys, &fresh, err);
    bw_keys_release(&fresh);
    return code;
}

static void find_address(const struct bw_gate *gate, struct bw_exchange *x)
{
    struct bw_caller *caller = bw_exchange_caller(x);
    char forwarded[BW_HEADERS_LIMIT + 1]; // all there can be: what a proxy appended is at its end
    char address[BW_ADDRESS_CHARS];
    bw_exchange_list(x, "X-Forwarded-For", forwarded, sizeof forwarded);
    bw_peers_client(&gate->proxies, caller->address, forwarded, address);
    strcpy(caller->address, address);
}

static void join_trace(struct bw_exchange *x)
{
    struct bw_caller *caller = bw_exchange_caller(x);
    char given[TRACEPARENT_LIST_CHARS], own[BW_TRACEPARENT_CHARS];
    bw_exchange_list(x, "traceparent", given, sizeof given);
    caller->trace = bw_trace_context_enter(given);
    bw_trace_context_render(&caller->trace, own);
    bw_exchange_add_header(x, "traceparent", own);
}

/* For Access-Control-Allow-Origin: NULL if a page that asks, if it is one, may not see the answer.
 */
static const char *allowed_origin(const struct bw_gate *gate, const struct bw_exchange *x)
{
    const char *origin = bw_exchange_header(x, "Origin");
    return origin ? bw_cors_allow(gate->config->cors_origins, origin) : NULL;
}

/* Does a browser merely want to know what a page may ask? */
static bool is_preflight(const struct bw_gate *gate, const struct bw_exchange *x)
{
    return strcmp(bw_exchange_method(x), "OPTIONS") == 0 &&
           bw_exchange_header(x, "Access-Control-Request-Method") && allowed_origin(gate, x);
}

static void cross_origins(const struct bw_gate *gate, struct bw_exchange *x)
{
    const char *allowed = allowed_origin(gate, x);
    if (*gate->config->cors_origins)
        bw_exchange_add_header(x, "Vary", "Origin");
    if (allowed)
        bw_exchange_add_header(x, "Access-Control-Allow-Origin", allowed);
    if (allowed && !is_preflight(gate, x))
        bw_exchange_add_header(x, "Access-Control-Expose-Headers", BW_CORS_EXPOSED);
}

static void answer_preflight(struct bw_exchange *x)
{
    static const struct bw_header headers[] = {
        {"Access-Control-Allow-Methods", BW_CORS_METHODS},
        {"Access-Control-Allow-Headers", BW_CORS_HEADERS},
        {"Access-Control-Max-Age", PREFLIGHT_SECONDS},
        {NULL, NULL},
    };
    bw_exchange_respond(x, 204, headers, NULL, 0);
}

/* The key in an Authorization field (RFC 6750), or NULL if there is none in it. */
static const char *bearer(const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (strncasecmp(authorization, scheme, sizeof scheme - 1))
        return NULL;
    const char *key = authorization + sizeof scheme - 1;
    key += strspn(key, " ");
    return *key ? key : NULL;
}

static void refuse_key(struct bw_exchange *x, bool sent)
{
    struct bw_err err = {0};
    struct bw_header challenge = {"WWW-Authenticate",
                                  sent ? CHALLENGE ", error=\"invalid_token\"" : CHALLENGE};
    bw_err_set(&err, BW_ERANGE, "%s",
               sent ? "this is no key of the service" : "send Authorization: Bearer KEY");
    bw_exchange_refuse(x, BW_PROBLEM_UNAUTHORIZED, &err, &challenge);
}

static void refuse_quota(struct bw_exchange *x, const struct bw_key *key, enum bw_quota quota)
{
    struct bw_err err = {0};
    char seconds[16] = "1"; // nobody knows when a request under way will be over
    if (quota == BW_QUOTA_RATE) {
        snprintf(seconds, sizeof seconds, "%d", bw_key_wait_s(key));
        bw_err_set(&err, BW_EBUSY, "the key allows %d requests in %d s", key->rate, key->window_s);
    } else {
        bw_err_set(&err, BW_EBUSY, "the key allows %d requests at a time", key->concurrency);
    }
    bw_exchange_refuse(x, BW_PROBLEM_RATE_LIMITED, &err,
                       &(struct bw_header){"Retry-After", seconds});
}

/* False if the exchange was refused. */
static bool admit_key(struct bw_gate *gate, struct bw_exchange *x)
{
    struct bw_caller *caller = bw_exchange_caller(x);
    char authorization[AUTHORIZATION_CHARS], policy[BW_QUOTA_CHARS], limit[BW_QUOTA_CHARS];
    bw_exchange_list(x, "Authorization", authorization, sizeof authorization);
    const char *presented = bearer(authorization);
    struct bw_key *key = presented ? bw_keys_find(&gate->keys, presented) : NULL;
    if (!key) {
        refuse_key(x, presented != NULL);
        return false;
    }
    strcpy(caller->key, key->name);
    enum bw_quota quota = bw_key_enter(key, (int64_t)bw_now_ms());
    caller->counted = quota == BW_QUOTA_KEPT;
    if (bw_key_quotas(key, policy, limit)) {
        bw_exchange_add_header(x, "RateLimit-Policy", policy);
        bw_exchange_add_header(x, "RateLimit", limit);
    }
    if (!caller->counted)
        refuse_quota(x, key, quota);
    return caller->counted;
}

void bw_gate_greet(const struct bw_gate *gate, struct bw_exchange *x)
{
    find_address(gate, x);
    join_trace(x);
    cross_origins(gate, x);
}

bool bw_gate_admit(struct bw_gate *gate, struct bw_exchange *x, bool open)
{
    if (is_preflight(gate, x)) {
        answer_preflight(x);
        return false;
    }
    return open || !*gate->config->keys_file || admit_key(gate, x);
}

void bw_gate_leave(struct bw_gate *gate, const struct bw_caller *caller)
{
    if (caller->counted)
        bw_keys_leave(&gate->keys, caller->key);
}
