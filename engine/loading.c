/* A tensor is read in parts that stay in the second-level cache, because a mapped page costs more
 * than its copy. */
#include "engine/loading.h"

#include "engine/team.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
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
    float *floats; // [threads, most_floats]
    char *digest;
    atomic_bool unread; // the file broke off
};

bool bw_loading_floats(const struct bw_safetensors *st, const struct bw_tensor *from, float *out)
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
    return true;
}

size_t bw_loading_bad(const float *x, size_t count)
{
    bool finite = true;
    for (size_t i = 0; i < count; i++) // all: a loop without an end in the middle is fast
        finite &= fabsf(x[i]) <= FLT_MAX;
    size_t bad = finite ? count : 0;
    while (bad < count && isfinite(x[bad]))
        bad++;
    return bad;
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
                  : l->convert(l->context, task - 1, l->floats + (size_t)member * l->most_floats);
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
    struct loading l = {st, convert, context, most_floats, NULL, digest, false};
    struct bw_team *team;
    int code = new_team(&team, err);
    if (code)
        return code;
    l.floats = malloc(((size_t)bw_team_threads(team) * most_floats + 1) * sizeof *l.floats);
    if (l.floats)
        bw_team_run(team, run_task, &l, 1 + count);
    else
        code = bw_err_set(err, BW_ENOMEM, "out of memory for a tensor");
    bw_team_free(team);
    free(l.floats);
    return l.unread ? bw_err_set(err, BW_EIO, "the file cannot be read to its end") : code;
}
