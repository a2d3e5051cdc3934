/* Moments are whole microseconds and deadlines whole milliseconds, so that a saved plan is read
 * back exactly. Moments, entries and deadlines are drawn from streams of their own: one may change
 * without the others. */
#include "cli/load_plan.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TRACE_BYTES = 1 << 28 };

/* ---- random numbers: SplitMix64 ---- */

static uint64_t next_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* [0, 1) */
static double next_share(uint64_t *state)
{
    return (double)(next_bits(state) >> 11) * 0x1p-53;
}

struct streams {
    uint64_t moments, entries, deadlines;
};

static struct streams streams_of(uint64_t seed)
{
    return (struct streams){
        .moments = next_bits(&seed), .entries = next_bits(&seed), .deadlines = next_bits(&seed)};
}

/* ---- what every plan has to be ---- */

static bool is_address(const char *text)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static int refuse_many(struct bw_err *err)
{
    return bw_err_set(err, BW_ERANGE, "more than %d requests", BW_LOAD_MOST_REQUESTS);
}

static int check(const struct bw_load_plan *plan, struct bw_err *err)
{
    if (!plan->trace.count)
        return bw_err_set(err, BW_ERANGE, "there is no request to send");
    if (plan->trace.count > BW_LOAD_MOST_REQUESTS)
        return refuse_many(err);
    for (int i = 0; i < plan->trace.count; i++) {
        const struct bw_arrival *a = &plan->trace.arrivals[i];
        if (*a->client && !is_address(a->client))
            return bw_err_set(err, BW_ERANGE, "request %d: client \"%s\" is not an address", i + 1,
                              a->client);
        if (a->request.count > 1)
            return bw_err_set(err, BW_ERANGE, "request %d: n is %d; one picture each is asked for",
                              i + 1, a->request.count);
    }
    return BW_OK;
}

static int new_groups(struct bw_load_plan *plan, struct bw_err *err)
{
    plan->groups = calloc(BW_LOAD_MOST_REQUESTS, sizeof *plan->groups);
    return plan->groups ? BW_OK : bw_err_set(err, BW_ENOMEM, "out of memory");
}

/* ---- drawn ---- */

static int draw_entry(const struct bw_load_mix *mix, uint64_t *state)
{
    double sum = 0;
    for (int i = 0; i < mix->count; i++)
        sum += mix->entries[i].weight;
    double left = sum * next_share(state);
    int i = 0;
    while (i + 1 < mix->count && left >= mix->entries[i].weight)
        left -= mix->entries[i++].weight;
    return i;
}

/* The entry's request with a deadline, if it is to have one. */
static void write_body(struct bw_buf *body, const struct bw_load_entry *entry, uint64_t *state)
{
    const int *range = entry->deadline_ms;
    size_t open = strlen(entry->body) - 1; // without the last brace
    bw_buf_add(body, entry->body, open);
    if (range[0])
        bw_buf_addf(body, "%s\"deadline_ms\":%d", open > 1 ? "," : "",
                    range[0] + (int)((range[1] - range[0] + 1) * next_share(state)));
    bw_buf_add_text(body, "}");
}

static int add_drawn(struct bw_load_plan *plan, double at_ms, const struct bw_load_mix *mix,
                     struct streams *streams, struct bw_err *err)
{
    if (plan->trace.count == BW_LOAD_MOST_REQUESTS)
        return refuse_many(err);
    int group = draw_entry(mix, &streams->entries);
    struct bw_buf body = {0};
    write_body(&body, &mix->entries[group], &streams->deadlines);
    int code = body.failed ? bw_err_set(err, BW_ENOMEM, "out of memory")
                           : bw_trace_add(&plan->trace, round(at_ms * 1e3) / 1e3,
                                          mix->entries[group].client, body.data, err);
    bw_buf_release(&body);
    if (!code)
        plan->groups[plan->trace.count - 1] = (uint8_t)group;
    return code;
}

int bw_load_plan_draw(struct bw_load_plan *plan, const struct bw_load_process *process,
                      const struct bw_load_mix *mix, struct bw_err *err)
{
    struct streams streams = streams_of(process->seed);
    double gap_ms = 1e3 / process->rate, at_ms = 0;
    *plan = (struct bw_load_plan){.group_count = mix->count};
    for (int i = 0; i < mix->count; i++)
        snprintf(plan->names[i], sizeof plan->names[i], "mix %d", i + 1);
    if (process->rate * process->seconds > BW_LOAD_MOST_REQUESTS)
        return refuse_many(err);
    int code = new_groups(plan, err);
    for (int i = 0; !code; i++) {
        if (process->even)
            at_ms = i * gap_ms;
        else
            at_ms -= gap_ms * log(1 - next_share(&streams.moments));
        if (at_ms >= process->seconds * 1e3 - 1e-6) // rounding makes no request more
            break;
        code = add_drawn(plan, at_ms, mix, &streams, err);
    }
    return code ? code : check(plan, err);
}

/* ---- from a file and into one ---- */

/* The group of a client; those that find no place share the last. */
static int group_of(struct bw_load_plan *plan, const char *client)
{
    const char *name = *client ? client : "any client";
    int i = 0;
    while (i < plan->group_count && strcmp(plan->names[i], name))
        i++;
    if (i == BW_LOAD_GROUPS)
        strcpy(plan->names[--i], "other clients");
    else if (i == plan->group_count)
        strcpy(plan->names[plan->group_count++], name);
    return i;
}

int bw_load_plan_read(struct bw_load_plan *plan, const char *path, struct bw_err *err)
{
    struct bw_buf text = {.ceiling_bytes = MOST_TRACE_BYTES};
    struct bw_err reason = {0};
    *plan = (struct bw_load_plan){0};
    int code = bw_buf_add_file(&text, path, err);
    if (!code && text.length_bytes &&
        bw_trace_parse(&plan->trace, text.data, text.length_bytes, &reason))
        code = bw_err_set(err, reason.code == BW_ENOMEM ? BW_ENOMEM : BW_ERANGE, "%s: %s", path,
                          reason.message);
    bw_buf_release(&text);
    if (!code)
        code = check(plan, err);
    if (!code)
        code = new_groups(plan, err);
    for (int i = 0; !code && i < plan->trace.count; i++)
        plan->groups[i] = (uint8_t)group_of(plan, plan->trace.arrivals[i].client);
    return code;
}

static void write_line(FILE *file, const struct bw_arrival *a)
{
    fprintf(file, "{\"at_ms\":%.3f,", a->at_ms);
    if (*a->client)
        fprintf(file, "\"client\":\"%s\",", a->client);
    fprintf(file, "\"request\":%s}\n", a->body);
}

int bw_load_plan_save(const struct bw_load_plan *plan, const char *path, struct bw_err *err)
{
    FILE *file = fopen(path, "w");
    for (int i = 0; file && i < plan->trace.count; i++)
        write_line(file, &plan->trace.arrivals[i]);
    bool failed = !file || ferror(file);
    if ((file && fclose(file)) || failed)
        return bw_err_set(err, BW_EIO, "%s: cannot be written: %s", path, strerror(errno));
    return BW_OK;
}

void bw_load_plan_release(struct bw_load_plan *plan)
{
    bw_trace_release(&plan->trace);
    free(plan->groups);
    *plan = (struct bw_load_plan){0};
}
