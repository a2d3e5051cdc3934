/* libcurl knows what a URL is, but takes "http:///path" for one whose host is "path". */
#include "cli/url.h"

#include "base/text.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

int bw_cmd_url(char url[BW_URL_CHARS], const char *server, const char *path, struct bw_err *err)
{
    size_t length = strlen(server);
    const char *host = bw_text_after(server, "http://");
    if (!host)
        host = bw_text_after(server, "https://");
    if (!host)
        return bw_err_set(err, BW_ERANGE, "--url: \"%s\" does not begin with http:// or https://",
                          server);
    length -= server[length - 1] == '/';
    if (snprintf(url, BW_URL_CHARS, "%.*s%s", (int)length, server, path) >= BW_URL_CHARS)
        return bw_err_set(err, BW_ERANGE, "--url: too long");
    CURLU *parsed = strchr("/?#", *host) ? NULL : curl_url(); // *host may be the end of the text
    CURLUcode wrong = parsed ? curl_url_set(parsed, CURLUPART_URL, url, 0) : CURLUE_NO_HOST;
    curl_url_cleanup(parsed);
    return wrong ? bw_err_set(err, BW_ERANGE, "--url: \"%s\" is not a URL", server) : BW_OK;
}
