/* The protocol by which replicas share jobs. It has these keys:
 *
 *   - brickwork:job:KEY, a hash: what is known of a job. `head` is its record (server/record.h)
 * without pictures, `size` with them, p0.. are the pictures' bytes; step, steps, takes; `holder`,
 * the token of who has taken it; `queue` and `entry`, where it stands in a queue; when it is over
 * `over` and `finisher`, the token of who ended it. KEY is a digest of owner and id;
 *   - brickwork:queue:NAME, streams of the KEYs of jobs that are not over: for each priority one,
 * and one for jobs with a deadline, which the replica that promised it has taken when it adds them.
 * All are read by the group `replicas`;
 *   - brickwork:events:KEY, a stream of a job's events, as clients are sent them; event N is N-0;
 *   - brickwork:gone:KEY: there was such a job, for 410;
 *   - brickwork:news, a channel: "q", "e KEY" or "d KEY" tells replicas to look at the queue, at a
 * job, or that a job was removed.
 *
 * Every change is one script, so it is done whole or not at all, and no two replicas interleave.
 *
 * Who takes a job gets a token that nobody had before, which becomes its `holder`. Its entry of the
 * queue stays pending in the group, and the holder resets the time for which it has been idle about
 * once a second. Where that time exceeds the lease the holder is dead, frozen or cut off, and
 * whoever takes next claims the entry with a token of its own. From then on everything the former
 * holder says of the job is refused, since it shows a token that is not `holder` any more: that is
 * the fence which lets a job end once, however many have run it. That several run it does no
 * harm, for a job's request is complete, seed included, and gives the same pictures anywhere.
 *
 * A job is promised when it is added, and Redis keeps it from then on: no replica holds anything
 * that another could miss. When Redis is away jobs that run go on, and their ends are stored when
 * it is back, or refused if another was faster. A command that was cut off may have been carried
 * out: to add again finds the job known, to take again finds another (and the lease of the first
 * runs out), to finish again finds the own token as `finisher`.
 *
 * Only the clock of Redis counts, in leases as in times to forget; those of replicas may differ.
 *
 * What is found in Redis is not trusted: records are parsed as those of a directory are, pictures
 * checked against their digest. One consumer serves for all replicas, since tokens tell them apart;
 * so none is left behind by a replica that is gone. */
#include "server/fleet.h"

#include "api/job.h"
#include "api/request.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/digest.h"
#include "server/record_dir.h"
#include "server/redis.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "brickwork:"
#define JOB    PREFIX "job:"
#define EVENTS PREFIX "events:"
#define GONE   PREFIX "gone:"
#define NEWS   PREFIX "news"

enum { MOST_ARGUMENTS = 40, KEY_CHARS = 100, NUMBER_CHARS = 24, COMPLAINT_PAUSE_MS = 1000 };

/* In the order in which jobs are taken. */
static const char *const queues[] = {PREFIX "queue:promised", PREFIX "queue:high",
                                     PREFIX "queue:normal", PREFIX "queue:low"};
enum { PROMISED, HIGH, NORMAL, LOW, QUEUES };

struct bw_fleet {
    struct bw_fleet_settings settings;
    struct bw_redis *redis, *ears; // for commands; for news
    uint64_t replica;              // random, with `tokens` the source of tokens
    unsigned long long tokens;
    double complained_ms;
};

/* ---- scripts ---- */

#define SCRIPT                                                                                    \
    "local job, events, gone = KEYS[1], KEYS[2], KEYS[3] "                                        \
    "local function answer(said, key) "                                                           \
    "  local r = redis.call('HMGET', job, 'head', 'size', 'step', 'steps', 'takes', 'trace') "    \
    "  return {said, r[1] or '', r[2] or '0', r[3] or '0', r[4] or '0', r[5] or '0', key or '', " \
    "          r[6] or ''} "                                                                      \
    "end "                                                                                        \
    "local function missing() "                                                                   \
    "  if redis.call('EXISTS', gone) == 1 then return {'gone'} end "                              \
    "  return {'absent'} "                                                                        \
    "end "                                                                                        \
    "local function leave() "                                                                     \
    "  local r = redis.call('HMGET', job, 'queue', 'entry') "                                     \
    "  if r[1] and r[2] then "                                                                    \
    "    redis.call('XACK', r[1], 'replicas', r[2]) redis.call('XDEL', r[1], r[2]) "              \
    "  end "                                                                                      \
    "end "                                                                                        \
    "local function remove(keep) "                                                                \
    "  leave() redis.call('DEL', job, events) redis.call('SET', gone, '1', 'EX', keep) "          \
    "  redis.call('PUBLISH', '" NEWS "', 'd ' .. string.sub(job, #'" JOB "' + 1)) "               \
    "end "                                                                                        \
    "local function refused(token) "                                                              \
    "  local r = redis.call('HMGET', job, 'head', 'holder') "                                     \
    "  if not r[1] then return missing() end "                                                    \
    "  if r[2] ~= token then return {'lost'} end "                                                \
    "end "

/* KEY, head, size, steps, most, token or '', queue, trace */
static const char add_script[] = SCRIPT
    "if redis.call('HEXISTS', job, 'head') == 1 then return answer('known') end "
    "local queue, open = ARGV[7], 0 "
    "for i = 4, #KEYS do open = open + redis.call('XLEN', KEYS[i]) end "
    "if open >= tonumber(ARGV[5]) then return {'full'} end "
    "redis.pcall('XGROUP', 'CREATE', queue, 'replicas', '0', 'MKSTREAM') "
    "local entry = redis.call('XADD', queue, '*', 'key', ARGV[1]) "
    "redis.call('DEL', job, events, gone) "
    "redis.call('HSET', job, 'head', ARGV[2], 'size', ARGV[3], 'step', '0', 'steps', ARGV[4], "
    "           'takes', '0', 'queue', queue, 'entry', entry, 'trace', ARGV[8]) "
    "if ARGV[6] == '' then redis.call('PUBLISH', '" NEWS "', 'q') return answer('done') end "
    "redis.call('XREADGROUP', 'GROUP', 'replicas', 'replica', 'COUNT', 1, 'STREAMS', queue, '>') "
    "redis.call('HSET', job, 'holder', ARGV[6], 'takes', '1') "
    "return answer('done')";

/* the first event that is wanted, or '' */
static const char find_script[] =
    SCRIPT "if redis.call('HEXISTS', job, 'head') == 0 then return missing() end "
           "local a = answer('done') "
           "if ARGV[1] ~= '' then "
           "  a[9] = redis.call('XRANGE', events, ARGV[1] .. '-0', '+', 'COUNT', ARGV[2]) "
           "end "
           "return a";

/* seconds to remember it */
static const char remove_script[] =
    SCRIPT "if redis.call('EXISTS', job) == 0 then return missing() end "
           "local a = answer('done') "
           "remove(ARGV[1]) "
           "return a";

/* token, lease in milliseconds. An entry whose job is not there or over has no business in a queue.
 */
static const char take_script[] = SCRIPT
    "for i = 4, #KEYS do "
    "  local queue = KEYS[i] "
    "  redis.pcall('XGROUP', 'CREATE', queue, 'replicas', '0', 'MKSTREAM') "
    "  for _ = 1, 100 do "
    "    local entry, id "
    "    local idle = redis.call('XPENDING', queue, 'replicas', 'IDLE', ARGV[2], '-', '+', 1)[1] "
    "    if idle then "
    "      id = idle[1] "
    "      entry = redis.call('XCLAIM', queue, 'replicas', 'replica', ARGV[2], id)[1] "
    "    else "
    "      local got = redis.call('XREADGROUP', 'GROUP', 'replicas', 'replica', 'COUNT', 1, "
    "                             'STREAMS', queue, '>') "
    "      if not got then break end "
    "      entry = got[1][2][1] "
    "      id = entry[1] "
    "    end "
    "    local key = entry and entry[2] and entry[2][2] or '' "
    "    job = '" JOB "' .. key "
    "    local head = redis.pcall('HGET', job, 'head') "
    "    if type(head) == 'string' and redis.call('HEXISTS', job, 'over') == 0 then "
    "      redis.call('HSET', job, 'holder', ARGV[1], 'step', '0', 'queue', queue, 'entry', id) "
    "      redis.call('HINCRBY', job, 'takes', 1) "
    "      redis.call('DEL', '" EVENTS "' .. key) "
    "      return answer('done', key) "
    "    end "
    "    redis.call('XACK', queue, 'replicas', id) redis.call('XDEL', queue, id) "
    "  end "
    "end "
    "return {'none'}";

/* token */
static const char renew_script[] =
    SCRIPT "local no = refused(ARGV[1]) if no then return no end "
           "local r = redis.call('HMGET', job, 'queue', 'entry') "
           "redis.call('XCLAIM', r[1], 'replicas', 'replica', 0, r[2], 'JUSTID') "
           "return {'done'}";

/* token. Idle for a day: longer than any lease. */
static const char give_back_script[] =
    SCRIPT "local no = refused(ARGV[1]) if no then return no end "
           "local r = redis.call('HMGET', job, 'queue', 'entry') "
           "redis.call('XCLAIM', r[1], 'replicas', 'replica', 0, r[2], 'IDLE', 86400000, 'JUSTID') "
           "redis.call('HDEL', job, 'holder') redis.call('HINCRBY', job, 'takes', -1) "
           "redis.call('PUBLISH', '" NEWS "', 'q') "
           "return {'done'}";

/* token, seconds to remember it */
static const char discard_script[] = SCRIPT "local no = refused(ARGV[1]) if no then return no end "
                                            "remove(ARGV[2]) "
                                            "return {'done'}";

/* token, step, KEY, then number and text of each event */
static const char tell_script[] = SCRIPT
    "local no = refused(ARGV[1]) if no then return no end "
    "redis.call('HSET', job, 'step', ARGV[2]) "
    "for i = 4, #ARGV, 2 do "
    "  redis.pcall('XADD', events, 'MAXLEN', '~', 4096, ARGV[i] .. '-0', 'event', ARGV[i + 1]) "
    "end "
    "redis.call('EXPIRE', events, 86400) "
    "redis.call('PUBLISH', '" NEWS "', 'e ' .. ARGV[3]) "
    "return {'done'}";

/* token, seconds to keep it, KEY, head, size, then the pictures */
static const char finish_script[] = SCRIPT
    "if redis.call('HGET', job, 'finisher') == ARGV[1] then return {'done'} end "
    "local no = refused(ARGV[1]) if no then return no end "
    "leave() "
    "redis.call('HDEL', job, 'holder', 'queue', 'entry') "
    "redis.call('HSET', job, 'head', ARGV[4], 'size', ARGV[5], 'over', '1', 'finisher', ARGV[1]) "
    "for i = 6, #ARGV do redis.call('HSET', job, 'p' .. (i - 6), ARGV[i]) end "
    "redis.call('EXPIRE', job, ARGV[2]) redis.call('EXPIRE', events, ARGV[2]) "
    "redis.call('SET', gone, '1', 'EX', 2 * ARGV[2]) "
    "redis.call('PUBLISH', '" NEWS "', 'e ' .. ARGV[3]) "
    "return {'done'}";

static const char count_script[] =
    SCRIPT "local open = 0 "
           "for i = 4, #KEYS do open = open + redis.call('XLEN', KEYS[i]) end "
           "return {'done', '', '0', tostring(open)}";

/* ---- calling them ---- */

struct call {
    struct bw_fleet *fleet;
    char key[BW_SHA256_CHARS]; // "": of whatever job it finds
    bw_fleet_fn *fn;
    void *context;
};

/* Log what Redis complains of; it may be of every command. */
static void complain(struct bw_fleet *f, const char *text)
{
    double now_ms = bw_now_ms();
    if (f->complained_ms && now_ms - f->complained_ms < COMPLAINT_PAUSE_MS)
        return;
    f->complained_ms = now_ms;
    bw_log_message(BW_LOG_ERROR, "redis-refuses", text);
}

static bool is_result(const struct bw_record *record)
{
    struct bw_generation generation;
    struct bw_image images[BW_MAX_COUNT];
    char digest[BW_JOB_DIGEST_CHARS];
    return !bw_job_parse(record->result, &generation, images, digest, NULL);
}

static bool is_failure(const struct bw_record *record)
{
    int status = 0;
    char *problem = bw_job_problem(record->result, record->id, &status);
    bool good = problem && status >= 400 && status < 600;
    free(problem);
    return good;
}

/* Request and result go into answers and events as they are, so they have to be what they pass for,
 * each in one line. */
static bool is_sound(const struct bw_record *record)
{
    static bool (*const checks[])(const struct bw_record *record) = {
        [BW_JOB_COMPLETED] = is_result, [BW_JOB_FAILED] = is_failure};
    struct bw_request request;
    return !strpbrk(record->body, "\r\n") &&
           !bw_request_parse(&request, record->body, strlen(record->body), NULL) &&
           (record->outcome == BW_JOB_OPEN ||
            (*record->result == '{' && !strpbrk(record->result, "\r\n") &&
             checks[record->outcome](record)));
}

/* Read the record of an answer; what was said is something else if it cannot be. */
static void read_record(struct bw_fleet_answer *a, const struct redisReply *reply,
                        struct bw_record *record)
{
    char key[BW_SHA256_CHARS];
    size_t length = 0;
    int64_t size = 0;
    struct bw_err err = {0};
    const char *head = bw_reply_text(bw_reply_at(reply, 1), &length);
    const char *bytes = bw_reply_text(bw_reply_at(reply, 2), NULL);
    if (!head || !length)
        return;
    if (bytes)
        bw_text_to_int(bytes, 0, INT64_MAX, &size);
    if (bw_record_parse(record, head, length, (uint64_t)size, &err)) {
        a->said = err.code == BW_ENOMEM ? BW_FLEET_AWAY : BW_FLEET_DAMAGED;
        return;
    }
    bw_record_key(record->owner, record->id, key);
    if (strcmp(key, a->key) || !is_sound(record))
        a->said = BW_FLEET_DAMAGED;
    else
        a->record = record;
}

/* Everything a script may answer is a list: what it says, head, size, step, steps, takes, KEY,
 * trace and events, as far as there is something to say. */
static void read_answer(struct bw_fleet *f, const struct redisReply *reply,
                        struct bw_fleet_answer *a, struct bw_record *record)
{
    static const char *const names[] = {NULL,   "done",   "known", "full", "none",
                                        "lost", "absent", "gone",  NULL};
    const char *said = bw_reply_text(bw_reply_at(reply, 0), NULL);
    const char *key = bw_reply_text(bw_reply_at(reply, 6), NULL);
    if (bw_reply_complaint(reply))
        complain(f, bw_reply_complaint(reply));
    for (int i = 0; said && i < (int)(sizeof names / sizeof *names); i++) {
        if (names[i] && strcmp(names[i], said) == 0)
            a->said = (enum bw_fleet_said)i;
    }
    if (!*a->key && key && bw_record_fingerprint_ok(key))
        strcpy(a->key, key);
    a->step = bw_reply_int(bw_reply_at(reply, 3));
    a->steps = bw_reply_int(bw_reply_at(reply, 4));
    a->takes = bw_reply_int(bw_reply_at(reply, 5));
    a->trace = bw_reply_text(bw_reply_at(reply, 7), NULL);
    a->events = bw_reply_at(reply, 8);
    read_record(a, reply, record);
}

static void on_reply(void *context, const struct redisReply *reply)
{
    struct call *c = context;
    struct bw_fleet_answer answer = {.said = BW_FLEET_AWAY};
    struct bw_record record = {0};
    strcpy(answer.key, c->key);
    if (reply)
        read_answer(c->fleet, reply, &answer, &record);
    if (c->fn)
        c->fn(c->context, &answer);
    bw_record_release(&record);
    free(c);
}

static struct bw_redis_word word(const char *text)
{
    return (struct bw_redis_word){text, strlen(text)};
}

static void be_away(bw_fleet_fn *fn, void *context)
{
    if (fn)
        fn(context, &(struct bw_fleet_answer){.said = BW_FLEET_AWAY});
}

/* Run a script for the job of that key ("" for all jobs). */
static void run(struct bw_fleet *f, const char *script, const char *key,
                const struct bw_redis_word *arguments, int count, bw_fleet_fn *fn, void *context)
{
    char keys[3][KEY_CHARS];
    struct bw_redis_word words[BW_REDIS_MOST_WORDS] = {word("EVAL"), word(script), word("7")};
    struct call *c = calloc(1, sizeof *c);
    int used = 3;
    if (!c) {
        be_away(fn, context);
        return;
    }
    *c = (struct call){.fleet = f, .fn = fn, .context = context};
    strcpy(c->key, key);
    snprintf(keys[0], KEY_CHARS, JOB "%s", key);
    snprintf(keys[1], KEY_CHARS, EVENTS "%s", key);
    snprintf(keys[2], KEY_CHARS, GONE "%s", key);
    for (int i = 0; i < 3; i++)
        words[used++] = word(keys[i]);
    for (int i = 0; i < QUEUES; i++)
        words[used++] = word(queues[i]);
    for (int i = 0; i < count; i++)
        words[used++] = arguments[i];
    bw_redis_command(f->redis, words, used, on_reply, c);
}

static struct bw_redis_word number(long long value, char text[NUMBER_CHARS])
{
    snprintf(text, NUMBER_CHARS, "%lld", value);
    return word(text);
}

/* ---- what can be asked ---- */

static void make_token(struct bw_fleet *f, char token[40])
{
    snprintf(token, 40, "%016llx-%llu", (unsigned long long)f->replica, ++f->tokens);
}

void bw_fleet_lease(struct bw_fleet *f, const char *owner, const char *id, struct bw_lease *lease)
{
    bw_record_key(owner, id, lease->key);
    make_token(f, lease->token);
}

void bw_fleet_add(struct bw_fleet *f, const struct bw_record *record, int priority, int steps,
                  const struct bw_trace_context *trace, const struct bw_lease *lease,
                  bw_fleet_fn *fn, void *context)
{
    char traceparent[BW_TRACEPARENT_CHARS];
    static const int queue_of[] = {
        [BW_PRIORITY_LOW] = LOW, [BW_PRIORITY_NORMAL] = NORMAL, [BW_PRIORITY_HIGH] = HIGH};
    char key[BW_SHA256_CHARS], size[NUMBER_CHARS], n[NUMBER_CHARS], most[NUMBER_CHARS];
    struct bw_buf head = {0};
    bw_record_key(record->owner, record->id, key);
    bw_trace_context_render(trace, traceparent);
    bw_record_write(record, &head);
    if (head.failed) {
        bw_buf_release(&head);
        be_away(fn, context);
        return;
    }
    const struct bw_redis_word arguments[] = {
        word(key),
        {head.data, head.length_bytes},
        number((long long)head.length_bytes, size),
        number(steps, n),
        number(f->settings.most_open, most),
        word(lease ? lease->token : ""),
        word(queues[lease ? PROMISED : queue_of[priority]]),
        word(traceparent),
    };
    run(f, add_script, key, arguments, 8, fn, context);
    bw_buf_release(&head);
}

void bw_fleet_find(struct bw_fleet *f, const char *owner, const char *id, int after,
                   bw_fleet_fn *fn, void *context)
{
    char key[BW_SHA256_CHARS], first[NUMBER_CHARS], most[NUMBER_CHARS];
    bw_record_key(owner, id, key);
    const struct bw_redis_word arguments[] = {
        after < 0 ? word("") : number((long long)after + 1, first), number(BW_FLEET_EVENTS, most)};
    run(f, find_script, key, arguments, 2, fn, context);
}

const char *bw_fleet_event(const struct bw_fleet_answer *answer, size_t i, int *number_of,
                           size_t *length)
{
    const struct redisReply *entry = bw_reply_at(answer->events, i);
    const char *id = bw_reply_text(bw_reply_at(entry, 0), NULL);
    const char *text = bw_reply_text(bw_reply_at(bw_reply_at(entry, 1), 1), length);
    if (!id)
        return NULL;
    long n = strtol(id, NULL, 10);
    *number_of = n < INT_MAX ? (int)n : INT_MAX;
    return text;
}

void bw_fleet_remove(struct bw_fleet *f, const char *owner, const char *id, bw_fleet_fn *fn,
                     void *context)
{
    char key[BW_SHA256_CHARS], keep[NUMBER_CHARS];
    bw_record_key(owner, id, key);
    const struct bw_redis_word argument = number(f->settings.keep_s, keep);
    run(f, remove_script, key, &argument, 1, fn, context);
}

void bw_fleet_take(struct bw_fleet *f, struct bw_lease *lease, bw_fleet_fn *fn, void *context)
{
    char idle[NUMBER_CHARS];
    make_token(f, lease->token);
    const struct bw_redis_word arguments[] = {word(lease->token),
                                              number(f->settings.lease_ms, idle)};
    run(f, take_script, "", arguments, 2, fn, context);
}

void bw_fleet_renew(struct bw_fleet *f, const struct bw_lease *lease, bw_fleet_fn *fn,
                    void *context)
{
    const struct bw_redis_word token = word(lease->token);
    run(f, renew_script, lease->key, &token, 1, fn, context);
}

void bw_fleet_give_back(struct bw_fleet *f, const struct bw_lease *lease, bw_fleet_fn *fn,
                        void *context)
{
    const struct bw_redis_word token = word(lease->token);
    run(f, give_back_script, lease->key, &token, 1, fn, context);
}

void bw_fleet_discard(struct bw_fleet *f, const struct bw_lease *lease, bw_fleet_fn *fn,
                      void *context)
{
    char keep[NUMBER_CHARS];
    const struct bw_redis_word arguments[] = {word(lease->token), number(f->settings.keep_s, keep)};
    run(f, discard_script, lease->key, arguments, 2, fn, context);
}

void bw_fleet_tell(struct bw_fleet *f, const struct bw_lease *lease, int step,
                   const struct bw_fleet_event *events, int count, bw_fleet_fn *fn, void *context)
{
    char numbers[BW_FLEET_BATCH + 1][NUMBER_CHARS];
    struct bw_redis_word arguments[3 + 2 * BW_FLEET_BATCH] = {
        word(lease->token), number(step, numbers[BW_FLEET_BATCH]), word(lease->key)};
    for (int i = 0; i < count && i < BW_FLEET_BATCH; i++) {
        arguments[3 + 2 * i] = number(events[i].number, numbers[i]);
        arguments[4 + 2 * i] =
            (struct bw_redis_word){events[i].text->data, events[i].text->length_bytes};
    }
    run(f, tell_script, lease->key, arguments, 3 + 2 * count, fn, context);
}

void bw_fleet_finish(struct bw_fleet *f, const struct bw_lease *lease,
                     const struct bw_record *record, const struct bw_store_end *end,
                     bw_fleet_fn *fn, void *context)
{
    char keep[NUMBER_CHARS], bytes[NUMBER_CHARS];
    struct bw_buf head = {0};
    struct bw_redis_word arguments[5 + BW_RECORD_PICTURES] = {
        word(lease->token), number(f->settings.keep_s, keep), word(lease->key)};
    bw_record_write(record, &head);
    size_t size = head.length_bytes;
    for (int i = 0; i < end->picture_count; i++) {
        size += end->pictures[i].size_bytes;
        arguments[5 + i] =
            (struct bw_redis_word){end->pictures[i].bytes, end->pictures[i].size_bytes};
    }
    arguments[3] = (struct bw_redis_word){head.data, head.length_bytes};
    arguments[4] = number((long long)size, bytes);
    if (head.failed)
        be_away(fn, context);
    else
        run(f, finish_script, lease->key, arguments, 5 + end->picture_count, fn, context);
    bw_buf_release(&head);
}

void bw_fleet_count(struct bw_fleet *f, bw_fleet_fn *fn, void *context)
{
    run(f, count_script, "", NULL, 0, fn, context);
}

/* ---- pictures ---- */

struct fetching {
    struct bw_fleet *fleet;
    struct bw_record_picture picture;
    bw_store_picture_fn *fn;
    void *context;
};

static void on_picture(void *context, const struct redisReply *reply)
{
    struct fetching *g = context;
    struct bw_buf bytes = {0};
    struct bw_err err = {0};
    char digest[BW_DIGEST_CHARS];
    size_t length = 0;
    const char *text = bw_reply_text(reply, &length);
    if (!reply || bw_reply_complaint(reply)) {
        bw_err_set(&err, BW_EBUSY, "the store of jobs cannot be reached");
    } else if (!text) {
        bw_err_set(&err, BW_ENOTFOUND, "the job is gone by now");
    } else {
        bw_digest(text, length, digest);
        if (strcmp(digest, g->picture.etag))
            bw_err_set(&err, BW_EIO, "a picture is damaged");
        else
            bw_buf_add(&bytes, text, length);
        if (bytes.failed)
            bw_err_set(&err, BW_ENOMEM, "out of memory");
    }
    g->fn(g->context, &bytes, &err);
    bw_buf_release(&bytes);
    free(g);
}

void bw_fleet_picture(struct bw_fleet *f, const struct bw_record *record, int index,
                      bw_store_picture_fn *fn, void *context)
{
    char key[BW_SHA256_CHARS], job[KEY_CHARS], field[NUMBER_CHARS];
    struct fetching *g = malloc(sizeof *g);
    if (!g) {
        struct bw_buf none = {0};
        fn(context, &none, &(struct bw_err){.code = BW_ENOMEM, .message = "out of memory"});
        return;
    }
    *g = (struct fetching){f, record->pictures[index], fn, context};
    bw_record_key(record->owner, record->id, key);
    snprintf(job, sizeof job, JOB "%s", key);
    snprintf(field, sizeof field, "p%d", index);
    const struct bw_redis_word words[] = {word("HGET"), word(job), word(field)};
    bw_redis_command(f->redis, words, 3, on_picture, g);
}

/* ---- news ---- */

static void on_news(void *context, const struct redisReply *reply)
{
    struct bw_fleet *f = context;
    const char *kind = bw_reply_text(bw_reply_at(reply, 0), NULL);
    const char *text = bw_reply_text(bw_reply_at(reply, 2), NULL);
    if (!kind || strcmp(kind, "message") || !text)
        return;
    if (strcmp(text, "q") == 0)
        f->settings.news(f->settings.context, BW_FLEET_QUEUED, "");
    else if ((*text == 'e' || *text == 'd') && text[1] == ' ' && bw_record_fingerprint_ok(text + 2))
        f->settings.news(f->settings.context, *text == 'e' ? BW_FLEET_MOVED : BW_FLEET_REMOVED,
                         text + 2);
}

static void on_ears(void *context, bool up)
{
    struct bw_fleet *f = context;
    const struct bw_redis_word words[] = {word("SUBSCRIBE"), word(NEWS)};
    if (up)
        bw_redis_command(f->ears, words, 2, on_news, f);
}

static void on_state(void *context, bool up)
{
    struct bw_fleet *f = context;
    f->settings.state(f->settings.context, up);
}

int bw_fleet_new(struct bw_fleet **out, struct bw_loop *loop,
                 const struct bw_fleet_settings *settings, struct bw_err *err)
{
    struct bw_redis_url url;
    struct bw_fleet *f = calloc(1, sizeof *f);
    if (!f)
        return bw_err_set(err, BW_ENOMEM, "out of memory");
    f->settings = *settings;
    f->replica = bw_random();
    int code = bw_redis_url_parse(&url, settings->url, err);
    if (!code)
        code = bw_redis_new(&f->redis, loop, &url, false, on_state, f, err);
    if (!code)
        code = bw_redis_new(&f->ears, loop, &url, true, on_ears, f, err);
    if (code) {
        bw_fleet_close(f);
        bw_fleet_free(f); // nothing of it has been in the loop's pool yet
        return code;
    }
    *out = f;
    return BW_OK;
}

void bw_fleet_close(struct bw_fleet *f)
{
    if (!f)
        return;
    bw_redis_close(f->redis);
    bw_redis_close(f->ears);
}

void bw_fleet_free(struct bw_fleet *f)
{
    if (!f)
        return;
    bw_redis_free(f->redis);
    bw_redis_free(f->ears);
    free(f);
}

bool bw_fleet_is_up(const struct bw_fleet *f)
{
    return bw_redis_is_up(f->redis);
}
