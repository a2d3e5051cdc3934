/* Entries are in a hash table by key and in one of two lists by age, those that are open and those
 * that are over. With a directory, an entry whose file is not as it should be stands in a queue;
 * the first of the queue is `current` while a thread of the pool writes or erases it, and is not
 * changed meanwhile. An entry that was removed leaves table and list at once, and goes through the
 * queue once more to have its file erased, behind which another of the same key may already wait.
 */
#include "server/store.h"

#include "base/log.h"
#include "engine/digest.h"
#include "server/record_dir.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

enum { BUCKETS = 4096, TOMBSTONES = 1024 };

struct entry {
    struct bw_record record; // first: a pointer to it is one to the entry
    char key[BW_SHA256_CHARS];
    unsigned char *bytes[BW_RECORD_PICTURES]; // NULL: on the disk
    size_t size_bytes;
    bool gone, queued;
    bw_store_saved_fn *saved; // NULL: nobody waits
    void *context;
    struct entry *in_bucket;
    TAILQ_ENTRY(entry) in_list, in_queue;
};

TAILQ_HEAD(entries, entry);

struct bw_store {
    struct bw_loop *loop;
    struct bw_store_limits limits;
    int dir, lock; // -1: in memory
    bool is_quiet;
    int count;
    size_t bytes;
    struct entry *buckets[BUCKETS];
    struct entries open, over; // by created_s, by the time they finished

    struct entries queue;
    struct entry *current;
    bool erasing;           // what is done with the current one
    int64_t late_s;         // that its end is to be shifted by
    size_t header_bytes;    // of the current one, once written
    struct bw_err disk_err; // of the current one

    char tombs[TOMBSTONES][BW_SHA256_CHARS]; // a ring of keys
    int next_tomb;
};

/* ---- the index ---- */

static struct entry **bucket_of(const struct bw_store *store, const char *key)
{
    size_t number = strtoul((char[]){key[0], key[1], key[2], '\0'}, NULL, 16);
    return (struct entry **)&store->buckets[number % BUCKETS];
}

static struct entry *find(const struct bw_store *store, const char *owner, const char *id)
{
    char key[BW_SHA256_CHARS];
    bw_record_key(owner, id, key);
    struct entry *e = *bucket_of(store, key);
    while (e && strcmp(e->key, key))
        e = e->in_bucket;
    return e;
}

static struct entries *list_of(struct bw_store *store, const struct entry *e)
{
    return e->record.outcome == BW_JOB_OPEN ? &store->open : &store->over;
}

static size_t size_of(const struct bw_record *record)
{
    size_t size = strlen(record->body) + (record->result ? strlen(record->result) : 0);
    for (int i = 0; i < record->picture_count; i++)
        size += record->pictures[i].size_bytes;
    return size;
}

static void insert(struct bw_store *store, struct entry *e)
{
    struct entry **bucket = bucket_of(store, e->key);
    e->in_bucket = *bucket;
    *bucket = e;
    e->size_bytes = size_of(&e->record);
    store->bytes += e->size_bytes;
    store->count++;
    TAILQ_INSERT_TAIL(list_of(store, e), e, in_list);
}

static void detach(struct bw_store *store, struct entry *e)
{
    struct entry **link = bucket_of(store, e->key);
    while (*link != e)
        link = &(*link)->in_bucket;
    *link = e->in_bucket;
    store->bytes -= e->size_bytes;
    store->count--;
    TAILQ_REMOVE(list_of(store, e), e, in_list);
    assert(TAILQ_FIRST(list_of(store, e)) != e);
}

static void free_bytes(struct entry *e)
{
    for (int i = 0; i < BW_RECORD_PICTURES; i++) {
        free(e->bytes[i]);
        e->bytes[i] = NULL;
    }
}

static void free_entry(struct entry *e)
{
    free_bytes(e);
    bw_record_release(&e->record);
    free(e);
}

/* ---- the disk ---- */

static void answer(const struct bw_store *store, struct entry *e, const struct bw_err *err)
{
    bw_store_saved_fn *saved = e->saved;
    e->saved = NULL;
    if (saved && !store->is_quiet)
        saved(e->context, err);
}

static void enqueue(struct bw_store *store, struct entry *e)
{
    if (!e->queued)
        TAILQ_INSERT_TAIL(&store->queue, e, in_queue);
    e->queued = true;
}

/* Leave the index, for good. */
static void drop(struct bw_store *store, struct entry *e)
{
    static const struct bw_err removed = {BW_ECANCELLED, "", "the job was removed"};
    detach(store, e);
    e->gone = true;
    if (store->dir >= 0 && e != store->current)
        enqueue(store, e);
    answer(store, e, &removed);
    if (store->dir < 0)
        free_entry(e);
}

/* On a thread of the pool. */
static void work(void *context)
{
    struct bw_store *store = context;
    const struct entry *e = store->current;
    if (store->erasing)
        bw_record_dir_erase(store->dir, e->key, &store->disk_err);
    else
        bw_record_dir_write(store->dir, e->key, &e->record, e->bytes, &store->header_bytes,
                            &store->disk_err);
}

static void settle(struct bw_store *store)
{
    struct entry *e = store->current;
    struct bw_err err = store->disk_err;
    e->record.finished_s += store->late_s;
    store->late_s = 0;
    store->current = NULL;
    if (store->erasing) {
        if (err.code)
            bw_log_message(BW_LOG_ERROR, "job-not-erased", err.message);
        free_entry(e);
    } else if (e->gone) { // removed while it was written: before another takes its file
        TAILQ_INSERT_HEAD(&store->queue, e, in_queue);
        e->queued = true;
    } else if (!err.code) {
        bw_record_place(&e->record, store->header_bytes);
        free_bytes(e);
        answer(store, e, &err);
    } else if (e->record.outcome == BW_JOB_OPEN) {
        bw_store_saved_fn *saved = e->saved;
        void *context = e->context;
        e->saved = NULL;
        drop(store, e); // erases what little may be there
        if (saved && !store->is_quiet)
            saved(context, &err);
    } else {
        answer(store, e, &err); // its bytes stay in memory
    }
}

static void pump(struct bw_store *store);

static void done(void *context)
{
    struct bw_store *store = context;
    settle(store);
    pump(store);
}

/* Give the next of the queue to the pool; without memory for that, do it here. */
static void pump(struct bw_store *store)
{
    struct entry *e;
    while (!store->current && (e = TAILQ_FIRST(&store->queue))) {
        TAILQ_REMOVE(&store->queue, e, in_queue);
        e->queued = false;
        store->current = e;
        store->erasing = e->gone;
        store->disk_err = (struct bw_err){0};
        if (bw_loop_work(store->loop, work, done, store)) {
            work(store);
            settle(store);
        }
    }
}

/* The entry is to be as it is now on the disk as well. */
static void save(struct bw_store *store, struct entry *e, bw_store_saved_fn *saved, void *context)
{
    e->saved = saved;
    e->context = context;
    if (store->dir < 0) {
        answer(store, e, &(struct bw_err){0});
    } else {
        enqueue(store, e);
        pump(store);
    }
}

/* ---- forgetting ---- */

static void forget(struct bw_store *store, struct entry *e)
{
    memcpy(store->tombs[store->next_tomb], e->key, BW_SHA256_CHARS);
    store->next_tomb = (store->next_tomb + 1) % TOMBSTONES;
    drop(store, e);
}

static void shrink(struct bw_store *store)
{
    struct entry *oldest;
    while ((oldest = TAILQ_FIRST(&store->over)) &&
           (store->count > store->limits.records ||
            (store->bytes > store->limits.bytes && TAILQ_NEXT(oldest, in_list))))
        forget(store, oldest);
}

bool bw_store_remove(struct bw_store *store, const char *owner, const char *id)
{
    struct entry *e = find(store, owner, id);
    if (!e)
        return false;
    forget(store, e);
    pump(store);
    return true;
}

void bw_store_sweep(struct bw_store *store, int64_t now_s)
{
    struct entry *next;
    for (struct entry *e = TAILQ_FIRST(&store->over); e; e = next) {
        next = TAILQ_NEXT(e, in_list);
        if (now_s - e->record.finished_s >= store->limits.keep_s)
            forget(store, e);
    }
    pump(store);
}

void bw_store_shift(struct bw_store *store, int64_t by_s)
{
    struct entry *e;
    TAILQ_FOREACH(e, &store->over, in_list)
        *(e == store->current ? &store->late_s : &e->record.finished_s) += by_s;
}

bool bw_store_was(const struct bw_store *store, const char *owner, const char *id)
{
    char key[BW_SHA256_CHARS];
    bw_record_key(owner, id, key);
    for (int i = 0; i < TOMBSTONES; i++) {
        if (strcmp(store->tombs[i], key) == 0)
            return true;
    }
    return false;
}

struct bw_store_use bw_store_use(const struct bw_store *store)
{
    struct bw_store_use use = {.bytes = store->bytes};
    const struct entry *e;
    TAILQ_FOREACH(e, &store->open, in_list)
        use.open++;
    use.over = store->count - use.open;
    return use;
}

/* ---- from admission to end ---- */

const struct bw_record *bw_store_find(const struct bw_store *store, const char *owner,
                                      const char *id)
{
    struct entry *e = find(store, owner, id);
    return e ? &e->record : NULL;
}

int bw_store_add(struct bw_store *store, const struct bw_record *record, bw_store_saved_fn *saved,
                 void *context, struct bw_err *err)
{
    if (!bw_record_id_ok(record->id) || !bw_record_owner_ok(record->owner) ||
        !bw_record_fingerprint_ok(record->fingerprint))
        return bw_err_set(err, BW_ERANGE, "not an id, owner and fingerprint of a job");
    assert(!find(store, record->owner, record->id));
    if (store->count >= store->limits.records && TAILQ_EMPTY(&store->over))
        return bw_err_set(err, BW_EBUSY, "%d jobs are unfinished", store->count);
    struct entry *e = calloc(1, sizeof *e);
    char *body = strdup(record->body);
    if (!e || !body) {
        free(e);
        free(body);
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    }
    e->record = (struct bw_record){.created_s = record->created_s, .body = body};
    strcpy(e->record.id, record->id);
    strcpy(e->record.owner, record->owner);
    strcpy(e->record.fingerprint, record->fingerprint);
    bw_record_key(record->owner, record->id, e->key);
    insert(store, e);
    shrink(store);
    save(store, e, saved, context);
    return BW_OK;
}

void bw_store_end_enter(const struct bw_store_end *end, struct bw_record *r)
{
    r->outcome = end->outcome;
    r->finished_s = end->finished_s;
    r->result = end->result;
    r->picture_count = end->picture_count;
    for (int i = 0; i < end->picture_count; i++) {
        struct bw_record_picture *p = &r->pictures[i];
        p->size_bytes = end->pictures[i].size_bytes;
        snprintf(p->media_type, sizeof p->media_type, "%s", end->pictures[i].media_type);
        bw_digest(end->pictures[i].bytes, p->size_bytes, p->etag);
    }
}

static void take_end(struct entry *e, const struct bw_store_end *end)
{
    bw_store_end_enter(end, &e->record);
    for (int i = 0; i < end->picture_count; i++)
        e->bytes[i] = end->pictures[i].bytes;
}

int bw_store_finish(struct bw_store *store, const char *owner, const char *id,
                    const struct bw_store_end *end, bw_store_saved_fn *saved, void *context)
{
    struct entry *e = find(store, owner, id);
    assert(end->outcome != BW_JOB_OPEN &&
           (end->picture_count > 0) == (end->outcome == BW_JOB_COMPLETED));
    if (!e || e->record.outcome != BW_JOB_OPEN) {
        for (int i = 0; i < end->picture_count; i++)
            free(end->pictures[i].bytes);
        free(end->result);
        return BW_ENOTFOUND;
    }
    assert(!e->saved && !e->queued && e != store->current);
    detach(store, e);
    take_end(e, end);
    insert(store, e);
    shrink(store);
    save(store, e, saved, context);
    return BW_OK;
}

void bw_store_each_unfinished(struct bw_store *store, bw_store_each_fn *fn, void *context)
{
    struct entry *next;
    for (struct entry *e = TAILQ_FIRST(&store->open); e; e = next) {
        next = TAILQ_NEXT(e, in_list);
        fn(context, &e->record);
    }
}

/* ---- pictures ---- */

struct reading {
    const struct bw_store *store;
    char key[BW_SHA256_CHARS];
    struct bw_record_picture picture;
    bw_store_picture_fn *fn;
    void *context;
    struct bw_buf bytes;
    struct bw_err err;
};

static void read_picture(void *context)
{
    struct reading *r = context;
    bw_record_dir_picture(r->store->dir, r->key, &r->picture, &r->bytes, &r->err);
}

static void hand_over(void *context)
{
    struct reading *r = context;
    r->fn(r->context, &r->bytes, &r->err);
    bw_buf_release(&r->bytes);
    free(r);
}

void bw_store_picture(struct bw_store *store, const struct bw_record *record, int index,
                      bw_store_picture_fn *fn, void *context)
{
    const struct entry *e = (const struct entry *)record;
    struct reading *r = calloc(1, sizeof *r);
    if (!r) {
        struct bw_buf none = {0};
        fn(context, &none, &(struct bw_err){.code = BW_ENOMEM, .message = "out of memory"});
        return;
    }
    *r = (struct reading){
        .store = store, .picture = record->pictures[index], .fn = fn, .context = context};
    strcpy(r->key, e->key);
    if (e->bytes[index]) {
        bw_buf_add(&r->bytes, e->bytes[index], r->picture.size_bytes);
        if (r->bytes.failed)
            bw_err_set(&r->err, BW_ENOMEM, "out of memory");
        hand_over(r);
    } else if (bw_loop_work(store->loop, read_picture, hand_over, r)) {
        bw_err_set(&r->err, BW_ENOMEM, "out of memory");
        hand_over(r);
    }
}

/* ---- start and end ---- */

struct loaded {
    struct entry **entries; // [count]
    size_t count, room;
};

static int note_loaded(void *context, const char *key, struct bw_record *record)
{
    struct loaded *l = context;
    struct entry *e = calloc(1, sizeof *e);
    if (e && l->count == l->room) {
        size_t room = l->room * 2 + 64;
        struct entry **grown = realloc(l->entries, room * sizeof(struct entry *));
        if (grown) {
            l->entries = grown;
            l->room = room;
        }
    }
    if (!e || l->count == l->room) {
        free(e);
        bw_record_release(record);
        return BW_ENOMEM;
    }
    e->record = *record;
    strcpy(e->key, key);
    l->entries[l->count++] = e;
    return BW_OK;
}

static int by_age(const void *a, const void *b)
{
    const struct bw_record *x = &(*(struct entry *const *)a)->record;
    const struct bw_record *y = &(*(struct entry *const *)b)->record;
    int64_t x_s = x->outcome == BW_JOB_OPEN ? x->created_s : x->finished_s;
    int64_t y_s = y->outcome == BW_JOB_OPEN ? y->created_s : y->finished_s;
    return x_s != y_s ? (x_s > y_s) - (x_s < y_s) : strcmp(x->id, y->id);
}

static int load(struct bw_store *store, struct bw_err *err)
{
    struct loaded loaded = {0};
    int code = bw_record_dir_load(store->dir, note_loaded, &loaded, err);
    if (loaded.count)
        qsort(loaded.entries, loaded.count, sizeof(struct entry *), by_age);
    for (size_t i = 0; i < loaded.count; i++)
        insert(store, loaded.entries[i]);
    free(loaded.entries);
    if (!code) {
        shrink(store);
        pump(store);
    }
    return code;
}

int bw_store_new(struct bw_store **out, struct bw_loop *loop, const char *directory,
                 const struct bw_store_limits *limits, struct bw_err *err)
{
    struct bw_store *store = calloc(1, sizeof *store);
    if (!store)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    store->loop = loop;
    store->limits = *limits;
    store->dir = store->lock = -1;
    TAILQ_INIT(&store->open);
    TAILQ_INIT(&store->over);
    TAILQ_INIT(&store->queue);
    int code = BW_OK;
    if (directory && *directory) {
        code = bw_record_dir_open(directory, &store->dir, &store->lock, err);
        if (!code)
            code = load(store, err);
    }
    if (code)
        bw_store_free(store);
    else
        *out = store;
    return code;
}

void bw_store_quiet(struct bw_store *store)
{
    if (store)
        store->is_quiet = true;
}

static void free_list(struct entries *list)
{
    struct entry *next;
    for (struct entry *e = TAILQ_FIRST(list); e; e = next) {
        next = TAILQ_NEXT(e, in_list);
        free_entry(e);
    }
}

void bw_store_free(struct bw_store *store)
{
    if (!store)
        return;
    assert(!store->current && TAILQ_EMPTY(&store->queue));
    free_list(&store->open);
    free_list(&store->over);
    if (store->dir >= 0) {
        close(store->dir);
        close(store->lock);
    }
    free(store);
}
