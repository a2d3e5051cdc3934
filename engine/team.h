/* Team: a fixed set of threads that work on one thing together.
 *
 * The caller is a member: a team of one has no other thread. Work is a number of independent tasks,
 * handed out one by one in order; bw_team_run() returns when all are done, with their writes
 * visible. Members spin briefly for the next work, then sleep. Which member runs a task never
 * matters to its result: the task number alone says what to do, the member number only picks
 * scratch memory. Thread: bw_team_run() from one thread at a time, never from inside a task.
 */
#ifndef BW_ENGINE_TEAM_H
#define BW_ENGINE_TEAM_H

#include "base/err.h"

struct bw_team;

/* Do task `task` (0..count-1) as member `member` (0..threads-1). */
typedef void bw_team_fn(void *context, int task, int member);

/* Start threads - 1 threads. BW_ENOMEM, BW_EIO (the system refuses a thread). */
int bw_team_new(struct bw_team **team, int threads, struct bw_err *err);

/* Stop and join the threads. NULL is allowed. */
void bw_team_free(struct bw_team *team);

int bw_team_threads(const struct bw_team *team);

void bw_team_run(struct bw_team *team, bw_team_fn *fn, void *context, int count);

#endif
