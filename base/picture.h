/* Picture: the vocabulary every module shares for what one picture is asked to be.
 *
 * api/ reads these values from a request, engine/ resolves them against a model, server/ and cli/
 * hand them from one to the other. Plain values: no ownership, no functions that can fail.
 */
#ifndef BW_BASE_PICTURE_H
#define BW_BASE_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BW_MAX_BRICKS = 8,
    BW_MAX_STEPS = 256,
    BW_NAME_CHARS = 96, // room for a class, model or preset name with its NUL
    BW_DEFAULT_STEPS = 20,
};

#define BW_MAX_GUIDANCE     20.0
#define BW_DEFAULT_GUIDANCE 1.5
/* Seeds are 53 bits wide so that every JSON reader, JavaScript included, keeps them exact. */
#define BW_MAX_SEED  9007199254740991
#define BW_MAX_INDEX UINT32_MAX

/* The files a picture is handed over as. */
enum bw_format { BW_FORMAT_ANY, BW_FORMAT_JPEG, BW_FORMAT_PNG, BW_FORMAT_WEBP };

enum bw_solver { BW_DPMPP2M, BW_HEUN, BW_EULER };

enum bw_skip_kind {
    BW_SKIP_NONE,     // every brick at every step
    BW_SKIP_AUTO,     // as much as the deadline asks for; every brick where nothing presses
    BW_SKIP_PRESET,   // a named bound on the quality given up
    BW_SKIP_T_BREAK,  // the paper's: the top brick rests for a share of the steps
    BW_SKIP_SCHEDULE, // explicit ranges of steps
};

/* From the end of the previous range until a fraction of the steps is done, some bricks rest. */
struct bw_skip_range {
    double until;    // (0, 1], rising from range to range
    uint8_t resting; // bit k set: brick k is skipped
};

struct bw_skip {
    enum bw_skip_kind kind;
    char preset[BW_NAME_CHARS]; // BW_SKIP_PRESET
    double t_break;             // BW_SKIP_T_BREAK: [0, 1]
    int range_count;            // BW_SKIP_SCHEDULE: 1..BW_MAX_STEPS
    struct bw_skip_range ranges[BW_MAX_STEPS];
};

enum { BW_CLASS_NONE = -1, BW_CLASS_NAMED = -2 };

struct bw_picture {
    int class_index;                // 0.. or BW_CLASS_NONE (unconditional) or BW_CLASS_NAMED
    char class_name[BW_NAME_CHARS]; // used when class_index is BW_CLASS_NAMED
    int width, height;              // pixels; 0: the model's own size
    int steps;                      // 1..BW_MAX_STEPS
    enum bw_solver solver;
    double guidance; // [0, BW_MAX_GUIDANCE]; 1 or no class: no guidance
    uint64_t seed;   // [0, BW_MAX_SEED]
    uint32_t index;  // which picture of that seed
    struct bw_skip skip;
};

/* The names requests use: "dpmpp2m", "heun", "euler". */
const char *bw_solver_name(enum bw_solver solver);
/* False if there is no such solver. */
bool bw_solver_named(const char *name, enum bw_solver *solver);

/* A picture with every default in place: unconditional, the model's size, nothing skipped, seed 0.
 */
struct bw_picture bw_picture_default(void);

#endif
