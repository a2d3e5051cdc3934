/* Entity tags are made when first asked for: hashing all files would only delay the start. */
#include "server/assets.h"

#include "engine/digest.h"

#include <stdio.h>
#include <string.h>

#define DECLARE(symbol, file, served, type) \
    extern const char bw_asset_##symbol[], bw_asset_##symbol##_end[];
BW_ASSETS(DECLARE)

#define DESCRIBE(symbol, file, served, type) \
    {.path = (served),                       \
     .media_type = (type),                   \
     .bytes = bw_asset_##symbol,             \
     .end = bw_asset_##symbol##_end},
static struct bw_asset assets[] = {BW_ASSETS(DESCRIBE)};

const struct bw_asset *bw_asset_find(const char *path)
{
    struct bw_asset *asset = assets, *last = assets + sizeof assets / sizeof *assets;
    while (asset < last && strcmp(asset->path, path))
        asset++;
    if (asset == last)
        return NULL;
    if (!*asset->entity_tag) {
        char digest[BW_DIGEST_CHARS];
        bw_digest(asset->bytes, (size_t)(asset->end - asset->bytes), digest);
        snprintf(asset->entity_tag, sizeof asset->entity_tag, "\"%.32s\"", digest);
    }
    return asset;
}
