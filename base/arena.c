/* Without memory the arena only adds up; with memory the same calls hand it out. */
#include "base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, LARGE = 16 << 20 };

void *bw_arena_take(struct bw_arena *arena, size_t count, size_t size)
{
    assert(size == 0 || count <= (SIZE_MAX / 2) / size);
    size_t bytes = (count * size + BW_ARENA_ALIGN - 1) & ~(size_t)(BW_ARENA_ALIGN - 1);
    unsigned char *at = arena->memory ? arena->memory + arena->used_bytes : NULL;
    arena->used_bytes += bytes;
    assert(!arena->memory || arena->used_bytes <= arena->size_bytes);
    return at;
}

int bw_arena_reserve(struct bw_arena *arena, struct bw_err *err)
{
    assert(!arena->memory);
    size_t bytes = arena->used_bytes ? arena->used_bytes : BW_ARENA_ALIGN;
    *arena = (struct bw_arena){0};
    size_t align = bytes < LARGE ? BW_ARENA_ALIGN : HUGE_PAGE;
    unsigned char *memory = aligned_alloc(align, (bytes + align - 1) & ~(align - 1));
    if (!memory)
        return bw_err_set(err, BW_ENOMEM, "out of memory: %zu bytes wanted", bytes);
    // The processor keeps too few translations for weights in small pages; pictures are better off
    // with those. A refusal costs time only.
    if (bytes >= LARGE)
        madvise(memory, bytes & ~((size_t)HUGE_PAGE - 1), MADV_HUGEPAGE);
    *arena = (struct bw_arena){.memory = memory, .size_bytes = bytes};
    return BW_OK;
}

void bw_arena_release(struct bw_arena *arena)
{
    free(arena->memory);
    *arena = (struct bw_arena){0};
}
