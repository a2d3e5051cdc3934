/* For whoever restarts what is not well and has no HTTP client at hand, such as a container's
 * health check. */
#include "base/text.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/url.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct bw_option options[] = {
    {"url", "URL", "the server (default http://127.0.0.1:8080)"},
    {"timeout-s", "S", "how long it may take to answer (default 2)"},
    {NULL, NULL, NULL},
};

struct health {
    char url[BW_URL_CHARS]; // of /readyz
    double timeout_s;
};

static int set_option(void *context, const char *name, const char *value, struct bw_err *err)
{
    struct health *h = context;
    if (strcmp(name, "timeout-s") == 0) {
        if (!bw_text_to_number(value, 0.1, 3600, &h->timeout_s))
            return bw_err_set(err, BW_ERANGE, "--timeout-s: not a number of 0.1..3600");
        return BW_OK;
    }
    return bw_cmd_url(h->url, value, "/readyz", err);
}

static size_t discard(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

/* BW_EIO: no answer, or another than 200. */
static int ask(const struct health *h, struct bw_err *err)
{
    char reason[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *easy = curl_easy_init();
    if (!easy)
        return bw_err_set(err, BW_EIO, "libcurl does not start");
    curl_easy_setopt(easy, CURLOPT_URL, h->url);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, lround(h->timeout_s * 1e3));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, reason);
    CURLcode failed = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    if (failed)
        return bw_err_set(err, BW_EIO, "%s: %s", h->url,
                          *reason ? reason : curl_easy_strerror(failed));
    return status == 200 ? BW_OK : bw_err_set(err, BW_EIO, "%s: status %ld", h->url, status);
}

int bw_cmd_health(int count, char **arguments)
{
    struct health h = {.url = "http://127.0.0.1:8080/readyz", .timeout_s = 2};
    struct bw_err err = {0};
    bool help;
    int code = bw_options_read(options, count, arguments, set_option, &h, &help, &err);
    if (!code && help) {
        bw_options_help("usage: brickwork health [options]\n\nSays whether a server is ready for "
                        "requests: exit status 0, or 1 and why not.",
                        options);
        return BW_EXIT_OK;
    }
    if (!code)
        code = ask(&h, &err);
    if (code)
        return bw_cmd_failed(&err);
    printf("%s: ready\n", h.url);
    return BW_EXIT_OK;
}
