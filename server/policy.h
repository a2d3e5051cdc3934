/* Policy: which pictures advance next and with which bricks, and whether more may come.
 *
 * Pure functions: they look at a board and answer. Nothing here knows a clock, a lock or a thread,
 * so the server and the simulator ask the same.
 *
 * Order. Pictures with a promised deadline come first, the earliest deadline first (Liu and
 * Layland, 1973). The rest are ordered by priority, then by how much their clients have had, then
 * by how little work is left. Nobody starves: every eighth turn goes to the oldest of the rest if
 * it has stood still for a second and no promise breaks for it, and promises made while others wait
 * leave them that share.
 *
 * Bricks. Automatic pictures go down their ladders as far as the deadlines and the operator's
 * target ask for and no further: all that stand before the same deadline go to the same rung, the
 * same exchange rate between loss and time, because that is the cheapest loss in all. They climb up
 * again when it gets quiet.
 *
 * Admission. A promise is made if all promises, old and new, can be kept, on the last rungs where
 * it must be. Without a deadline a picture is admitted while the work on the board is within
 * bounds, and no client holds more than a multiple of the room that is left (the dynamic threshold
 * of Choudhury and Hahne, 1998), so that one who floods the service leaves room for others.
 */
#ifndef BW_SERVER_POLICY_H
#define BW_SERVER_POLICY_H

#include "server/board.h"

/* What becomes of one task if nothing else comes. */
struct bw_forecast {
    struct bw_task *task;
    int rung;      // it should run on from now on
    int need;      // rung that its own due moment asks of all up to it
    double end_ms; // when it is answered
    bool newcomer; // not on the board yet
    struct {
        int group;
        double first, second, third;
    } rank;
};

/* Forecasts [board->count + count] for the board with `count` more tasks, in order of service. */
void bw_policy_forecast(const struct bw_board *board, struct bw_task *const *more, int count,
                        double now_ms, struct bw_forecast *forecasts);

/* What a free team is to do now: up to BW_MAX_CALL tasks of one model that no team has, the most
 * urgent first, or one task to be decoded; returns how many. `forecasts` [board->count]: scratch.
 * Sets the rung of those it chooses. */
int bw_policy_choose(const struct bw_board *board, double now_ms, struct bw_forecast *forecasts,
                     struct bw_task **chosen);

enum bw_refusal { BW_ADMITTED, BW_REFUSED_FULL, BW_REFUSED_DEADLINE };

struct bw_verdict {
    enum bw_refusal refusal;
    double end_ms;   // admitted: when the last picture is answered
    double retry_ms; // refused: when to ask again for the same; INFINITY: never, on this machine
    double best_ms;  // refused for the deadline: the moment that could be promised now
};

/* May `count` tasks of one request come onto the board? Their client is known to it. `forecasts`
 * [board->count + count]: scratch. Sets the rungs of the tasks as they would run. */
struct bw_verdict bw_policy_admit(const struct bw_board *board, struct bw_task *const *tasks,
                                  int count, double now_ms, struct bw_forecast *forecasts);

#endif
