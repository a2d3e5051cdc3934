/* The bytes of server/assets.h. The include path leads to the tree and to the generated file. */
#include "server/assets.h"

#define ASSET(symbol, file, path, type)                         \
    .global bw_asset_##symbol, bw_asset_##symbol##_end;         \
    bw_asset_##symbol: .incbin file; bw_asset_##symbol##_end: .byte 0;

    .section .rodata
    ASSET(openapi, "openapi.json", , )
    BW_ASSETS(ASSET)
    .section .note.GNU-stack, "", %progbits
