/* Dispatch: one board, and the three things that happen to it: a request is
 * offered, a team takes pictures, a team gives them back.
 *
 * Time is what the caller says it is: the scheduler calls with the clock's and under a lock, the
 * simulator with its own. Thread: one at a time.
 */
#ifndef BW_SERVER_DISPATCH_H
#define BW_SERVER_DISPATCH_H

#include "server/job.h"
#include "server/policy.h"

struct bw_dispatch {
    struct bw_board board;
    struct bw_forecast *forecasts; // [room]
    double priced_ms;              // when all ladders were last priced
};

/* What became of a request. */
struct bw_answer {
    struct bw_verdict verdict;
    int steps; // refused for the deadline: with so many, and skip "auto", it would be admitted; 0:
               // no
};

/* BW_ENOMEM. */
int bw_dispatch_init(struct bw_dispatch *dispatch, const struct bw_rules *rules,
                     struct bw_err *err);
void bw_dispatch_release(struct bw_dispatch *dispatch);

/* Put `count` jobs (an array; bw_job_init() made them for one request) of one client on the board,
 * all or none. If need be an automatic picture gets fewer steps, but not less than half. With
 * `only_ask` nothing is put anywhere. In either case the jobs then have ladders, which the caller
 * releases when they are over, and rungs. BW_EBUSY: refused, the answer says why; BW_ENOMEM. */
int bw_dispatch_offer(struct bw_dispatch *dispatch, const char *client, struct bw_job *jobs,
                      int count, bool only_ask, double now_ms, struct bw_answer *answer,
                      struct bw_err *err);

/* What `team` is to advance, in jobs [BW_MAX_CALL], or to decode: bw_task_decodes(), one job. 0:
 * nothing. */
int bw_dispatch_take(struct bw_dispatch *dispatch, int team, double now_ms, struct bw_job **jobs);

/* One evaluation of each is done, or the one is decoded; it took from began_ms until now. Jobs that
 * are done, failed or cancelled leave the board and are moved to the end of the array; returns how
 * many. */
int bw_dispatch_give(struct bw_dispatch *dispatch, struct bw_job **jobs, int count, double began_ms,
                     double now_ms);

/* Finishing a picture took a team so long. */
void bw_dispatch_learn_finish(struct bw_dispatch *dispatch, double ms);

/* Take the jobs of one owner, or of all (NULL), off the board as far as no team has them; linked by
 * next. */
struct bw_job *bw_dispatch_remove(struct bw_dispatch *dispatch, const void *owner);

#endif
