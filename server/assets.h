/* Assets: files that are part of the program. */
#ifndef BW_SERVER_ASSETS_H
#define BW_SERVER_ASSETS_H

/* openapi.yaml as JSON: from bw_asset_openapi up to bw_asset_openapi_end. */
extern const char bw_asset_openapi[], bw_asset_openapi_end[];

#endif
