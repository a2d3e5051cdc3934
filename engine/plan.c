/* What a request leaves open is settled here, once: afterwards a picture is numbers and masks. */
#include "engine/plan.h"

#include "base/text.h"
#include "engine/cost.h"
#include "engine/schedule.h"

#include <stdio.h>
#include <string.h>

static int refuse_class(const struct bw_arch *arch, const char *name, struct bw_err *err)
{
    char names[256] = "";
    size_t at = 0;
    for (int i = 0; i < arch->class_count && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "",
                               arch->class_names[i]);
    bw_text_mend(names);
    if (!arch->class_count)
        return bw_err_set_field(err, BW_ERANGE, "/class", "%s is unconditional: it has no classes",
                                arch->name);
    return bw_err_set_field(err, BW_ERANGE, "/class", "\"%s\" is not a class of %s: %s%s", name,
                            arch->name, names, at >= sizeof names ? "..." : "");
}

static int resolve_class(const struct bw_arch *arch, const struct bw_picture *picture, int *label,
                         struct bw_err *err)
{
    char number[16];
    *label = picture->class_index;
    if (*label == BW_CLASS_NONE)
        return BW_OK;
    if (*label == BW_CLASS_NAMED) {
        *label = bw_arch_class(arch, picture->class_name);
        return *label < 0 ? refuse_class(arch, picture->class_name, err) : BW_OK;
    }
    snprintf(number, sizeof number, "%d", *label);
    return *label >= arch->class_count ? refuse_class(arch, number, err) : BW_OK;
}

int bw_plan_make(struct bw_plan *plan, const struct bw_arch *arch, const struct bw_picture *picture,
                 int max_area, struct bw_err *err)
{
    const int scale = bw_arch_scale(arch), side = arch->image_size * scale;
    const int width = picture->width ? picture->width : side;
    const int height = picture->height ? picture->height : side;
    struct bw_plan out = {
        .width = width / scale,
        .height = height / scale,
        .steps = picture->steps,
        .solver = picture->solver,
        .guidance = picture->guidance,
        .seed = picture->seed,
        .index = picture->index,
    };
    int code = bw_arch_check_size(arch, width, height, max_area, err);
    if (!code)
        code = resolve_class(arch, picture, &out.label, err);
    if (!code)
        code = bw_schedule_make(arch, &picture->skip, out.steps, out.width, out.height, out.masks,
                                err);
    if (!code)
        *plan = out;
    return code;
}

struct bw_picture bw_plan_picture(const struct bw_plan *plan, const struct bw_arch *arch)
{
    struct bw_picture picture = {
        .class_index = plan->label < 0 ? BW_CLASS_NONE : BW_CLASS_NAMED,
        .width = plan->width * bw_arch_scale(arch),
        .height = plan->height * bw_arch_scale(arch),
        .steps = plan->steps,
        .solver = plan->solver,
        .guidance = plan->guidance,
        .seed = plan->seed,
        .index = plan->index,
        .skip = bw_schedule_describe(arch, plan->masks, plan->steps),
    };
    if (plan->label >= 0)
        strcpy(picture.class_name, arch->class_names[plan->label]);
    return picture;
}

int bw_plan_passes(const struct bw_plan *plan)
{
    return plan->label >= 0 && plan->guidance != 1 ? 2 : 1;
}

int bw_plan_stages(const struct bw_plan *plan, int step)
{
    return plan->solver == BW_HEUN && step + 1 < plan->steps ? 2 : 1;
}

static int calls_at(const struct bw_plan *plan, int step)
{
    return bw_plan_passes(plan) * bw_plan_stages(plan, step);
}

int bw_plan_evaluations(const struct bw_plan *plan)
{
    int sum = 0;
    for (int i = 0; i < plan->steps; i++)
        sum += calls_at(plan, i);
    return sum;
}

double bw_plan_flops(const struct bw_plan *plan, const struct bw_arch *arch)
{
    double sum = 0;
    for (int i = 0; i < plan->steps; i++)
        sum += calls_at(plan, i) * bw_cost_flops(arch, plan->width, plan->height, plan->masks[i]);
    return sum;
}
