/* The bytes of server/assets.h. The include path leads to the generated file. */
    .section .rodata
    .global bw_asset_openapi, bw_asset_openapi_end
bw_asset_openapi:
    .incbin "openapi.json"
bw_asset_openapi_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
