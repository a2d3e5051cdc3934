/* Arena: many buffers of one lifetime in one allocation.
 *
 * The size is found by running the same carving code twice: first on an arena that only measures,
 * then on one that owns memory. So there is one place that says what a lifetime needs.
 *
 *     struct bw_arena arena = {0};                    // measures
 *     carve(&arena, &buffers);                        // every pointer handed out is NULL
 *     if (bw_arena_reserve(&arena, err)) ...          // allocates what was measured
 *     carve(&arena, &buffers);                        // the same calls now return memory
 *     bw_arena_release(&arena);
 *
 * Thread: an arena belongs to one thread at a time.
 */
#ifndef BW_BASE_ARENA_H
#define BW_BASE_ARENA_H

#include "base/err.h"

#include <stddef.h>

#define BW_ARENA_ALIGN 64 // one cache line, and the widest vector register

struct bw_arena {
    unsigned char *memory; // [size_bytes]; NULL while measuring
    size_t size_bytes;
    size_t used_bytes;
};

/* The next `count` elements of `size` bytes, 64-byte aligned, contents undefined. NULL while
 * measuring. Running past the reserved size is a bug in the carving code and asserts. */
void *bw_arena_take(struct bw_arena *arena, size_t count, size_t size);

/* Allocate what was measured, in huge pages where the system gives them, and start again at its
 * beginning. BW_ENOMEM; the arena then still measures nothing and owns nothing. */
int bw_arena_reserve(struct bw_arena *arena, struct bw_err *err);

/* Free the memory; the arena is as new. */
void bw_arena_release(struct bw_arena *arena);

#define BW_TAKE(arena, type, count) ((type *)bw_arena_take((arena), (count), sizeof(type)))

#endif
