/* Model files. An input that begins with '{' is a header alone: length and a body of zeros are put
 * around it, which keeps inputs small and every byte of them interesting. Anything else is a whole
 * file; of those the mutator mostly changes the header, and its length with it. */
#include "engine/cost.h"
#include "engine/denoiser.h"
#include "engine/plan.h"
#include "engine/sampler.h"
#include "tests/fuzz/tensors.h"
#include "tests/unit/random.h"

enum { MAX_BODY_BYTES = 100000 };

/* A model that loads can be asked for a picture, and makes it if that is quick. */
static void use(const struct bw_model *model)
{
    const struct bw_arch *arch = &model->arch;
    struct bw_picture picture = bw_picture_default();
    struct bw_plan plan, again;
    struct bw_denoiser *denoiser;
    struct bw_sampler sampler;
    struct bw_eval eval;
    const int side = arch->image_size * bw_arch_scale(arch), area = side * side;
    picture.steps = 2;
    picture.class_index = arch->class_count - 1;
    MUST(bw_plan_make(&plan, arch, &picture, area, NULL) == 0);
    picture = bw_plan_picture(&plan, arch);
    MUST(bw_plan_make(&again, arch, &picture, area, NULL) == 0);
    MUST(memcmp(plan.masks, again.masks, 2) == 0 && plan.width == again.width);
    MUST(bw_plan_flops(&plan, arch) > 0);
    if (bw_plan_flops(&plan, arch) > 1e8 || arch->hidden > 128)
        return;
    MUST(bw_denoiser_new(&denoiser, model, 1, NULL) == 0);
    MUST(bw_sampler_init(&sampler, arch, &plan, NULL, NULL) == 0);
    while (bw_sampler_want(&sampler, &eval)) {
        bw_denoise(denoiser, &eval, 1);
        bw_sampler_take(&sampler);
    }
    bw_sampler_release(&sampler);
    bw_denoiser_free(denoiser);
}

static void load(const uint8_t *bytes, size_t count)
{
    struct bw_safetensors st;
    struct bw_model *model;
    struct bw_err err = {0};
    if (bw_safetensors_parse(&st, bytes, count, &err)) {
        MUST(err.code == BW_ESYNTAX && *err.message);
        return;
    }
    if (bw_model_read(&model, &st, &bw_kernels_portable, &err)) {
        MUST(err.code == BW_ESYNTAX && *err.message);
    } else {
        use(model);
        bw_model_free(model);
    }
    bw_safetensors_release(&st);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    if (!count || bytes[0] != '{') {
        load(bytes, count);
        return 0;
    }
    size_t size;
    uint8_t *file = fuzz_file(bytes, count, MAX_BODY_BYTES, &size);
    load(file, size);
    free(file);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t room, unsigned seed)
{
    enum { SLACK = 64 };
    uint64_t length = 0, random = seed;
    if (count >= LENGTH_BYTES)
        memcpy(&length, bytes, LENGTH_BYTES);
    bool whole = count > LENGTH_BYTES && length < count - LENGTH_BYTES && bytes[0] != '{';
    if (!whole || random_int(&random, 0, 7) == 0 || count + SLACK > room)
        return LLVMFuzzerMutate(bytes, count, room);
    uint8_t *header = malloc(length + SLACK);
    MUST(header);
    memcpy(header, bytes + LENGTH_BYTES, length);
    size_t changed = LLVMFuzzerMutate(header, length, length + SLACK);
    uint8_t *body = bytes + LENGTH_BYTES + length;
    size_t body_bytes = count - LENGTH_BYTES - length;
    memmove(bytes + LENGTH_BYTES + changed, body, body_bytes);
    memcpy(bytes + LENGTH_BYTES, header, changed);
    fuzz_write_length(bytes, changed);
    free(header);
    return LENGTH_BYTES + changed + body_bytes;
}
