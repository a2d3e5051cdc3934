/* Browsers keep the files but ask each time whether they are still the same, so a new program is
 * never seen through old pages. The policy allows nothing that is not part of the program, and
 * nothing inline. */
#include "server/pages.h"

#include "api/etag.h"
#include "server/assets.h"

#include <string.h>

static void respond(struct bw_exchange *x, const struct bw_asset *asset, int status)
{
    struct bw_buf body = {0};
    size_t length = (size_t)(asset->end - asset->bytes);
    if (status == 200)
        bw_buf_add(&body, asset->bytes, length);
    const struct bw_header headers[] = {
        {"ETag", asset->entity_tag},
        {"Cache-Control", "no-cache"},
        {"Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:; "
                                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {status == 200 ? "Content-Type" : NULL, asset->media_type},
        {NULL, NULL},
    };
    bw_exchange_respond(x, status, headers, bw_buf_steal(&body), length);
}

void bw_pages_handle(struct bw_service *service, struct bw_exchange *x)
{
    const struct bw_asset *asset = bw_asset_find(bw_exchange_path(x));
    struct bw_err err = {0};
    char held[BW_HEADERS_LIMIT];
    (void)service;
    if (!asset) {
        bw_err_set(&err, BW_ENOTFOUND, "the pages have no such file");
        bw_exchange_refuse(x, BW_PROBLEM_NOT_FOUND, &err, NULL);
        return;
    }
    bw_exchange_list(x, "If-None-Match", held, sizeof held);
    respond(x, asset, bw_etag_matches(held, asset->entity_tag) ? 304 : 200);
}
