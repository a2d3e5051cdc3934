/* Settings: which source wins, what no source may say, and the command line's options. */
#include "server/config.h"

#include "base/log.h"
#include "cli/options.h"
#include "engine/kernels/kernels.h"
#include "tests/unit/check.h"

#include <unistd.h>

enum { SETTINGS = 30, QUEUE = 7 /* its place among them */ };

/* The flags as main() passes them; NULL ends them. */
static int read_config(struct bw_config *config, struct bw_err *err, const char *const *flags)
{
    int count = 0;
    while (flags[count])
        count++;
    return bw_config_read(config, count, (char **)flags, err);
}

#define READ(config, err, ...) \
    read_config((config), (err), (const char *const[]){__VA_ARGS__, NULL})

static int apply(struct bw_config *config, const char *text, struct bw_err *err)
{
    return bw_config_apply_text(config, text, "some.conf", NULL, err);
}

static void defaults(void)
{
    struct bw_config c = bw_config_default();
    CHECK_TEXT(c.listen, "127.0.0.1:8080");
    CHECK(c.workers == 1 && c.threads == 0 && c.batch == 16 && c.queue == 256);
    CHECK_INT(c.precision, BW_PRECISION_AUTO);
    CHECK(c.max_area == 262144 && c.log_level == BW_LOG_INFO && c.log_format == BW_LOG_LOGFMT);
    CHECK(!*c.jobs && c.jobs_lease_ms == 15000 && c.jobs_keep_s == 3600 &&
          c.jobs_bytes == 268435456);
    CHECK(!*c.webhook_allow && !*c.webhook_secret_file && c.comments == 1);
    CHECK(!*c.admin_listen && !*c.keys_file && !*c.trusted_proxies && !*c.cors_origins);
    CHECK(!c.help && !c.version && !c.check_only);
}

static void precedence(void)
{
    char path[] = "/tmp/brickwork-config-XXXXXX";
    struct bw_config c;
    int fd = mkstemp(path);
    CHECK(write(fd, "queue = 11\nbatch = 12\nmax-area = 1024\n", 37) == 37);
    close(fd);
    setenv("BRICKWORK_QUEUE", "21", 1);
    setenv("BRICKWORK_BATCH", "22", 1);
    CHECK(READ(&c, NULL, "--config", path, "--queue", "31") == BW_OK);
    CHECK(c.queue == 31 && c.batch == 22 && c.max_area == 1024 && c.connections == 1024);
    setenv("BRICKWORK_CONFIG", path, 1);
    unsetenv("BRICKWORK_BATCH");
    CHECK(READ(&c, NULL, "--queue=31") == BW_OK && c.batch == 12 && c.queue == 31);
    CHECK(READ(&c, NULL, "--config=", "--batch", "5") == BW_OK && c.batch == 5);
    CHECK(c.queue == 21 && c.max_area == 262144);
    setenv("BRICKWORK_QUEUE", "x", 1); // overruled, so nobody's concern
    CHECK(READ(&c, NULL, "--queue", "31") == BW_OK);
    unsetenv("BRICKWORK_QUEUE");
    unlink(path);
    struct bw_err err = {0};
    CHECK_INT(READ(&c, &err, "--queue", "31"), BW_EIO);
    CHECK_HOLDS(err.message, path);
    unsetenv("BRICKWORK_CONFIG");
    CHECK(READ(&c, NULL, NULL) == BW_OK && c.threads >= 1 && *c.model);
}

static void check_flag_refused(const char *flag, const char *value)
{
    struct bw_config c;
    struct bw_err err = {0};
    char text[200], environment[64] = "BRICKWORK_";
    snprintf(text, sizeof text, "--%s", flag);
    CHECK_OF(READ(&c, &err, text, value) == BW_ERANGE, "--%s \"%s\"", flag, value);
    CHECK_HOLDS(err.message, "command line");
    CHECK_HOLDS(err.message, flag);
    for (size_t i = 0, at = strlen(environment); i <= strlen(flag); i++, at++)
        environment[at] = flag[i] == '-' ? '_' : (char)(flag[i] & (flag[i] >= 'a' ? ~32 : ~0));
    setenv(environment, value, 1);
    err = (struct bw_err){0};
    CHECK_OF(READ(&c, &err, NULL) == BW_ERANGE, "%s=\"%s\"", environment, value);
    CHECK_HOLDS(err.message, environment);
    unsetenv(environment);
    snprintf(text, sizeof text, "\n# comment\n %s = %s", flag, value);
    err = (struct bw_err){0};
    CHECK_OF(apply(&c, text, &err) == BW_ERANGE, "%s", text);
    CHECK_HOLDS(err.message, "some.conf:3: ");
}

static void bad_values(void)
{
    static const char *const bad[][2] = {{"listen", ""},
                                         {"listen", "8080"},
                                         {"listen", "localhost:80"},
                                         {"listen", "1.2.3.4:65536"},
                                         {"listen", "1.2.3.4:"},
                                         {"listen", "1.2.3.4:-1"},
                                         {"listen", "[::1:80"},
                                         {"listen", "[]:80"},
                                         {"admin-listen", "9090"},
                                         {"comments", "yes"},
                                         {"stall-ms", "999"},
                                         {"jobs-keep-s", "0"},
                                         {"jobs-keep-s", "31536001"},
                                         {"jobs-bytes", "1048575"},
                                         {"jobs-bytes", "2147483648"},
                                         {"webhook-allow", "https://example.com"},
                                         {"webhook-allow", "a,,b"},
                                         {"trusted-proxies", "10.0.0.1/8"},
                                         {"trusted-proxies", "localhost"},
                                         {"cors-origins", "a.example"},
                                         {"cors-origins", "https://a.example/"},
                                         {"workers", "0"},
                                         {"workers", "65"},
                                         {"workers", ""},
                                         {"workers", "1x"},
                                         {"threads", "-1"},
                                         {"threads", "257"},
                                         {"precision", ""},
                                         {"precision", "BF16"},
                                         {"precision", "fp32"},
                                         {"precision", "2"},
                                         {"batch", "0"},
                                         {"batch", "65"},
                                         {"queue", "7"},
                                         {"queue", "100001"},
                                         {"max-area", "255"},
                                         {"max-area", "16777217"},
                                         {"max-body-bytes", "1023"},
                                         {"max-body-bytes", "16777217"},
                                         {"connections", "7"},
                                         {"connections", "100001"},
                                         {"request-timeout-ms", "99"},
                                         {"request-timeout-ms", "3600001"},
                                         {"request-timeout-ms", "1e3"},
                                         {"log-level", "verbose"},
                                         {"log-level", ""},
                                         {"log-level", "INFO"},
                                         {"log-format", "xml"},
                                         {"queue", "99999999999999999999"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_flag_refused(bad[i][0], bad[i][1]);
    struct bw_config c;
    struct bw_err err = {0};
    static char path[BW_PATH_CHARS + 1];
    memset(path, 'x', sizeof path - 1);
    CHECK_INT(READ(&c, &err, "--model", path), BW_ERANGE);
    CHECK_HOLDS(err.message, "too long");
    CHECK_INT(READ(&c, NULL, "--workers", "64", "--threads", "256"), BW_ERANGE);
    CHECK_INT(READ(&c, NULL, "--admin-listen", "",
                   "--trusted-proxies=", "--cors-origins=", "--keys-file="),
              BW_OK);
}

static void bad_flags(void)
{
    static const char *const bad[] = {"queue",   "-queue",   "--", "---queue", "--queues", "--que",
                                      "--queue", "--config", "",   "--QUEUE",  "--help=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bw_config c;
        struct bw_err err = {0};
        CHECK_OF(READ(&c, &err, bad[i]) == BW_ERANGE && *err.message, "%s", bad[i]);
    }
    struct bw_config c;
    CHECK(READ(&c, NULL, "--help", "--version", "--check-config") == BW_OK);
    CHECK(c.help && c.version && c.check_only);
}

static void files(void)
{
    struct bw_config c = bw_config_default();
    struct bw_err err = {0};
    CHECK_INT(apply(&c, "", &err), BW_OK);
    CHECK_INT(apply(&c,
                    "# queue = 9\n\n  \t\r\n  # ten\r\n queue=10\r\n\tlisten = [::1]:0\nqueue = 12",
                    &err),
              BW_OK);
    CHECK(c.queue == 12);
    CHECK_TEXT(c.listen, "[::1]:0");
    CHECK_INT(apply(&c, "model = a = b", &err), BW_OK);
    CHECK_TEXT(c.model, "a = b");
    CHECK_INT(apply(&c, "queue = 9\nqueue 10\n", &err), BW_ERANGE);
    CHECK_HOLDS(err.message, "some.conf:2: ");
    err = (struct bw_err){0};
    CHECK_INT(apply(&c, "\n\nquue = 9\n", &err), BW_ERANGE);
    CHECK_HOLDS(err.message, "some.conf:3: ");
    CHECK_HOLDS(err.message, "quue");
    CHECK_INT(apply(&c, "= 9", NULL), BW_ERANGE);
    CHECK_INT(apply(&c, "Queue = 9", NULL), BW_ERANGE);
    CHECK_INT(apply(&c, "help = 1", NULL), BW_ERANGE);
    const bool fixed[SETTINGS] = {[QUEUE] = true};
    CHECK_INT(bw_config_apply_text(&c, "queue = 99\nbatch = 9", "x", fixed, NULL), BW_OK);
    CHECK(c.queue == 9 && c.batch == 9);
}

/* The setting and the engine go by the same names and numbers. */
static void precisions(void)
{
    static const char *const names[] = {"auto", "bf16", "f32"};
    for (int i = 0; i < 3; i++) {
        struct bw_config c;
        enum bw_precision precision = BW_PRECISION_AUTO;
        CHECK_INT(READ(&c, NULL, "--precision", names[i]), BW_OK);
        CHECK_OF(bw_kernels_precision(names[i], &precision) && c.precision == (int)precision,
                 "%s is %d and %d", names[i], c.precision, precision);
    }
}

static void check_shown(const char *model)
{
    struct bw_config c, again = bw_config_default();
    struct bw_buf text = {0}, second = {0};
    REQUIRE(READ(&c, NULL, "--model", model, "--listen", "[::]:1", "--workers", "2", "--threads",
                 "1", "--precision", "f32", "--batch", "3", "--queue", "4096", "--max-area", "256",
                 "--max-body-bytes", "1024", "--connections", "8", "--request-timeout-ms", "100",
                 "--log-level", "off", "--log-format", "json", "--admin-listen", "[::1]:0",
                 "--keys-file", model, "--trusted-proxies", "10.0.0.0/8, ::1", "--cors-origins",
                 "https://a.example, http://b:1") == BW_OK);
    bw_config_show(&c, &text);
    CHECK_OF(apply(&again, text.data, NULL) == BW_OK, "%s", model);
    CHECK_TEXT(again.model, model);
    CHECK(again.workers == 2 && again.threads == 1 && again.batch == 3 && again.queue == 4096);
    CHECK_INT(again.precision, BW_PRECISION_F32);
    CHECK_TEXT(again.admin_listen, "[::1]:0");
    CHECK_TEXT(again.keys_file, model);
    CHECK_TEXT(again.trusted_proxies, "10.0.0.0/8, ::1");
    CHECK_TEXT(again.cors_origins, "https://a.example, http://b:1");
    CHECK(again.log_level == BW_LOG_OFF && again.log_format == BW_LOG_JSON);
    bw_config_show(&again, &second);
    CHECK_TEXT(second.data, text.data);
    bw_buf_release(&text);
    bw_buf_release(&second);
}

static void shown_settings_read_back(void)
{
    check_shown("/tmp/some model.safetensors");
}

/* A path is whatever the system takes for one. */
static void odd_paths_read_back(void)
{
    check_shown("/tmp/model #1.safetensors");
}

static void a_password_is_not_shown(void)
{
    struct bw_config c;
    struct bw_err err = {0};
    struct bw_buf text = {0};
    CHECK(READ(&c, NULL, "--jobs", "redis://u:sesame@h:1/2", "--jobs-lease-ms", "3000") == BW_OK);
    CHECK_TEXT(c.jobs, "redis://u:sesame@h:1/2");
    CHECK_INT(c.jobs_lease_ms, 3000);
    bw_config_show(&c, &text);
    CHECK_HOLDS(text.data, "jobs = redis://u:***@h:1/2\n");
    CHECK(!strstr(text.data, "sesame"));
    bw_buf_release(&text);
    CHECK_INT(READ(&c, &err, "--jobs", "rediss://u:sesame@h"), BW_ERANGE);
    CHECK_HOLDS(err.message, "command line: jobs: rediss:// (TLS)");
    CHECK(!strstr(err.message, "sesame"));
}

static void help_names_every_setting(void)
{
    struct bw_config c = bw_config_default();
    struct bw_buf help = {0}, shown = {0};
    bw_config_help(&help);
    bw_config_show(&c, &shown);
    int lines = 0;
    for (char *rest = shown.data, *line; (line = strsep(&rest, "\n")) && *line; lines++) {
        *strchr(line, ' ') = '\0';
        CHECK_HOLDS(help.data, line);
    }
    CHECK_INT(lines, SETTINGS);
    bw_buf_release(&help);
    bw_buf_release(&shown);
}

static const struct bw_option table[] = {
    {"size", "WxH", "x"}, {"seed", "N", "y"}, {NULL, NULL, NULL}};

/* Notes "name=value;" and refuses the value "bad". */
static int note(void *context, const char *name, const char *value, struct bw_err *err)
{
    char *text = context;
    sprintf(text + strlen(text), "%s=%s;", name, value);
    return strcmp(value, "bad") ? BW_OK : bw_err_set(err, BW_ERANGE, "bad value");
}

#define OPTIONS(...) (char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)

static int read_options(char **arguments, size_t count, char *text, bool *help, struct bw_err *err)
{
    *text = '\0';
    return bw_options_read(table, (int)count, arguments, note, text, help, err);
}

static void options(void)
{
    char text[200];
    bool help = true;
    struct bw_err err = {0};
    CHECK_INT(read_options(OPTIONS("--size", "1x2", "--seed=3", "--seed", "--size", "--size="),
                           text, &help, &err),
              BW_OK);
    CHECK_TEXT(text, "size=1x2;seed=3;seed=--size;size=;");
    CHECK(!help);
    CHECK_INT(read_options(OPTIONS("--seed", "1", "--help", "--nonsense"), text, &help, &err),
              BW_OK);
    CHECK(help);
    CHECK_TEXT(text, "seed=1;");
    CHECK_INT(read_options(OPTIONS("--seed", "bad", "--seed", "2"), text, &help, &err), BW_ERANGE);
    CHECK_TEXT(text, "seed=bad;");
    CHECK_TEXT(err.message, "bad value");
    CHECK_INT(read_options(OPTIONS("--seed"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS("seed", "1"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS("--see", "1"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS("--seeds", "1"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS("--", "1"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS("--=1"), text, &help, NULL), BW_ERANGE);
    CHECK_INT(read_options(OPTIONS(""), text, &help, NULL), BW_ERANGE);
    CHECK_TEXT(text, "");
    CHECK_INT(bw_options_read(table, 0, NULL, note, text, &help, NULL), BW_OK);
}

int main(void)
{
    static const struct check_test tests[] = {TEST(defaults),
                                              TEST(precedence),
                                              TEST(bad_values),
                                              TEST(bad_flags),
                                              TEST(files),
                                              TEST(precisions),
                                              TEST(shown_settings_read_back),
                                              TEST(odd_paths_read_back),
                                              TEST(a_password_is_not_shown),
                                              TEST(help_names_every_setting),
                                              TEST(options)};
    return CHECK_RUN("config", tests);
}
