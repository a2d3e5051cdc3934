/* Board: the pictures that were admitted and are not over, and whose they are.
 *
 * Plain state and its few changes; what follows from it is server/policy.h's to say. Time is what
 * the caller says it is, so the simulator can use a board as the server does. Thread: one at a
 * time.
 */
#ifndef BW_SERVER_BOARD_H
#define BW_SERVER_BOARD_H

#include "api/request.h"
#include "base/err.h"
#include "engine/ladder.h"

#include <stdbool.h>
#include <stdint.h>

enum bw_policy {
    BW_POLICY_FULL,
    BW_POLICY_REJECT, // deadlines and admission, but every picture runs with every brick
    BW_POLICY_FIFO,   // first come, first served, whatever the deadlines
};

enum { BW_MAX_TEAMS = 64, BW_MAX_CALL = 64, BW_CLIENT_CHARS = 64, BW_MAX_CLIENTS = 256 };

/* One picture. */
struct bw_task {
    const struct bw_arch *arch; // of its model
    struct bw_price *price;     // of its model; learns, so it belongs to whoever owns the board
    struct bw_ladder *ladder;   // the owner's
    struct bw_plan *plan;       // the owner's; masks are written as steps are taken
    bool automatic;             // the ladder may be climbed
    double gigaflops;           // of the whole picture on rung 0
    enum bw_priority priority;
    double arrived_ms;
    double due_ms;   // INFINITY: nobody waits for a certain moment
    bool promised;   // due_ms is the request's deadline, not a target of the operator's
    bool owed;       // of a job that was admitted before, maybe by another replica
    int client;      // index on the board
    uint64_t number; // of admission: earlier is smaller

    double decode_gigaflops; // of the decoder, once; 0: the network draws pixels

    int step;           // steps done; one more than the plan has when it is decoded
    bool half;          // Heun: the first evaluation of this step is done
    bool started;       // some team has had it
    double advanced_ms; // when one last had it, or arrived_ms
    int team;           // that has it right now; -1: none
    double free_ms;     // team >= 0: when that is expected to end
    double decode_ms;   // the decoder's price when a team last took it
    int rung;           // it runs on
    double without_ms;  // the policy's: when it would be answered without the newcomers at hand
};

struct bw_client {
    char name[BW_CLIENT_CHARS]; // "": a free place
    double used_ms;             // time of a team it has had; only differences mean something
    int tasks;                  // on the board
};

struct bw_rules {
    enum bw_policy policy;
    int teams;
    int most_waiting; // pictures on the board besides one for each team
    double
        most_work_ms;  // work on the board for each team, beyond which none without deadline comes
    double target_ms;  // latency meant for automatic pictures without deadline; 0: none
    int most_pictures; // in one call of the network
    int busy_tokens;   // a call in which every brick has so many takes no more pictures
};

struct bw_board {
    struct bw_rules rules;
    struct bw_task **tasks; // [count], unordered
    int count, room;
    struct bw_client clients[BW_MAX_CLIENTS]; // 0 stands for all who found no place
    int turn_of;                              // client whose picture ran last
    uint64_t turns;                           // how often a team was given something to do
    uint64_t admitted;                        // tasks ever
    double finish_ms; // from a picture's last call until the team is free again, smoothed
};

/* Room for `room` tasks. BW_ENOMEM. */
int bw_board_init(struct bw_board *board, const struct bw_rules *rules, int room,
                  struct bw_err *err);
void bw_board_release(struct bw_board *board);

/* The client of that name, as it is known or from now on. */
int bw_board_client(struct bw_board *board, const char *name);

/* Put a task on the board (there must be room) or take it off. */
void bw_board_add(struct bw_board *board, struct bw_task *task);
void bw_board_remove(struct bw_board *board, struct bw_task *task);

/* Give tasks to a team, one if it is to be decoded, with the masks of their rungs. The caller sets
 * their free_ms. */
void bw_board_begin(struct bw_board *board, int team, struct bw_task *const *tasks, int count,
                    double now_ms);

/* The team is done with one evaluation of each, or has decoded the one; their clients pay. */
void bw_board_end(struct bw_board *board, struct bw_task *const *tasks, int count, double began_ms,
                  double now_ms);

/* Is the decoder all that is left to do? */
bool bw_task_decodes(const struct bw_task *task);

/* Is nothing left to do? */
bool bw_task_is_done(const struct bw_task *task);

/* Tasks that no team has had yet. */
int bw_board_fresh(const struct bw_board *board);

#endif
