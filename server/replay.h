/* Replay: answers from jobs that are over and stored. Thread: the loop's. */
#ifndef BW_SERVER_REPLAY_H
#define BW_SERVER_REPLAY_H

#include "server/order.h"
#include "server/store.h"

/* Answer a request that is sent again, in the form it wants: image, JSON or events; of a failed job
 * with its problem. */
void bw_replay(struct bw_store *store, const struct bw_record *record, struct bw_exchange *exchange,
               enum bw_form form);

/* Answer with picture i of a completed job, or 304 if the client has it. */
void bw_replay_picture(struct bw_store *store, const struct bw_record *record, int i,
                       struct bw_exchange *exchange);

/* Answer with what is left of a job's events after `seen`: the last one, whose data is `job` (heap
 * memory, which passes), or nothing. */
void bw_replay_end(const struct bw_record *record, char *job, int64_t seen,
                   struct bw_exchange *exchange);

#endif
