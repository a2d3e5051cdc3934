/* Gate: what is decided about a request before its handler runs.
 *
 * Where it comes from (behind trusted proxies), which trace it belongs to, whether a page from
 * elsewhere may see the answer, whose key it has, and whether that key's quotas allow it. Thread:
 * the loop's.
 */
#ifndef BW_SERVER_GATE_H
#define BW_SERVER_GATE_H

#include "server/config.h"
#include "server/http.h"
#include "server/keys.h"
#include "server/peers.h"

struct bw_gate {
    const struct bw_config *config;
    struct bw_peers proxies;
    struct bw_keys keys; // none: anyone may ask
};

/* Read what `config` names, which must stay. As bw_keys_read(); the gate is to be released all the
 * same. */
int bw_gate_init(struct bw_gate *gate, const struct bw_config *config, struct bw_err *err);
void bw_gate_release(struct bw_gate *gate);

/* Read the file of keys again, if there is one. On failure the keys stay as they are. */
int bw_gate_reload(struct bw_gate *gate, struct bw_err *err);

/* Find out where the exchange comes from, and add what every answer says: the trace, and whether a
 * page from elsewhere may see it. Also for requests that nobody understands. */
void bw_gate_greet(const struct bw_gate *gate, struct bw_exchange *x);

/* Let an exchange in that was greeted: its caller is known from now on. False if it was answered: a
 * preflight, a key that is missing or wrong, a quota used up. `open` paths want no key. */
bool bw_gate_admit(struct bw_gate *gate, struct bw_exchange *x, bool open);

/* To be told of every exchange that is over, let in or not. */
void bw_gate_leave(struct bw_gate *gate, const struct bw_caller *caller);

#endif
