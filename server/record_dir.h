/* Record directory: records as files of one directory, one file each.
 *
 * A file has its final name only when all of it is on the disk: it is written as "incoming", synced
 * and renamed over what was there. Its name is made of the record's key, which is a digest, so any
 * id is safe. Everything here blocks. Thread: writes and erasures by one thread at a time, reads of
 * pictures by any.
 */
#ifndef BW_SERVER_RECORD_DIR_H
#define BW_SERVER_RECORD_DIR_H

#include "server/record.h"

/* SHA-256 of owner and id, by which records are told apart. */
void bw_record_key(const char *owner, const char *id, char key[BW_SHA256_CHARS]);

/* Open the directory, made if only its last part is missing, and lock it until *lock is closed. The
 * caller closes both. BW_EBUSY: another process has it; BW_EIO. */
int bw_record_dir_open(const char *path, int *dir, int *lock, struct bw_err *err);

/* Write a record with the bytes of its pictures; *header_bytes is the size of its header. BW_EIO
 * (what was there before is still there, or the record is already), BW_ENOMEM. */
int bw_record_dir_write(int dir, const char *key, const struct bw_record *record,
                        unsigned char *const *pictures, size_t *header_bytes, struct bw_err *err);

/* Forget a record; it is no failure if there is none. Not synced: if the machine breaks down, not
 * only the process, it may come back. BW_EIO. */
int bw_record_dir_erase(int dir, const char *key, struct bw_err *err);

/* Append a picture's bytes. BW_ENOTFOUND: its record is gone; BW_EIO: it cannot be read or is not
 * what was written; BW_ENOMEM. */
int bw_record_dir_picture(int dir, const char *key, const struct bw_record_picture *picture,
                          struct bw_buf *out, struct bw_err *err);

/* Takes the record over; 0, or an error that ends the loading. */
typedef int bw_record_dir_fn(void *context, const char *key, struct bw_record *record);

/* Hand over every record there is, without bytes of pictures. What cannot be read as one is renamed
 * to NAME.broken and logged. BW_EIO, BW_ENOMEM. */
int bw_record_dir_load(int dir, bw_record_dir_fn *fn, void *context, struct bw_err *err);

#endif
