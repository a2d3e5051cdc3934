/* Clients: a round robin by deficits in time, as start-time fair queueing has it (Goyal, Vin and
 * Cheng, 1996). Each client's account says how much of the teams' time it has had, and the one that
 * has had least goes next. Who comes back from a pause is put back to within most_credit_ms of the
 * others: so one that asks for little finds itself served at once, but cannot save up for ever, nor
 * be made to pay for ever. */
#include "server/board.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double most_credit_ms = 2000;

int bw_board_init(struct bw_board *board, const struct bw_rules *rules, int room,
                  struct bw_err *err)
{
    struct bw_board b = {.rules = *rules, .room = room};
    b.tasks = calloc((size_t)room, sizeof *b.tasks);
    if (!b.tasks)
        return bw_err_set(err, BW_ENOMEM, "out of memory for %d pictures", room);
    for (int i = 1; i < BW_MAX_CLIENTS; i++)
        b.clients[i].used_ms = -INFINITY;
    strcpy(b.clients[0].name, "(others)");
    *board = b;
    return BW_OK;
}

void bw_board_release(struct bw_board *board)
{
    free(board->tasks);
    board->tasks = NULL;
}

int bw_board_client(struct bw_board *board, const char *name)
{
    int place = 0;
    for (int i = 1; *name && i < BW_MAX_CLIENTS; i++) {
        const struct bw_client *c = &board->clients[i], *best = &board->clients[place];
        if (strncmp(c->name, name, BW_CLIENT_CHARS - 1) == 0)
            return i;
        if (!c->tasks && (!place || c->used_ms < best->used_ms))
            place = i; // free, or that of who has had least
    }
    if (place) {
        struct bw_client *c = &board->clients[place];
        *c = (struct bw_client){.used_ms = -INFINITY};
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    return place;
}

/* A client that has had nothing on the board: its account in relation to those that have. */
static void come_back(struct bw_board *board, struct bw_client *client)
{
    double least_ms = INFINITY;
    for (int i = 0; i < BW_MAX_CLIENTS; i++) {
        if (board->clients[i].tasks)
            least_ms = fmin(least_ms, board->clients[i].used_ms);
    }
    if (isfinite(least_ms))
        client->used_ms =
            fmax(least_ms - most_credit_ms, fmin(client->used_ms, least_ms + most_credit_ms));
    else if (!isfinite(client->used_ms))
        client->used_ms = 0;
}

void bw_board_add(struct bw_board *board, struct bw_task *task)
{
    struct bw_client *client = &board->clients[task->client];
    if (!client->tasks)
        come_back(board, client);
    client->tasks++;
    task->number = board->admitted++;
    task->team = -1;
    task->advanced_ms = task->arrived_ms;
    board->tasks[board->count++] = task;
}

void bw_board_remove(struct bw_board *board, struct bw_task *task)
{
    int i = 0;
    while (board->tasks[i] != task)
        i++;
    board->tasks[i] = board->tasks[--board->count];
    board->clients[task->client].tasks--;
}

void bw_board_begin(struct bw_board *board, int team, struct bw_task *const *tasks, int count,
                    double now_ms)
{
    for (int i = 0; i < count; i++) {
        struct bw_task *t = tasks[i];
        t->team = team;
        t->advanced_ms = now_ms;
        t->started = true;
        if (!t->half && !bw_task_decodes(t)) // both evaluations of a step run the same bricks
            t->plan->masks[t->step] = bw_ladder_mask(t->ladder, t->rung, t->step);
    }
    board->turn_of = tasks[0]->client;
    board->turns++;
}

void bw_board_end(struct bw_board *board, struct bw_task *const *tasks, int count, double began_ms,
                  double now_ms)
{
    for (int i = 0; i < count; i++) {
        struct bw_task *t = tasks[i];
        t->half = bw_plan_stages(t->plan, t->step) == 2 && !t->half;
        t->step += !t->half;
        t->team = -1;
        t->advanced_ms = now_ms;
        board->clients[t->client].used_ms += (now_ms - began_ms) / count;
    }
}

bool bw_task_decodes(const struct bw_task *task)
{
    return task->step == task->plan->steps;
}

bool bw_task_is_done(const struct bw_task *task)
{
    return task->step >= task->plan->steps + (task->price->decode.decoder != NULL);
}

int bw_board_fresh(const struct bw_board *board)
{
    int fresh = 0;
    for (int i = 0; i < board->count; i++)
        fresh += !board->tasks[i]->started;
    return fresh;
}
