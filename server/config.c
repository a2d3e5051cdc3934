/* The table below is all there is to know of a setting: flags, environment, file, help and
 * --check-config are loops over it. Sources are applied from the strongest to the weakest; a
 * setting once fixed is left alone. */
#include "server/config.h"

#include "base/log.h"
#include "base/text.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { TEXT, ADDRESS, NETWORKS, ORIGINS, HOSTS, STORE, INTEGER, CHOICE };

/* What a text of that kind has to be; "" passes where it is the default. */
static int (*const checks[])(const char *value,
                             struct bw_err *err) = {[ADDRESS] = bw_listen_check,
                                                    [NETWORKS] = bw_peers_check,
                                                    [ORIGINS] = bw_cors_check,
                                                    [HOSTS] = bw_allow_check,
                                                    [STORE] = bw_redis_url_check};

static const char *const switches[] = {"off", "on", NULL};
static const char *const levels[] = {"debug", "info", "warn", "error", "off", NULL};
static const char *const precisions[] = {"auto", "bf16", "f32", NULL};
static const char *const policies[] = {"full", "reject-only", "fifo", NULL};
static const char *const formats[] = {"logfmt", "json", NULL};

static const struct setting {
    const char *name;
    enum kind kind;
    size_t offset;
    int64_t low, high;          // INTEGER: bounds; CHOICE: none; texts: high is the room
    const char *const *choices; // CHOICE: the value is the index
    const char *standard;       // the default
    const char *meaning;
} settings[] = {
#define AT(field) offsetof(struct bw_config, field)
    {"listen", ADDRESS, AT(listen), 0, BW_ADDRESS_CHARS, NULL, "127.0.0.1:8080",
     "host:port to serve on; port 0 takes a free one"},
    {"admin-listen", ADDRESS, AT(admin_listen), 0, BW_ADDRESS_CHARS, NULL, "",
     "host:port for /metrics, /livez and /readyz; /metrics is then only there; empty: none"},
    {"model", TEXT, AT(model), 0, BW_PATH_CHARS, NULL, "",
     "model file, or directory of *.safetensors files, the first by name the default; empty: the "
     "one that came along"},
    {"workers", INTEGER, AT(workers), 1, 64, NULL, "1",
     "pictures in progress are split among these"},
    {"threads", INTEGER, AT(threads), 0, 256, NULL, "0", "threads of a worker; 0: cores / workers"},
    {"precision", CHOICE, AT(precision), 0, 0, precisions, "auto",
     "auto (bf16 where the CPU is fast at it), bf16 or f32"},
    {"batch", INTEGER, AT(batch), 1, 64, NULL, "16",
     "pictures a worker advances together, at most; fewer where that keeps it busy"},
    {"queue", INTEGER, AT(queue), 8, 4096, NULL, "256", "pictures that may wait; more get 429"},
    {"queue-ms", INTEGER, AT(queue_ms), 100, 86400000, NULL, "30000",
     "predicted work of a worker; beyond it what has no deadline gets 429"},
    {"target-latency-ms", INTEGER, AT(target_latency_ms), 0, 3600000, NULL, "0",
     "latency that pictures with skip \"auto\" and no deadline give up bricks for; 0: none"},
    {"policy", CHOICE, AT(policy), 0, 0, policies, "full",
     "full; reject-only (deadlines, but no bricks skipped for them); fifo (no deadlines)"},
    {"deadline-grace-ms", INTEGER, AT(deadline_grace_ms), 0, 3600000, NULL, "1000",
     "a promised deadline that is missed by more is given up, with 504"},
    {"stall-ms", INTEGER, AT(stall_ms), 1000, 3600000, NULL, "60000",
     "a worker that is at one call for so long, and 20 times as long as predicted, counts as dead"},
    {"max-area", INTEGER, AT(max_area), 256, 1 << 24, NULL, "262144",
     "pixels of the largest picture"},
    {"max-body-bytes", INTEGER, AT(max_body_bytes), 1024, 1 << 24, NULL, "65536",
     "bytes of the largest request body"},
    {"connections", INTEGER, AT(connections), 8, 100000, NULL, "1024",
     "open connections at a time"},
    {"request-timeout-ms", INTEGER, AT(request_timeout_ms), 100, 3600000, NULL, "30000",
     "time for a connection to send its next request"},
    {"ping-ms", INTEGER, AT(ping_ms), 1000, 3600000, NULL, "15000",
     "silence after which a stream of events sends a comment, so that nobody takes it for dead"},
    {"keys-file", TEXT, AT(keys_file), 0, BW_PATH_CHARS, NULL, "",
     "API keys, NAME SHA256 [rate=N/s|m|h] [concurrency=N] a line; read again at SIGHUP; empty: "
     "anyone may ask"},
    {"trusted-proxies", NETWORKS, AT(trusted_proxies), 0, BW_PEERS_CHARS, NULL, "",
     "networks like 10.0.0.0/8, ::1 whose X-Forwarded-For is believed"},
    {"cors-origins", ORIGINS, AT(cors_origins), 0, BW_ORIGINS_CHARS, NULL, "",
     "pages that may ask from a browser, like https://a.example, or *; empty: none from elsewhere"},
    {"comments", CHOICE, AT(comments), 0, 0, switches, "on",
     "on or off: pictures say in their files what they were made with"},
    {"jobs", STORE, AT(jobs), 0, BW_PATH_CHARS, NULL, "",
     "where jobs outlive a restart: a directory, or redis://[user:password@]host[:port][/db], "
     "which "
     "any number of replicas share; empty: in memory"},
    {"jobs-lease-ms", INTEGER, AT(jobs_lease_ms), 3000, 3600000, NULL, "15000",
     "in a Redis: a job whose replica is silent for so long is made by another"},
    {"jobs-keep-s", INTEGER, AT(jobs_keep_s), 1, 31536000, NULL, "3600",
     "seconds a job is kept after its end"},
    {"jobs-bytes", INTEGER, AT(jobs_bytes), 1 << 20, INT_MAX, NULL, "268435456",
     "bytes of all jobs that are kept; beyond it the oldest go first; a Redis has its own limit"},
    {"webhook-allow", HOSTS, AT(webhook_allow), 0, BW_ALLOW_CHARS, NULL, "",
     "hosts webhooks may go to: host, host:port, *.domain, with commas; empty: no webhooks"},
    {"webhook-secret-file", TEXT, AT(webhook_secret_file), 0, BW_PATH_CHARS, NULL, "",
     "file with the secret that signs webhooks: whsec_ and base64, or 24 to 64 bytes"},
    {"log-level", CHOICE, AT(log_level), 0, 0, levels, "info", "debug, info, warn, error or off"},
    {"log-format", CHOICE, AT(log_format), 0, 0, formats, "logfmt", "logfmt or json"},
};

enum { SETTING_COUNT = sizeof settings / sizeof *settings, FILE_CEILING_BYTES = 65536 };

static int find(const char *name, size_t length)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (strlen(settings[i].name) == length && memcmp(settings[i].name, name, length) == 0)
            return i;
    }
    return -1;
}

static int set_choice(const struct setting *s, int *slot, const char *value)
{
    for (int i = 0; s->choices[i]; i++) {
        if (strcmp(s->choices[i], value) == 0) {
            *slot = i;
            return 0;
        }
    }
    return -1;
}

/* "a, b or c" */
static void list_choices(const struct setting *s, char *out, size_t room)
{
    size_t length = 0;
    for (int i = 0; s->choices[i] && length < room; i++) {
        const char *before = !i ? "" : s->choices[i + 1] ? ", " : " or ";
        length += (size_t)snprintf(out + length, room - length, "%s%s", before, s->choices[i]);
    }
}

/* Can a configuration file say this value? */
static bool fits_a_line(const char *value)
{
    size_t length = strlen(value);
    return !strchr(value, '\n') && !isspace((unsigned char)value[0]) &&
           !(length && isspace((unsigned char)value[length - 1]));
}

/* Set one setting; `from` says in the error where the value came from. */
static int set(struct bw_config *config, int index, const char *value, const char *from,
               struct bw_err *err)
{
    const struct setting *s = &settings[index];
    char *slot = (char *)config + s->offset;
    struct bw_err reason = {0};
    char choices[64];
    int64_t number;
    switch (s->kind) {
    case TEXT:
    case ADDRESS:
    case NETWORKS:
    case ORIGINS:
    case HOSTS:
    case STORE:
        if (checks[s->kind] && (*value || *s->standard) && checks[s->kind](value, &reason))
            return bw_err_set(err, BW_ERANGE, "%s: %s: %s", from, s->name, reason.message);
        if (strlen(value) >= (size_t)s->high)
            return bw_err_set(err, BW_ERANGE, "%s: %s: too long", from, s->name);
        if (!fits_a_line(value))
            return bw_err_set(err, BW_ERANGE,
                              "%s: %s: begins or ends with a space, or holds a line end", from,
                              s->name);
        strcpy(slot, value);
        return BW_OK;
    case INTEGER:
        if (!bw_text_to_int(value, s->low, s->high, &number))
            return bw_err_set(err, BW_ERANGE, "%s: %s: \"%s\" is not an integer of %lld..%lld",
                              from, s->name, value, (long long)s->low, (long long)s->high);
        *(int *)(void *)slot = (int)number;
        return BW_OK;
    case CHOICE:
        if (!set_choice(s, (int *)(void *)slot, value))
            return BW_OK;
        list_choices(s, choices, sizeof choices);
        return bw_err_set(err, BW_ERANGE, "%s: %s: \"%s\" is not %s", from, s->name, value,
                          choices);
    }
    return BW_OK;
}

struct bw_config bw_config_default(void)
{
    struct bw_config config = {0};
    for (int i = 0; i < SETTING_COUNT; i++)
        set(&config, i, settings[i].standard, "default", NULL);
    return config;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

/* "name = value", a comment that begins with '#', or nothing. */
static int apply_line(struct bw_config *config, char *line, const char *from, const bool *fixed,
                      struct bw_err *err)
{
    line = trim(line);
    if (!*line || *line == '#')
        return BW_OK;
    char *equals = strchr(line, '=');
    if (!equals)
        return bw_err_set(err, BW_ERANGE, "%s: \"%.40s\" is not name = value", from, line);
    *equals = '\0';
    char *name = trim(line), *value = trim(equals + 1);
    int index = find(name, strlen(name));
    if (index < 0)
        return bw_err_set(err, BW_ERANGE, "%s: there is no setting \"%.40s\"", from, name);
    return fixed && fixed[index] ? BW_OK : set(config, index, value, from, err);
}

int bw_config_apply_text(struct bw_config *config, const char *text, const char *name,
                         const bool *fixed, struct bw_err *err)
{
    char *copy = strdup(text), *rest = copy, *line;
    int code = copy ? BW_OK : bw_err_set(err, BW_ENOMEM, "out of memory");
    for (int number = 1; !code && (line = strsep(&rest, "\n")); number++) {
        char from[BW_PATH_CHARS + 16];
        snprintf(from, sizeof from, "%s:%d", name, number);
        code = apply_line(config, line, from, fixed, err);
    }
    free(copy);
    return code;
}

static int apply_file(struct bw_config *config, const char *path, const bool *fixed,
                      struct bw_err *err)
{
    struct bw_buf text = {.ceiling_bytes = FILE_CEILING_BYTES};
    int code = bw_buf_add_file(&text, path, err);
    if (!code && text.data && strlen(text.data) != text.length_bytes)
        code = bw_err_set(err, BW_ERANGE, "%s: holds a NUL byte", path);
    if (!code)
        code = bw_config_apply_text(config, text.data ? text.data : "", path, fixed, err);
    bw_buf_release(&text);
    return code;
}

/* "max-area" -> "BRICKWORK_MAX_AREA" */
static void environment_name(const char *name, char out[64])
{
    snprintf(out, 64, "BRICKWORK_%s", name);
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

/* Other names that begin so are none of ours: Kubernetes sets BRICKWORK_PORT and its like for a
 * service of that name. */
static int apply_environment(struct bw_config *config, bool *fixed, struct bw_err *err)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        char name[64];
        environment_name(settings[i].name, name);
        const char *value = getenv(name);
        if (!value || fixed[i])
            continue;
        fixed[i] = true;
        int code = set(config, i, value, name, err);
        if (code)
            return code;
    }
    return BW_OK;
}

/* A flag without a value; true if `name` is one. */
static bool apply_switch(struct bw_config *config, const char *name)
{
    config->help = config->help || strcmp(name, "help") == 0;
    config->version = config->version || strcmp(name, "version") == 0;
    config->check_only = config->check_only || strcmp(name, "check-config") == 0;
    return !strcmp(name, "help") || !strcmp(name, "version") || !strcmp(name, "check-config");
}

static int apply_flags(struct bw_config *config, int count, char **arguments, bool *fixed,
                       const char **file, struct bw_err *err)
{
    for (int i = 0; i < count; i++) {
        const char *name = bw_text_after(arguments[i], "--");
        if (name && apply_switch(config, name))
            continue;
        size_t length = name ? strcspn(name, "=") : 0;
        bool is_file = length == 6 && memcmp(name, "config", 6) == 0;
        bool is_trace = length == 8 && memcmp(name, "simulate", 8) == 0;
        int index = name ? find(name, length) : -1;
        if (index < 0 && !is_file && !is_trace)
            return bw_err_set(err, BW_ERANGE, "there is no option \"%.60s\"; see --help",
                              arguments[i]);
        if (!name[length] && i + 1 == count)
            return bw_err_set(err, BW_ERANGE, "--%s needs a value", name);
        const char *value = name[length] ? name + length + 1 : arguments[++i];
        if (is_file || is_trace) {
            *(is_file ? file : &config->simulate) = value;
            continue;
        }
        fixed[index] = true;
        int code = set(config, index, value, "command line", err);
        if (code)
            return code;
    }
    return BW_OK;
}

/* Replace "as many as fit" by numbers. */
static int settle(struct bw_config *config, struct bw_err *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (!config->threads)
        config->threads = cores > config->workers ? (int)cores / config->workers : 1;
    if (!*config->model)
        bw_default_model(config->model);
    if (cores > 0 && (long)config->threads * config->workers > 4 * cores)
        return bw_err_set(err, BW_ERANGE, "%d workers of %d threads are too many for %ld cores",
                          config->workers, config->threads, cores);
    return BW_OK;
}

int bw_config_read(struct bw_config *config, int count, char **arguments, struct bw_err *err)
{
    bool fixed[SETTING_COUNT] = {false};
    const char *file = getenv("BRICKWORK_CONFIG");
    *config = bw_config_default();
    int code = apply_flags(config, count, arguments, fixed, &file, err);
    if (code || config->help || config->version)
        return code;
    code = apply_environment(config, fixed, err);
    if (!code && file && *file)
        code = apply_file(config, file, fixed, err);
    return code ? code : settle(config, err);
}

void bw_config_help(struct bw_buf *out)
{
    bw_buf_add_text(out, "usage: brickworkd [--NAME VALUE ...]\n\nSettings, as flag (--queue 32), "
                         "environment (BRICKWORK_QUEUE=32;\nother names are ignored) or line of "
                         "the configuration file (queue = 32), in this order:\n");
    for (int i = 0; i < SETTING_COUNT; i++)
        bw_buf_addf(out, "  %-20s %s (default %s)\n", settings[i].name, settings[i].meaning,
                    *settings[i].standard ? settings[i].standard : "empty");
    bw_buf_add_text(out,
                    "\nFlags only:\n"
                    "  --config FILE        configuration file (also BRICKWORK_CONFIG)\n"
                    "  --simulate TRACE     say what would become of a trace's requests, and exit\n"
                    "  --check-config       print the settings in force and exit\n"
                    "  --version, --help\n");
}

void bw_config_show(const struct bw_config *config, struct bw_buf *out)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        const char *slot = (const char *)config + settings[i].offset;
        bw_buf_addf(out, "%s = ", settings[i].name);
        if (settings[i].kind == INTEGER)
            bw_buf_addf(out, "%d", *(const int *)(const void *)slot);
        else if (settings[i].kind == CHOICE)
            bw_buf_add_text(out, settings[i].choices[*(const int *)(const void *)slot]);
        else if (settings[i].kind == STORE)
            bw_redis_url_mask(slot, out);
        else
            bw_buf_add_text(out, slot);
        bw_buf_add_text(out, "\n");
    }
}
