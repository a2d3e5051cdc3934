/* Store: the jobs there are, from their admission until they are forgotten.
 *
 * An index in memory holds every record. Without a directory it also holds the pictures, and
 * everything here happens at once. With one, records survive a restart: those that are over are
 * served again, the others are found as they were admitted, to be run again. There the pictures are
 * on the disk only: they stay in memory until they are written and are read when asked for.
 *
 * The disk never blocks the loop: writes and erasures go through its pool, one after the other in
 * the order they were asked for, reads beside them. So whoever asks gives a function that is called
 * when it is done: exactly once, unless the store was told to be quiet, and possibly before the
 * asking call returns.
 *
 * A record is found by the client it belongs to and its id. Pointers to records are good until the
 * next call that adds, finishes, removes or sweeps. Finished ones are forgotten when their time is
 * over or when there are too many, the oldest first; unfinished ones never.
 *
 * Thread: the loop's.
 */
#ifndef BW_SERVER_STORE_H
#define BW_SERVER_STORE_H

#include "server/loop.h"
#include "server/record.h"

struct bw_store;

struct bw_store_limits {
    int64_t keep_s; // how long a finished record is kept
    size_t bytes;   // of bodies, results and pictures together; the last to finish is kept anyway
    int records;    // at most, unfinished ones included
};

/* err->code is 0 if all is well. With BW_ECANCELLED, within the call that made the record go, it
 * must not call the store. */
typedef void bw_store_saved_fn(void *context, const struct bw_err *err);

/* A store in memory (directory NULL or "") or in a directory, which one process has to itself.
 * BW_EBUSY: another process has it; BW_EIO, BW_ENOMEM. `loop` may be NULL in memory. */
int bw_store_new(struct bw_store **store, struct bw_loop *loop, const char *directory,
                 const struct bw_store_limits *limits, struct bw_err *err);

/* From now on nobody is told any more what was saved; it is saved all the same, and pictures are
 * handed over. For the end: quiet, free what bw_store_saved_fn point to, free the loop (which ends
 * the work), free the store. */
void bw_store_quiet(struct bw_store *store);
void bw_store_free(struct bw_store *store);

/* NULL: there is none. A record is found from the moment it is added, also while it is saved. */
const struct bw_record *bw_store_find(const struct bw_store *store, const char *owner,
                                      const char *id);

/* Was there one that was removed or forgotten since the start? Remembers the last 1024. */
bool bw_store_was(const struct bw_store *store, const char *owner, const char *id);

struct bw_store_use {
    int open, over; // records
    size_t bytes;   // of bodies, results and pictures
};

struct bw_store_use bw_store_use(const struct bw_store *store);

/* Add an open record of which there is none yet; all is copied from `record`, whose id, owner,
 * fingerprint, created_s and body count. If it cannot be saved it is gone again before `saved` is
 * called with BW_EIO or BW_ENOMEM; if it is removed before that, with BW_ECANCELLED. On a failure
 * here `saved` is not called: BW_ERANGE (id, owner or fingerprint), BW_EBUSY (as many unfinished as
 * there may be), BW_ENOMEM. */
int bw_store_add(struct bw_store *store, const struct bw_record *record, bw_store_saved_fn *saved,
                 void *context, struct bw_err *err);

/* How a job ended. `result` and the bytes are from malloc(). */
struct bw_store_end {
    enum bw_job_end outcome; // not BW_JOB_OPEN
    int64_t finished_s;
    char *result;      // JSON
    int picture_count; // 1..BW_RECORD_PICTURES of BW_JOB_COMPLETED, otherwise 0
    struct {
        unsigned char *bytes;
        size_t size_bytes;      // 1..
        const char *media_type; // copied
    } pictures[BW_RECORD_PICTURES];
};

/* Enter it in a record, which points to the same result from now on. */
void bw_store_end_enter(const struct bw_store_end *end, struct bw_record *record);

/* Finish an open record whose addition is saved; takes over result and bytes, also on failure. It
 * is found as finished from now on. If it cannot be written (`saved` says so) it is kept in memory
 * with its pictures: a restart finds it unfinished. BW_ENOTFOUND: there is no such open record (and
 * `saved` is not called). */
int bw_store_finish(struct bw_store *store, const char *owner, const char *id,
                    const struct bw_store_end *end, bw_store_saved_fn *saved, void *context);

/* Forget a record, finished or not. False: there is none. */
bool bw_store_remove(struct bw_store *store, const char *owner, const char *id);

/* The clock was set, forwards or backwards: what is over finished as long ago as before. On the
 * disk it stays as it was, since only the clock tells what passes between two processes. */
void bw_store_shift(struct bw_store *store, int64_t by_s);

/* Forget what finished keep_s or longer ago. */
void bw_store_sweep(struct bw_store *store, int64_t now_s);

/* Call fn for every unfinished record, by age; fn may finish or remove it and add others. */
typedef void bw_store_each_fn(void *context, const struct bw_record *record);
void bw_store_each_unfinished(struct bw_store *store, bw_store_each_fn *fn, void *context);

/* `bytes` is released afterwards; whoever wants to keep it steals it. BW_ENOTFOUND (the record is
 * gone by now), BW_EIO (unreadable or damaged), BW_ENOMEM. */
typedef void bw_store_picture_fn(void *context, struct bw_buf *bytes, const struct bw_err *err);
void bw_store_picture(struct bw_store *store, const struct bw_record *record, int index,
                      bw_store_picture_fn *fn, void *context);

#endif
