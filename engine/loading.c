/* A tensor is read in parts that stay in the second-level cache, because a mapped page costs more
 * than its copy. */
#include "engine/loading.h"

#include "engine/team.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MOST_LOADERS = 4, // threads; each has `most_floats` for itself
    PART_BYTES = 1 << 16,
};

struct loading {
    const struct bw_safetensors *st;
    bw_loading_fn *convert;
    void *context;
    size_t most_floats;
    float *floats;                   // [threads, most_floats]
    struct bw_loading_fault *faults; // [count]
    char *digest;
    atomic_bool unread; // the file broke off
};

static void describe_shape(char text[96], int dims, const int64_t *shape)
{
    int at = snprintf(text, 96, "[");
    for (int i = 0; i < dims && at < 90; i++)
        at += snprintf(text + at, 96 - (size_t)at, "%s%lld", i ? "," : "", (long long)shape[i]);
    snprintf(text + (at < 94 ? at : 94), 2, "]");
}

int bw_loading_refuse_shape(const struct bw_tensor *t, int dims, const int64_t *wanted,
                            const char *who, struct bw_err *err)
{
    char has[96], wants[96];
    describe_shape(has, t->dims, t->shape);
    describe_shape(wants, dims, wanted);
    return bw_err_set(err, BW_ESYNTAX, "tensor \"%s\": shape is %s, the %s wants %s", t->name, has,
                      who, wants);
}

static void look_for_fault(const struct bw_tensor *tensor, const float *x,
                           struct bw_loading_fault *fault)
{
    bool finite = true;
    for (size_t i = 0; i < tensor->count; i++) // all: a loop without an end in the middle is fast
        finite &= fabsf(x[i]) <= FLT_MAX;
    if (finite || fault->tensor)
        return;
    fault->tensor = tensor;
    while (isfinite(x[fault->element]))
        fault->element++;
}

bool bw_loading_floats(const struct bw_safetensors *st, const struct bw_tensor *from, float *out,
                       struct bw_loading_fault *fault)
{
    unsigned char bytes[PART_BYTES];
    size_t width = from->count ? from->size_bytes / from->count : 1, most = PART_BYTES / width;
    size_t first = (size_t)(from->bytes - st->file);
    for (size_t at = 0; at < from->count; at += most) {
        struct bw_tensor part = *from;
        part.bytes = bytes;
        part.count = from->count - at < most ? from->count - at : most;
        if (!bw_safetensors_read(st, first + at * width, part.count * width, bytes))
            return false;
        bw_tensor_to_float(&part, 0, part.count, out + at);
    }
    look_for_fault(from, out, fault);
    return true;
}

static bool read_part(void *st, size_t at, size_t count, void *out)
{
    return bw_safetensors_read(st, at, count, out);
}

static void run_task(void *context, int task, int member)
{
    struct loading *l = context;
    bool ok = task == 0
                  ? bw_digest_in_parts(l->st->file_bytes, read_part, (void *)l->st, l->digest)
                  : l->convert(l->context, task - 1, l->floats + (size_t)member * l->most_floats,
                               &l->faults[task - 1]);
    if (!ok)
        atomic_store(&l->unread, true);
}

/* Fewer threads will do if the system refuses them. */
static int new_team(struct bw_team **team, struct bw_err *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = cores < 1 ? 1 : cores < MOST_LOADERS ? (int)cores : MOST_LOADERS;
    return bw_team_new(team, threads, NULL) ? bw_team_new(team, 1, err) : BW_OK;
}

int bw_loading_run(const struct bw_safetensors *st, int count, size_t most_floats,
                   bw_loading_fn *convert, void *context, char digest[BW_DIGEST_CHARS],
                   struct bw_err *err)
{
    struct loading l = {.st = st,
                        .convert = convert,
                        .context = context,
                        .most_floats = most_floats,
                        .digest = digest};
    struct bw_team *team;
    int code = new_team(&team, err);
    if (code)
        return code;
    l.floats = malloc(((size_t)bw_team_threads(team) * most_floats + 1) * sizeof *l.floats);
    l.faults = calloc((size_t)count + 1, sizeof *l.faults);
    if (l.floats && l.faults)
        bw_team_run(team, run_task, &l, 1 + count);
    else
        code = bw_err_set(err, BW_ENOMEM, "out of memory for a tensor");
    if (l.unread)
        code = bw_err_set(err, BW_EIO, "the file cannot be read to its end");
    for (int i = 0; !code && i < count; i++) {
        if (l.faults[i].tensor)
            code = bw_err_set(err, BW_ESYNTAX, "tensor \"%s\": element %zu is not finite",
                              l.faults[i].tensor->name, l.faults[i].element);
    }
    bw_team_free(team);
    free(l.floats);
    free(l.faults);
    return code;
}
