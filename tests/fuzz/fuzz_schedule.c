/* The grammar of schedules, from a body's text to masks: what an arrangement cannot do is refused
 * at the field, what it can leaves a brick to run at every step, and the effective request, sent
 * back as text, asks for the same masks. */
#include "api/request.h"
#include "api/response.h"
#include "engine/plan.h"
#include "engine/schedule.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_AREA = 1 << 16 };

/* Small tiles first, large ones first, both; the first knows what its subsets lose. */
static struct bw_arch arrangements[] = {
    {.brick_count = 3, .bricks = {{8, 2, 1}, {16, 2, 1}, {32, 4, 2}}},
    {.brick_count = 2, .bricks = {{32, 4, 2}, {8, 2, 1}}},
    {.brick_count = 3, .bricks = {{8, 2, 1}, {32, 4, 2}, {8, 2, 1}}},
};

static void describe(void)
{
    static char names[][BW_NAME_CHARS] = {"apples", "cherries"};
    for (int i = 0; i < 3; i++) {
        struct bw_arch *a = &arrangements[i];
        strcpy(a->name, "model");
        a->image_size = 32;
        a->min_size = 16;
        a->channels = 3;
        a->class_count = 2;
        a->class_names = names;
        a->hidden = 64;
        a->heads = 1;
        a->mlp_ratio = 4;
        a->sigma_data = 0.5;
    }
    struct bw_loss_table *table = &arrangements[0].skip_loss;
    table->sigma_count = 3;
    for (int i = 0; i < 3; i++) {
        table->sigma[i] = (double[]){0.002, 1, 80}[i];
        for (int mask = 1; mask < 8; mask++) // a brick is worth more where there is more noise
            table->loss[i][mask] = 1 + 0.01f * (float)(i + 1) * (float)(7 - mask);
    }
}

static void check_again(const struct bw_request *request, const struct bw_plan *plan,
                        const struct bw_arch *arch)
{
    static struct bw_request effective, read;
    static struct bw_plan again;
    effective = *request;
    effective.picture = bw_plan_picture(plan, arch);
    strcpy(effective.model, arch->name);
    effective.format = BW_FORMAT_PNG;
    char *text = bw_request_render(&effective);
    MUST(text && bw_request_parse(&read, text, strlen(text), NULL) == BW_OK);
    MUST(bw_plan_make(&again, arch, &read.picture, MAX_AREA, NULL) == BW_OK);
    MUST(again.steps == plan->steps && again.label == plan->label && again.seed == plan->seed);
    MUST(again.width == plan->width && again.height == plan->height);
    MUST(memcmp(again.masks, plan->masks, (size_t)plan->steps) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    static struct bw_request request;
    static struct bw_plan plan;
    if (!*arrangements[0].name)
        describe();
    if (bw_request_parse(&request, (const char *)bytes, count, NULL))
        return 0;
    for (int i = 0; i < 3; i++) {
        const struct bw_arch *arch = &arrangements[i];
        struct bw_err err = {0};
        if (bw_plan_make(&plan, arch, &request.picture, MAX_AREA, &err)) {
            MUST(err.code == BW_ERANGE && *err.message);
            MUST(strcmp(err.field, "/size") == 0 || strcmp(err.field, "/class") == 0 ||
                 strncmp(err.field, "/skip", 5) == 0);
            continue;
        }
        for (int step = 0; step < plan.steps; step++)
            MUST(plan.masks[step] && !(plan.masks[step] & ~bw_arch_full_mask(arch)));
        MUST(bw_schedule_excess(arch, plan.masks, plan.steps) >= 0);
        check_again(&request, &plan, arch);
    }
    return 0;
}
