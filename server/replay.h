/* Replay: answers from jobs that are over and stored. Thread: the loop's. */
#ifndef BW_SERVER_REPLAY_H
#define BW_SERVER_REPLAY_H

#include "server/order.h"
#include "server/store.h"

/* Where pictures are: bw_store_picture() or bw_fleet_picture(), and its first argument. */
struct bw_shelf {
    void (*fetch)(void *source, const struct bw_record *record, int index, bw_store_picture_fn *fn,
                  void *context);
    void *source;
};

struct bw_shelf bw_shelf_of_store(struct bw_store *store);

/* Answer a request that is sent again, in the form it wants: image, JSON or events; of a failed job
 * with its problem. */
void bw_replay(struct bw_shelf shelf, const struct bw_record *record, struct bw_exchange *exchange,
               enum bw_form form);

/* Answer GET /v1/jobs/{id}/images/{i}: with the picture, or 304 if the client has it, or why there
 * is none. */
void bw_replay_image(struct bw_shelf shelf, const struct bw_record *record,
                     struct bw_exchange *exchange);

/* Give the Generation of a completed job as text (heap memory, which passes), NULL if it cannot be
 * had. */
typedef void bw_replay_text_fn(void *context, char *text);
void bw_replay_text(struct bw_shelf shelf, const struct bw_record *record, const char *request_id,
                    bw_replay_text_fn *fn, void *context);

/* Answer with what is left of a job's events after `seen`: the last one, whose data is `job` (heap
 * memory, which passes), or nothing. */
void bw_replay_end(const struct bw_record *record, char *job, int64_t seen,
                   struct bw_exchange *exchange);

#endif
