#include "base/picture.h"

#include <string.h>

static const char *const solver_names[] = {
    [BW_DPMPP2M] = "dpmpp2m", [BW_HEUN] = "heun", [BW_EULER] = "euler"};

const char *bw_solver_name(enum bw_solver solver)
{
    return solver_names[solver];
}

bool bw_solver_named(const char *name, enum bw_solver *solver)
{
    for (int i = BW_DPMPP2M; i <= BW_EULER; i++) {
        if (strcmp(name, solver_names[i]) == 0) {
            *solver = (enum bw_solver)i;
            return true;
        }
    }
    return false;
}

struct bw_picture bw_picture_default(void)
{
    return (struct bw_picture){.class_index = BW_CLASS_NONE,
                               .steps = BW_DEFAULT_STEPS,
                               .solver = BW_DPMPP2M,
                               .guidance = BW_DEFAULT_GUIDANCE};
}
