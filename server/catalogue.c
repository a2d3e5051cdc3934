/* A scan is a value of its own: it begins with what is in service, is filled on any thread, and
 * only its end, on the loop's thread, changes the catalogue. What is in service cannot go away
 * meanwhile, because only the end of a scan takes anything out of it. */
#include "server/catalogue.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/companion.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX ".safetensors"

/* A decoder and how many models have it, counted on both threads: the loop's, where models end, and
 * a scan's, where they begin. */
struct bw_shared_decoder {
    struct bw_decoder *decoder;
    struct bw_model_file file;
    atomic_int users;
};

struct bw_catalogue {
    const struct bw_config *config;
    const struct bw_kernels *kernels;
    double measure_ms;
    struct bw_served *models[BW_MAX_MODELS]; // [count] in order of their files' names
    int count;
    struct scan *scan;    // of the rescan in progress
    struct bw_loop *loop; // the same; NULL: there is none
    bool again;           // one more was asked for meanwhile
};

/* A file that was found, and what is to become of it. */
struct entry {
    struct bw_model_file file;
    struct bw_served *known; // what is in service from that path, or NULL
    struct bw_served *made;  // what is to take its place, or NULL
};

struct scan {
    const struct bw_catalogue *catalogue;   // only what never changes, except at the end
    struct bw_served *known[BW_MAX_MODELS]; // [known_count] in service
    int known_count;
    struct bw_err err; // of the directory, or of the file that a start stands or falls with
    bool decisive;     // this is a start from one file
    int count;
    struct entry entries[BW_MAX_MODELS]; // [count] in order of their names
};

/* ---- files ---- */

/* Look at a file; `file` is untouched if that fails. */
static int look(struct bw_model_file *file, const char *path, struct bw_err *err)
{
    struct stat info;
    if (stat(path, &info))
        return bw_err_set(err, BW_EIO, "%.300s: %s", path, strerror(errno));
    file->device = info.st_dev;
    file->inode = info.st_ino;
    file->size_bytes = info.st_size;
    file->modified_ns = info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    snprintf(file->path, sizeof file->path, "%s", path);
    return BW_OK;
}

static bool is_same(const struct bw_model_file *a, const struct bw_model_file *b)
{
    return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes &&
           a->modified_ns == b->modified_ns && strcmp(a->path, b->path) == 0;
}

/* ---- decoders ---- */

static void let_go(struct bw_shared_decoder *shared)
{
    if (!shared || atomic_fetch_sub(&shared->users, 1) > 1)
        return;
    bw_decoder_free(shared->decoder);
    free(shared);
}

/* The decoder that a model has already from that very file, or NULL. */
static struct bw_shared_decoder *find_decoder(const struct scan *s,
                                              const struct bw_model_file *file)
{
    for (int i = 0; i < s->known_count + s->count; i++) {
        const struct bw_served *served =
            i < s->known_count ? s->known[i] : s->entries[i - s->known_count].made;
        if (served && served->shared && is_same(&served->shared->file, file))
            return served->shared;
    }
    return NULL;
}

static int load_decoder(struct bw_shared_decoder **out, const struct bw_arch *arch,
                        const struct bw_model_file *file, const struct bw_kernels *kernels,
                        struct bw_err *err)
{
    struct bw_shared_decoder *shared = calloc(1, sizeof *shared);
    if (!shared)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a decoder");
    shared->file = *file;
    int code = bw_companion_load(&shared->decoder, file->path, arch, kernels, err);
    if (code)
        free(shared);
    else
        *out = shared;
    return code;
}

/* The decoder of a model that names one: as others have it, else from its file. */
static int add_decoder(struct bw_served *served, const struct scan *s, struct bw_err *err)
{
    const struct bw_arch *arch = &served->model->arch;
    struct bw_model_file file = {0};
    char path[BW_PATH_CHARS];
    int code = bw_companion_path(path, served->file.path, arch, err);
    if (!code)
        code = look(&file, path, err);
    if (code)
        return code;
    struct bw_shared_decoder *shared = find_decoder(s, &file);
    if (!shared || strcmp(bw_decoder_digest(shared->decoder), arch->decoder_digest))
        code = load_decoder(&shared, arch, &file, s->catalogue->kernels, err);
    if (code)
        return code;
    atomic_fetch_add(&shared->users, 1);
    served->shared = shared;
    served->decoder = shared->decoder;
    return BW_OK;
}

/* ---- one model ---- */

static void free_served(struct bw_served *served)
{
    if (!served)
        return;
    for (int i = 0; i < served->workers; i++)
        bw_denoiser_free(served->denoisers[i]);
    bw_model_free(served->model);
    let_go(served->shared);
    free(served);
}

/* Can the service make pictures of it? */
static int check_model(const struct bw_model *model, const struct bw_config *config,
                       const char *path, struct bw_err *err)
{
    int side = model->arch.image_size * bw_arch_scale(&model->arch);
    int code = bw_companion_check(&model->arch, path, err);
    if (!code && (int64_t)side * side > config->max_area)
        code = bw_err_set(err, BW_ERANGE, "max-area %d does not hold the model's own %dx%d pixels",
                          config->max_area, side, side);
    return code;
}

/* Time it on the first worker's team. */
static int set_price(struct bw_served *s, double measure_ms, struct bw_err *err)
{
    int code = bw_price_measure(&s->price, &s->model->arch, s->denoisers[0], measure_ms, err);
    if (!code && s->decoder)
        code = bw_price_measure_decoder(&s->price, s->decoder, bw_denoiser_team(s->denoisers[0]),
                                        measure_ms, err);
    return code;
}

static int make_served(struct bw_served **out, const struct scan *scan,
                       const struct bw_model_file *file, struct bw_err *err)
{
    const struct bw_catalogue *c = scan->catalogue;
    int workers = c->config->workers;
    struct bw_served *s = calloc(1, sizeof *s + (size_t)workers * sizeof *s->denoisers);
    if (!s)
        return bw_err_set(err, BW_ENOMEM, "out of memory for a model");
    s->file = *file;
    s->workers = workers;
    int code = bw_model_load(&s->model, file->path, c->kernels, err);
    if (!code)
        code = check_model(s->model, c->config, file->path, err);
    if (!code && *s->model->arch.decoder)
        code = add_decoder(s, scan, err);
    for (int i = 0; !code && i < workers; i++)
        code = bw_denoiser_new(&s->denoisers[i], s->model, c->config->threads, err);
    if (!code)
        code = set_price(s, c->measure_ms, err);
    s->loaded_s = bw_unix_s();
    if (code)
        free_served(s);
    else
        *out = s;
    return code;
}

/* ---- log lines ---- */

static void log_model(const char *event, const struct bw_served *served)
{
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_INFO, event);
    bw_log_text(&line, "model", served->model->arch.name);
    bw_log_text(&line, "digest", served->model->digest);
    bw_log_text(&line, "path", served->file.path);
    if (served->shared)
        bw_log_text(&line, "decoder", served->shared->file.path);
    bw_log_end(&line);
}

static void log_reason(const char *event, const char *path, const char *reason)
{
    struct bw_log_line line;
    bw_log_begin(&line, BW_LOG_WARN, event);
    bw_log_text(&line, "path", path);
    bw_log_text(&line, "reason", reason);
    bw_log_end(&line);
}

/* ---- a scan ---- */

static void skip(struct scan *s, const char *path, const struct bw_err *err)
{
    if (s->decisive)
        s->err = *err;
    else
        log_reason("model-skipped", path, err->message);
}

static int is_model_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), suffix = strlen(SUFFIX);
    return *entry->d_name != '.' && length > suffix &&
           strcmp(entry->d_name + length - suffix, SUFFIX) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_entry(struct scan *s, const char *path)
{
    struct bw_err err = {0};
    struct bw_model_file file = {0};
    int code = BW_OK;
    if (strlen(path) >= BW_PATH_CHARS)
        code = bw_err_set(&err, BW_ERANGE, "its path is too long");
    else if (s->count == BW_MAX_MODELS)
        code = bw_err_set(&err, BW_ERANGE, "%d models are the most", BW_MAX_MODELS);
    else
        code = look(&file, path, &err);
    if (code) {
        skip(s, path, &err);
        return;
    }
    struct entry *e = &s->entries[s->count++];
    *e = (struct entry){.file = file};
    for (int i = 0; i < s->known_count; i++)
        e->known = strcmp(s->known[i]->file.path, path) ? e->known : s->known[i];
}

static void find_files(struct scan *s)
{
    const char *folder = s->catalogue->config->model;
    char path[BW_PATH_CHARS + 256];
    struct dirent **names;
    int count = scandir(folder, &names, is_model_name, by_name);
    if (count < 0 && errno == ENOTDIR) {
        add_entry(s, folder);
        return;
    }
    if (count < 0)
        bw_err_set(&s->err, BW_EIO, "%.300s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (!bw_companion_is_decoder(path))
            add_entry(s, path);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
}

static struct scan *new_scan(const struct bw_catalogue *c)
{
    struct scan *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->catalogue = c;
    s->known_count = c->count;
    memcpy(s->known, c->models, sizeof s->known);
    return s;
}

/* Is what is in service still what the files hold, the model's and its decoder's? */
static bool is_current(const struct bw_served *known, const struct bw_model_file *file)
{
    const struct bw_shared_decoder *shared = known->shared;
    struct bw_model_file decoder = {0};
    if (!is_same(&known->file, file))
        return false;
    return !shared ||
           (!look(&decoder, shared->file.path, NULL) && is_same(&shared->file, &decoder));
}

/* Find the files and load those that are new or changed. Any thread. */
static void run_scan(void *context)
{
    struct scan *s = context;
    find_files(s);
    for (int i = 0; i < s->count; i++) {
        struct entry *e = &s->entries[i];
        struct bw_err err = {0};
        if (e->known && is_current(e->known, &e->file))
            continue;
        if (make_served(&e->made, s, &e->file, &err))
            skip(s, e->file.path, &err);
    }
}

static struct bw_served *outcome(const struct entry *e)
{
    return e->made ? e->made : e->known;
}

/* Does a new model have the name of one that stays, or of a new one before it? Returns that. */
static const struct bw_served *namesake(const struct scan *s, int i)
{
    const char *name = s->entries[i].made->model->arch.name;
    for (int j = 0; j < s->count; j++) {
        const struct bw_served *other = outcome(&s->entries[j]);
        if (j != i && other && (!s->entries[j].made || j < i) &&
            strcmp(other->model->arch.name, name) == 0)
            return other;
    }
    return NULL;
}

/* Names are unique among what is in service, so among what stays; new ones give way. One that does
 * may leave its predecessor in the way of others, so they are looked at again. */
static void settle_names(struct scan *s)
{
    for (int i = 0; i < s->count;) {
        struct entry *e = &s->entries[i++];
        const struct bw_served *other = e->made ? namesake(s, i - 1) : NULL;
        if (!other)
            continue;
        struct bw_err err = {0};
        bw_err_set(&err, BW_ERANGE, "the name \"%s\" is taken by %.200s", other->model->arch.name,
                   other->file.path);
        skip(s, e->file.path, &err);
        free_served(e->made);
        e->made = NULL;
        i = 0;
    }
}

static void retire(struct bw_served *served)
{
    log_model("model-retired", served);
    served->retired = true;
    served->users++;
    bw_catalogue_release(served);
}

/* Put in service what the scan found; false, and nothing is changed, if that is nothing. */
static bool publish(struct bw_catalogue *c, struct scan *s)
{
    struct bw_served *models[BW_MAX_MODELS];
    int count = 0;
    settle_names(s);
    for (int i = 0; i < s->count; i++) {
        if (outcome(&s->entries[i]))
            models[count++] = outcome(&s->entries[i]);
    }
    if (!count)
        return false;
    memcpy(c->models, models, (size_t)count * sizeof *models);
    c->count = count;
    for (int i = 0; i < s->count; i++) {
        if (s->entries[i].made && !s->decisive)
            log_model("model-loaded", s->entries[i].made);
    }
    for (int i = 0; i < s->known_count; i++) {
        bool stays = false;
        for (int j = 0; j < count; j++)
            stays = stays || models[j] == s->known[i];
        if (!stays)
            retire(s->known[i]);
    }
    return true;
}

/* ---- the catalogue ---- */

int bw_catalogue_new(struct bw_catalogue **out, const struct bw_config *config, double measure_ms,
                     struct bw_err *err)
{
    struct stat info;
    struct bw_catalogue *c = calloc(1, sizeof *c);
    struct scan *s = c ? new_scan(c) : NULL;
    int code = s ? BW_OK : bw_err_set(err, BW_ENOMEM, "out of memory");
    if (!code) {
        c->config = config;
        c->measure_ms = measure_ms;
        s->decisive = stat(config->model, &info) || !S_ISDIR(info.st_mode);
        code = bw_kernels_choose((enum bw_precision)config->precision, &c->kernels, err);
    }
    if (!code) {
        run_scan(s);
        if (!publish(c, s))
            code = s->err.code ? bw_err_set(err, s->err.code, "%s", s->err.message)
                               : bw_err_set(err, BW_ENOTFOUND,
                                            "%.300s: no *" SUFFIX " file in it can be served",
                                            config->model);
    }
    free(s);
    if (code)
        bw_catalogue_free(c);
    else
        *out = c;
    return code;
}

void bw_catalogue_free(struct bw_catalogue *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        assert(!c->models[i]->users);
        free_served(c->models[i]);
    }
    free(c);
}

static void end_rescan(void *context)
{
    struct bw_catalogue *c = context;
    struct bw_loop *loop = c->loop;
    struct scan *s = c->scan;
    struct bw_log_line line;
    c->loop = NULL;
    if (s->err.code || !publish(c, s))
        log_reason("rescan-failed", c->config->model,
                   s->err.code ? s->err.message : "no model in it can be served");
    free(s);
    bw_log_begin(&line, BW_LOG_INFO, "rescanned");
    bw_log_int(&line, "models", c->count);
    bw_log_text(&line, "default", c->models[0]->model->arch.name);
    bw_log_end(&line);
    if (c->again)
        bw_catalogue_rescan(c, loop);
}

static void work_on_scan(void *context)
{
    const struct bw_catalogue *c = context;
    run_scan(c->scan);
}

void bw_catalogue_rescan(struct bw_catalogue *c, struct bw_loop *loop)
{
    c->again = c->loop != NULL;
    if (c->again)
        return;
    c->scan = new_scan(c);
    if (!c->scan || bw_loop_work(loop, work_on_scan, end_rescan, c)) {
        free(c->scan);
        log_reason("rescan-failed", c->config->model, "out of memory");
        return;
    }
    c->loop = loop;
}

int bw_catalogue_count(const struct bw_catalogue *c)
{
    return c->count;
}

struct bw_served *bw_catalogue_at(const struct bw_catalogue *c, int i)
{
    return c->models[i];
}

struct bw_served *bw_catalogue_find(const struct bw_catalogue *c, const char *name)
{
    for (int i = 0; i < c->count; i++) {
        if (!*name || strcmp(c->models[i]->model->arch.name, name) == 0)
            return c->models[i];
    }
    return NULL;
}

void bw_catalogue_retain(struct bw_served *served)
{
    served->users++;
}

void bw_catalogue_release(struct bw_served *served)
{
    if (--served->users == 0 && served->retired)
        free_served(served);
}
