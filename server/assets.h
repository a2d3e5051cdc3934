/* Assets: files that are part of the program.
 *
 * The list below is read twice: asset_bytes.S puts the bytes of each file into the program,
 * assets.c makes a table of them. Thread: the loop's.
 */
#ifndef BW_SERVER_ASSETS_H
#define BW_SERVER_ASSETS_H

/* ASSET(symbol, file, path it is served at, media type) */
/* clang-format off */
#define BW_ASSETS(ASSET)                                                                    \
    ASSET(index_html, "web/index.html", "/", "text/html; charset=utf-8")                    \
    ASSET(docs_html, "web/docs.html", "/docs", "text/html; charset=utf-8")                  \
    ASSET(style_css, "web/style.css", "/assets/style.css", "text/css; charset=utf-8")       \
    ASSET(playground_css, "web/playground.css", "/assets/playground.css",                   \
          "text/css; charset=utf-8")                                                        \
    ASSET(docs_css, "web/docs.css", "/assets/docs.css", "text/css; charset=utf-8")          \
    ASSET(icon_svg, "web/icon.svg", "/assets/icon.svg", "image/svg+xml")                    \
    ASSET(theme_js, "web/theme.js", "/assets/theme.js", "text/javascript; charset=utf-8")   \
    ASSET(dom_js, "web/dom.js", "/assets/dom.js", "text/javascript; charset=utf-8")         \
    ASSET(api_js, "web/api.js", "/assets/api.js", "text/javascript; charset=utf-8")         \
    ASSET(schedule_js, "web/schedule.js", "/assets/schedule.js",                            \
          "text/javascript; charset=utf-8")                                                 \
    ASSET(grid_js, "web/grid.js", "/assets/grid.js", "text/javascript; charset=utf-8")      \
    ASSET(form_js, "web/form.js", "/assets/form.js", "text/javascript; charset=utf-8")      \
    ASSET(stage_js, "web/stage.js", "/assets/stage.js", "text/javascript; charset=utf-8")   \
    ASSET(gallery_js, "web/gallery.js", "/assets/gallery.js",                               \
          "text/javascript; charset=utf-8")                                                 \
    ASSET(playground_js, "web/playground.js", "/assets/playground.js",                      \
          "text/javascript; charset=utf-8")                                                 \
    ASSET(markdown_js, "web/markdown.js", "/assets/markdown.js",                            \
          "text/javascript; charset=utf-8")                                                 \
    ASSET(docs_js, "web/docs.js", "/assets/docs.js", "text/javascript; charset=utf-8")
/* clang-format on */

#ifndef __ASSEMBLER__

enum { BW_ASSET_TAG_CHARS = 35 };

struct bw_asset {
    const char *path, *media_type;
    const char *bytes, *end;             // from bytes up to end
    char entity_tag[BW_ASSET_TAG_CHARS]; // strong: 32 hex digits of the SHA-256, in quotes
};

/* The asset served at a path, or NULL. */
const struct bw_asset *bw_asset_find(const char *path);

/* openapi.yaml as JSON: from bw_asset_openapi up to bw_asset_openapi_end. */
extern const char bw_asset_openapi[], bw_asset_openapi_end[];

#endif
#endif
