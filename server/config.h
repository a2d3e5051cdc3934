/* Config: the settings of the server.
 *
 * One table says what can be set. For each setting the first of these that gives it counts: a flag
 * (--name value), the environment (BRICKWORK_NAME), the configuration file (name = value), its
 * default.
 */
#ifndef BW_SERVER_CONFIG_H
#define BW_SERVER_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "server/allow.h"
#include "server/cors.h"
#include "server/listen.h"
#include "server/peers.h"
#include "server/redis_url.h"

#include <stdbool.h>
#include <stddef.h>

struct bw_config {
    char listen[BW_ADDRESS_CHARS];
    char admin_listen[BW_ADDRESS_CHARS]; // "": none
    char model[BW_PATH_CHARS];
    int workers;
    int threads;   // of each worker; 0 in the settings means the cores divided among the workers
    int precision; // enum bw_precision
    int batch;     // pictures a worker advances at a time, at most
    int queue;     // pictures that may wait
    int queue_ms;  // of work for each worker, beyond which none without deadline is taken
    int target_latency_ms; // of automatic pictures without a deadline; 0: none
    int policy;            // enum bw_policy
    int deadline_grace_ms; // after a promised deadline, before its pictures are given up
    int stall_ms;          // at one call of the network, after which a worker counts as dead
    int max_area;
    int max_body_bytes;
    int connections;
    int request_timeout_ms;
    int ping_ms;                        // of a silent stream
    char keys_file[BW_PATH_CHARS];      // "": no keys
    int comments;                       // pictures say in their files what they were made with
    char jobs[BW_PATH_CHARS];           // a directory or a Redis; "": jobs are kept in memory
    int jobs_lease_ms;                  // in a Redis
    int jobs_keep_s;                    // after their end
    int jobs_bytes;                     // of all that are kept
    char webhook_allow[BW_ALLOW_CHARS]; // "": webhooks are off
    char webhook_secret_file[BW_PATH_CHARS];
    char trusted_proxies[BW_PEERS_CHARS];
    char cors_origins[BW_ORIGINS_CHARS];
    int log_level;  // enum bw_log_level
    int log_format; // enum bw_log_format

    const char *simulate;           // trace to simulate instead of serving; NULL: none
    bool help, version, check_only; // asked for on the command line
};

/* Read flags, environment and file. BW_ERANGE: an unknown name or a value that is not allowed, with
 * where it came from; BW_EIO: the file cannot be read. */
int bw_config_read(struct bw_config *config, int count, char **arguments, struct bw_err *err);

/* Apply the text of a configuration file to settings not in `fixed` (one flag per setting, or
 * NULL). `name` stands in errors. */
int bw_config_apply_text(struct bw_config *config, const char *text, const char *name,
                         const bool *fixed, struct bw_err *err);

struct bw_config bw_config_default(void);

/* The table as help text, and the settings in force as a configuration file, but for a
 * password, which is left out. */
void bw_config_help(struct bw_buf *out);
void bw_config_show(const struct bw_config *config, struct bw_buf *out);

#endif
