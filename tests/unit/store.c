/* Jobs: the record's file, the directory of records, and the store over both memory and directory,
 * through restarts, damage and a disk that refuses. */
#include "server/store.h"

#include "base/log.h"
#include "engine/digest.h"
#include "server/record_dir.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct bw_store_limits roomy = {.keep_s = 100, .bytes = 1 << 20, .records = 100};

/* A store and what it reported. */
struct scene {
    char path[64]; // "": in memory
    struct bw_loop *loop;
    struct bw_store *store;
    int saved, code; // how often, and the last code
    struct bw_buf picture;
    struct bw_err err;
};

static void open_scene(struct scene *s, const struct bw_store_limits *limits)
{
    CHECK_INT(bw_loop_new(&s->loop, &s->err), BW_OK);
    CHECK_OF(bw_store_new(&s->store, s->loop, s->path, limits, &s->err) == BW_OK, "%s",
             s->err.message);
}

static struct scene new_scene(bool on_disk, const struct bw_store_limits *limits)
{
    struct scene s = {0};
    if (on_disk) {
        strcpy(s.path, "/tmp/brickwork-store-XXXXXX");
        CHECK(mkdtemp(s.path));
    }
    open_scene(&s, limits);
    return s;
}

static void close_scene(struct scene *s)
{
    bw_store_quiet(s->store);
    bw_loop_free(s->loop);
    bw_store_free(s->store);
    bw_buf_release(&s->picture);
}

static void restart(struct scene *s, const struct bw_store_limits *limits)
{
    close_scene(s);
    open_scene(s, limits);
}

/* Call fn with the path of every file of the directory; returns how many there are. */
static int each_file(const struct scene *s, void (*fn)(const char *path, void *context),
                     void *context)
{
    DIR *list = opendir(s->path);
    int count = 0;
    for (struct dirent *entry; list && (entry = readdir(list));) {
        char path[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", s->path, entry->d_name);
        fn(path, context);
        count++;
    }
    closedir(list);
    return count;
}

static void remove_file(const char *path, void *context)
{
    (void)context;
    unlink(path);
}

static void end_scene(struct scene *s)
{
    close_scene(s);
    if (*s->path) {
        each_file(s, remove_file, NULL);
        CHECK(rmdir(s->path) == 0);
    }
}

static void note_saved(void *context, const struct bw_err *err)
{
    struct scene *s = context;
    s->saved++;
    s->code = err->code;
    bw_loop_stop(s->loop);
}

/* Wait until so many callbacks have come. */
static int wait_saved(struct scene *s, int count)
{
    while (s->saved < count)
        bw_loop_run(s->loop);
    CHECK_INT(s->saved, count);
    s->saved = 0;
    return s->code;
}

static struct bw_record admission(const char *owner, const char *id, int64_t created_s)
{
    struct bw_record record = {.created_s = created_s, .body = "{\"class\":\"plums\",\"seed\":7}"};
    snprintf(record.id, sizeof record.id, "%s", id);
    snprintf(record.owner, sizeof record.owner, "%s", owner);
    bw_digest(id, strlen(id), record.fingerprint);
    return record;
}

static int add(struct scene *s, const char *owner, const char *id, int64_t created_s)
{
    struct bw_record record = admission(owner, id, created_s);
    int code = bw_store_add(s->store, &record, note_saved, s, &s->err);
    return code ? code : wait_saved(s, 1);
}

static unsigned char *bytes_of(int value, size_t size)
{
    unsigned char *bytes = malloc(size);
    memset(bytes, value, size);
    return bytes;
}

static int start_finish(struct scene *s, const char *owner, const char *id, int64_t finished_s,
                        int pictures, size_t size)
{
    struct bw_store_end end = {.outcome = pictures ? BW_JOB_COMPLETED : BW_JOB_FAILED,
                               .finished_s = finished_s,
                               .result = strdup("{\"model_digest\":\"x\"}"),
                               .picture_count = pictures};
    for (int i = 0; i < pictures; i++) {
        end.pictures[i].bytes = bytes_of('a' + i, size);
        end.pictures[i].size_bytes = size;
        end.pictures[i].media_type = i % 2 ? "image/png" : "image/jpeg";
    }
    return bw_store_finish(s->store, owner, id, &end, note_saved, s);
}

static int finish(struct scene *s, const char *owner, const char *id, int64_t finished_s,
                  int pictures, size_t size)
{
    int code = start_finish(s, owner, id, finished_s, pictures, size);
    return code ? code : wait_saved(s, 1);
}

static void note_picture(void *context, struct bw_buf *bytes, const struct bw_err *err)
{
    struct scene *s = context;
    bw_buf_release(&s->picture);
    s->picture = *bytes;
    *bytes = (struct bw_buf){0};
    note_saved(s, err);
}

/* The code of asking for a picture, whose bytes and digest have to be as written. */
static int read_back(struct scene *s, const char *owner, const char *id, int index, size_t size)
{
    const struct bw_record *record = bw_store_find(s->store, owner, id);
    char digest[BW_DIGEST_CHARS];
    if (!CHECK(record && index < record->picture_count))
        return BW_ENOTFOUND;
    struct bw_record_picture picture = record->pictures[index];
    bw_store_picture(s->store, record, index, note_picture, s);
    int code = wait_saved(s, 1);
    if (code)
        return code;
    CHECK_INT(s->picture.length_bytes, size);
    CHECK_INT(s->picture.data[0], 'a' + index);
    CHECK_INT(s->picture.data[size - 1], 'a' + index);
    bw_digest(s->picture.data, size, digest);
    CHECK_TEXT(picture.etag, digest);
    CHECK_TEXT(picture.media_type, index % 2 ? "image/png" : "image/jpeg");
    return BW_OK;
}

/* ---- what both have in common ---- */

static void check_life(bool on_disk)
{
    struct scene s = new_scene(on_disk, &roomy);
    CHECK(!bw_store_find(s.store, "", "one"));
    CHECK_INT(add(&s, "", "one", 10), BW_OK);
    const struct bw_record *record = bw_store_find(s.store, "", "one");
    REQUIRE(record);
    CHECK_TEXT(record->id, "one");
    CHECK_TEXT(record->body, "{\"class\":\"plums\",\"seed\":7}");
    CHECK(record->outcome == BW_JOB_OPEN && record->created_s == 10 && !record->result);
    CHECK(bw_store_use(s.store).open == 1 && bw_store_use(s.store).over == 0);
    CHECK_INT(finish(&s, "", "one", 20, 2, 70000), BW_OK);
    record = bw_store_find(s.store, "", "one");
    REQUIRE(record);
    CHECK(record->outcome == BW_JOB_COMPLETED && record->finished_s == 20);
    CHECK_INT(record->picture_count, 2);
    CHECK(bw_store_use(s.store).open == 0 && bw_store_use(s.store).over == 1);
    CHECK(bw_store_use(s.store).bytes > 2 * 70000);
    CHECK_TEXT(record->result, "{\"model_digest\":\"x\"}");
    CHECK_INT(read_back(&s, "", "one", 0, 70000), BW_OK);
    CHECK_INT(read_back(&s, "", "one", 1, 70000), BW_OK);
    CHECK_INT(finish(&s, "", "one", 21, 1, 1), BW_ENOTFOUND);
    CHECK_INT(finish(&s, "", "two", 21, 1, 1), BW_ENOTFOUND);
    CHECK(!bw_store_was(s.store, "", "one"));
    CHECK(bw_store_remove(s.store, "", "one") && !bw_store_remove(s.store, "", "one"));
    CHECK(!bw_store_find(s.store, "", "one") && bw_store_was(s.store, "", "one"));
    CHECK(bw_store_use(s.store).over == 0 && bw_store_use(s.store).bytes == 0);
    CHECK_INT(add(&s, "", "one", 30), BW_OK);
    CHECK_INT(finish(&s, "", "one", 31, 0, 0), BW_OK);
    record = bw_store_find(s.store, "", "one");
    CHECK(record && record->outcome == BW_JOB_FAILED && record->picture_count == 0);
    end_scene(&s);
}

static void check_owners(bool on_disk)
{
    struct scene s = new_scene(on_disk, &roomy);
    CHECK_INT(add(&s, "alice", "job", 1), BW_OK);
    CHECK(!bw_store_find(s.store, "", "job") && !bw_store_find(s.store, "bob", "job"));
    CHECK_INT(add(&s, "bob", "job", 2), BW_OK);
    CHECK_INT(add(&s, "", "job", 3), BW_OK);
    CHECK(bw_store_find(s.store, "alice", "job")->created_s == 1);
    CHECK(bw_store_find(s.store, "bob", "job")->created_s == 2);
    CHECK(bw_store_remove(s.store, "bob", "job"));
    CHECK(bw_store_was(s.store, "bob", "job") && !bw_store_was(s.store, "alice", "job"));
    CHECK(bw_store_find(s.store, "alice", "job") && bw_store_find(s.store, "", "job"));
    end_scene(&s);
}

static void check_refused(bool on_disk)
{
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      "a/b",
                                      "a b",
                                      "\xc3\xa4",
                                      "a\n",
                                      "0123456789012345678901234567890123456789"
                                      "01234567890123456789012345"};
    struct scene s = new_scene(on_disk, &roomy);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_OF(!bw_record_id_ok(bad[i]), "%s", bad[i]);
    CHECK_INT(add(&s, "", "a/b", 1), BW_ERANGE);
    CHECK_INT(add(&s, "a\nb", "a", 1), BW_ERANGE);
    struct bw_record record = admission("", "a", 1);
    record.fingerprint[0] = 'G';
    CHECK_INT(bw_store_add(s.store, &record, note_saved, &s, NULL), BW_ERANGE);
    CHECK(!bw_store_find(s.store, "", "a") && s.saved == 0);
    end_scene(&s);
}

static void check_limits(bool on_disk)
{
    const struct bw_store_limits tight = {.keep_s = 100, .bytes = 10000, .records = 4};
    struct scene s = new_scene(on_disk, &tight);
    CHECK_INT(add(&s, "", "open", 1), BW_OK);
    CHECK_INT(add(&s, "", "first", 2), BW_OK);
    CHECK_INT(add(&s, "", "second", 3), BW_OK);
    CHECK_INT(finish(&s, "", "second", 11, 1, 4000), BW_OK);
    CHECK_INT(finish(&s, "", "first", 12, 1, 4000), BW_OK);
    CHECK(bw_store_find(s.store, "", "second"));
    CHECK_INT(add(&s, "", "third", 4), BW_OK);
    CHECK_INT(finish(&s, "", "third", 13, 1, 4000), BW_OK); // now the first to finish has to go
    CHECK(!bw_store_find(s.store, "", "second") && bw_store_was(s.store, "", "second"));
    CHECK(bw_store_find(s.store, "", "first") && bw_store_find(s.store, "", "third"));
    CHECK_INT(add(&s, "", "huge", 5), BW_OK);
    CHECK_INT(finish(&s, "", "huge", 14, 1, 20000),
              BW_OK); // is kept, and nothing finished beside it
    CHECK(bw_store_find(s.store, "", "huge") && !bw_store_find(s.store, "", "third"));
    CHECK(bw_store_find(s.store, "", "open"));
    CHECK_INT(add(&s, "", "a", 6), BW_OK);
    CHECK_INT(add(&s, "", "b", 7), BW_OK);
    CHECK_INT(add(&s, "", "c", 8), BW_OK); // one record too many: the finished one goes
    CHECK(!bw_store_find(s.store, "", "huge") && bw_store_was(s.store, "", "huge"));
    CHECK_INT(add(&s, "", "d", 9), BW_EBUSY);
    CHECK(bw_store_find(s.store, "", "open") && !bw_store_find(s.store, "", "d"));
    end_scene(&s);
}

static void check_expiry(bool on_disk)
{
    struct scene s = new_scene(on_disk, &roomy);
    CHECK_INT(add(&s, "", "old", 1), BW_OK);
    CHECK_INT(add(&s, "", "new", 1), BW_OK);
    CHECK_INT(add(&s, "", "open", 1), BW_OK);
    CHECK_INT(finish(&s, "", "old", 10, 1, 10), BW_OK);
    CHECK_INT(finish(&s, "", "new", 11, 1, 10), BW_OK);
    bw_store_sweep(s.store, 109);
    CHECK(bw_store_find(s.store, "", "old"));
    bw_store_sweep(s.store, 110);
    CHECK(!bw_store_find(s.store, "", "old") && bw_store_was(s.store, "", "old"));
    CHECK(bw_store_find(s.store, "", "new") && bw_store_find(s.store, "", "open"));
    bw_store_sweep(s.store, INT64_MAX);
    CHECK(!bw_store_find(s.store, "", "new") && bw_store_find(s.store, "", "open"));
    end_scene(&s);
}

static void check_tombstones(bool on_disk)
{
    struct scene s = new_scene(on_disk, &roomy);
    char id[16];
    for (int i = 0; i < 1025; i++) {
        struct bw_record record = admission("", "x", i);
        snprintf(record.id, sizeof record.id, "%d", i);
        CHECK_INT(bw_store_add(s.store, &record, NULL, NULL, NULL), BW_OK);
        CHECK(bw_store_remove(s.store, "", record.id));
    }
    CHECK(!bw_store_was(s.store, "", "0")); // as many are remembered, and no more
    for (int i = 1; i < 1025; i++) {
        snprintf(id, sizeof id, "%d", i);
        CHECK_OF(bw_store_was(s.store, "", id), "%s", id);
    }
    end_scene(&s);
}

static void note_unfinished(void *context, const struct bw_record *record)
{
    strcat(strcat(context, record->id), " ");
}

static void check_unfinished(bool on_disk)
{
    struct scene s = new_scene(on_disk, &roomy);
    char ids[100] = "";
    CHECK_INT(add(&s, "", "b", 1), BW_OK);
    CHECK_INT(add(&s, "", "c", 2), BW_OK);
    CHECK_INT(add(&s, "", "a", 3), BW_OK);
    CHECK_INT(finish(&s, "", "c", 10, 1, 10), BW_OK);
    bw_store_each_unfinished(s.store, note_unfinished, ids);
    CHECK_TEXT(ids, "b a ");
    end_scene(&s);
}

#define FOR_BOTH(name)                 \
    static void name##_in_memory(void) \
    {                                  \
        check_##name(false);           \
    }                                  \
    static void name##_on_disk(void)   \
    {                                  \
        check_##name(true);            \
    }

FOR_BOTH(life)
FOR_BOTH(owners)
FOR_BOTH(refused)
FOR_BOTH(limits)
FOR_BOTH(expiry)
FOR_BOTH(tombstones)
FOR_BOTH(unfinished)

/* ---- the directory ---- */

static void restarts(void)
{
    struct scene s = new_scene(true, &roomy);
    char ids[100] = "";
    CHECK_INT(add(&s, "alice", "...", 1), BW_OK);
    CHECK_INT(add(&s, "bob smith", "con", 2), BW_OK);
    CHECK_INT(add(&s, "", "-rf", 3), BW_OK);
    CHECK_INT(add(&s, "", "gone", 4), BW_OK);
    CHECK_INT(finish(&s, "alice", "...", 10, 2, 70000), BW_OK);
    CHECK_INT(finish(&s, "bob smith", "con", 9, 0, 0), BW_OK);
    CHECK(bw_store_remove(s.store, "", "gone"));
    restart(&s, &roomy);
    const struct bw_record *done = bw_store_find(s.store, "alice", "...");
    const struct bw_record *failed = bw_store_find(s.store, "bob smith", "con");
    REQUIRE(done && failed);
    CHECK(done->outcome == BW_JOB_COMPLETED && done->created_s == 1 && done->finished_s == 10);
    CHECK_TEXT(done->result, "{\"model_digest\":\"x\"}");
    CHECK_TEXT(done->body, "{\"class\":\"plums\",\"seed\":7}");
    CHECK_TEXT(done->fingerprint, admission("", "...", 0).fingerprint);
    CHECK(failed->outcome == BW_JOB_FAILED && failed->picture_count == 0);
    CHECK_INT(read_back(&s, "alice", "...", 1, 70000), BW_OK);
    CHECK_INT(read_back(&s, "alice", "...", 0, 70000), BW_OK);
    CHECK(!bw_store_find(s.store, "", "gone"));
    bw_store_each_unfinished(s.store, note_unfinished, ids);
    CHECK_TEXT(ids, "-rf ");
    CHECK_INT(finish(&s, "", "-rf", 11, 1, 5), BW_OK); // what was found open goes on
    restart(&s, &roomy);
    CHECK_INT(read_back(&s, "", "-rf", 0, 5), BW_OK);
    const struct bw_store_limits tight = {.keep_s = 100, .bytes = 1000, .records = 100};
    restart(&s, &tight); // the order in which they finished is known again
    CHECK(!bw_store_find(s.store, "alice", "...") && !bw_store_find(s.store, "bob smith", "con"));
    CHECK(bw_store_find(s.store, "", "-rf"));
    end_scene(&s);
}

/* What is asked for in one go is done in that order, and the last word counts. */
static void quick_changes(void)
{
    struct scene s = new_scene(true, &roomy);
    for (int i = 0; i < 20; i++) {
        struct bw_record record = admission("", "job", i);
        CHECK_INT(bw_store_add(s.store, &record, note_saved, &s, NULL), BW_OK);
        if (i < 19)
            CHECK(bw_store_remove(s.store, "", "job"));
        CHECK_INT(s.saved, i < 19 ? i + 1 : 19);
        CHECK(i == 19 || s.code == BW_ECANCELLED);
    }
    CHECK_INT(wait_saved(&s, 20), BW_OK);
    restart(&s, &roomy); // the end waits for what was asked for
    s.saved = 0;
    REQUIRE(bw_store_find(s.store, "", "job"));
    CHECK_INT(start_finish(&s, "", "job", 30, 1, 50), BW_OK);
    CHECK_INT(read_back(&s, "", "job", 0, 50), BW_OK); // while it is being written
    CHECK(bw_store_find(s.store, "", "job")->outcome == BW_JOB_COMPLETED);
    restart(&s, &roomy);
    s.saved = 0;
    const struct bw_record *record = bw_store_find(s.store, "", "job");
    REQUIRE(record);
    CHECK(record->created_s == 19 && record->outcome == BW_JOB_COMPLETED);
    CHECK(bw_store_remove(s.store, "", "job"));
    restart(&s, &roomy);
    CHECK(!bw_store_find(s.store, "", "job"));
    end_scene(&s);
}

static void a_picture_whose_file_is_gone(void)
{
    struct scene s = new_scene(true, &roomy);
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    CHECK_INT(finish(&s, "", "job", 2, 1, 50), BW_OK);
    char key[BW_SHA256_CHARS], path[256];
    bw_record_key("", "job", key);
    snprintf(path, sizeof path, "%s/record-%s", s.path, key);
    unlink(path);
    bw_store_picture(s.store, bw_store_find(s.store, "", "job"), 0, note_picture, &s);
    CHECK_INT(wait_saved(&s, 1), BW_ENOTFOUND);
    end_scene(&s);
}

/* Whoever waits for a picture is called at the end, too, since it has to be freed. */
static void a_picture_on_its_way_at_the_end(void)
{
    struct scene s = new_scene(true, &roomy);
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    CHECK_INT(finish(&s, "", "job", 2, 1, 50), BW_OK);
    bw_store_picture(s.store, bw_store_find(s.store, "", "job"), 0, note_picture, &s);
    end_scene(&s);
    CHECK_INT(s.saved, 1);
    CHECK_INT(s.code, BW_OK);
}

static void truncate_record(const char *path, void *context)
{
    struct stat file;
    if (strstr(path, "record-") && stat(path, &file) == 0)
        CHECK(truncate(path, file.st_size - *(int *)context) == 0);
}

/* Change the byte so far from the end of every record. */
static void spoil_record(const char *path, void *context)
{
    int fd = strstr(path, "record-") ? open(path, O_RDWR) : -1;
    char byte = '!';
    if (fd >= 0)
        CHECK(lseek(fd, -*(int *)context, SEEK_END) > 0 && write(fd, &byte, 1) == 1);
    close(fd);
}

static void count_broken(const char *path, void *context)
{
    *(int *)context += strstr(path, ".broken") != NULL;
}

static void check_damage(void (*damage)(const char *path, void *context), int argument)
{
    struct scene s = new_scene(true, &roomy);
    int broken = 0;
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    CHECK_INT(finish(&s, "", "job", 2, 1, 500), BW_OK);
    close_scene(&s);
    CHECK_INT(each_file(&s, damage, &argument), 2); // it and the lock
    open_scene(&s, &roomy);
    CHECK_OF(!bw_store_find(s.store, "", "job"), "%d", argument);
    CHECK_INT(add(&s, "", "job", 3), BW_OK);
    CHECK_INT(each_file(&s, count_broken, &broken), 3);
    CHECK_OF(broken == 1, "%d", argument);
    restart(&s, &roomy); // once is enough
    CHECK(bw_store_find(s.store, "", "job"));
    end_scene(&s);
}

static void damaged_files(void)
{
    check_damage(truncate_record, 1);   // a byte of the picture is missing
    check_damage(truncate_record, 520); // so is a part of the header
    check_damage(spoil_record, 520);    // the header says something else
}

/* Only whoever wants the picture can notice, and only of that one. */
static void damaged_pictures(void)
{
    struct scene s = new_scene(true, &roomy);
    int argument = 1;
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    CHECK_INT(finish(&s, "", "job", 2, 2, 500), BW_OK);
    each_file(&s, spoil_record, &argument);
    restart(&s, &roomy);
    CHECK_INT(read_back(&s, "", "job", 0, 500), BW_OK);
    CHECK_INT(read_back(&s, "", "job", 1, 500), BW_EIO);
    end_scene(&s);
}

static void a_record_under_a_wrong_name(void)
{
    struct scene s = new_scene(true, &roomy);
    char key[BW_SHA256_CHARS], from[256], to[256];
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    close_scene(&s);
    bw_record_key("", "job", key);
    snprintf(from, sizeof from, "%s/record-%s", s.path, key);
    bw_record_key("", "another", key);
    snprintf(to, sizeof to, "%s/record-%s", s.path, key);
    CHECK(rename(from, to) == 0);
    open_scene(&s, &roomy);
    CHECK(!bw_store_find(s.store, "", "job") && !bw_store_find(s.store, "", "another"));
    CHECK(access(to, F_OK));
    end_scene(&s);
}

static void files_of_others_are_left_alone(void)
{
    struct scene s = new_scene(true, &roomy);
    char notes[256], incoming[256], folder[256];
    snprintf(notes, sizeof notes, "%s/record-notes.txt", s.path);
    snprintf(incoming, sizeof incoming, "%s/incoming", s.path);
    snprintf(folder, sizeof folder, "%s/folder", s.path);
    close(open(notes, O_CREAT | O_WRONLY, 0600));
    close(open(incoming, O_CREAT | O_WRONLY, 0600));
    mkdir(folder, 0700);
    restart(&s, &roomy);
    CHECK(access(notes, F_OK) == 0 && access(folder, F_OK) == 0);
    CHECK(access(incoming, F_OK)); // of a write that was interrupted
    rmdir(folder);
    end_scene(&s);
}

static void one_server_to_a_directory(void)
{
    struct scene s = new_scene(true, &roomy);
    struct bw_store *second = NULL;
    struct bw_err err = {0};
    CHECK_INT(bw_store_new(&second, s.loop, s.path, &roomy, &err), BW_EBUSY);
    CHECK_HOLDS(err.message, "another server");
    CHECK(!second);
    restart(&s, &roomy); // free again
    end_scene(&s);
}

static void directories(void)
{
    struct scene s = new_scene(true, &roomy);
    struct bw_store *store = NULL;
    char path[256];
    snprintf(path, sizeof path, "%s/lock", s.path); // a file
    CHECK_INT(bw_store_new(&store, s.loop, path, &roomy, NULL), BW_EIO);
    snprintf(path, sizeof path, "%s/a/b", s.path);
    CHECK_INT(bw_store_new(&store, s.loop, path, &roomy, NULL), BW_EIO);
    snprintf(path, sizeof path, "%s/new", s.path);
    REQUIRE(bw_store_new(&store, s.loop, path, &roomy, NULL) == BW_OK);
    bw_store_free(store);
    strcat(path, "/lock");
    unlink(path);
    *strrchr(path, '/') = '\0';
    CHECK(rmdir(path) == 0);
    end_scene(&s);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_disk_without_room(void)
{
    struct scene s = new_scene(true, &roomy);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(add(&s, "", "job", 1), BW_OK);
    limit_files(100);
    CHECK_INT(add(&s, "", "refused", 2), BW_EIO);
    CHECK(!bw_store_find(s.store, "", "refused") && !bw_store_was(s.store, "", "refused"));
    CHECK_INT(finish(&s, "", "job", 3, 1, 5000), BW_EIO);
    limit_files(RLIM_INFINITY);
    CHECK(bw_store_find(s.store, "", "job")->outcome == BW_JOB_COMPLETED); // kept in memory
    CHECK_INT(read_back(&s, "", "job", 0, 5000), BW_OK);
    restart(&s, &roomy);
    const struct bw_record *record = bw_store_find(s.store, "", "job");
    CHECK(record && record->outcome == BW_JOB_OPEN && record->picture_count == 0);
    CHECK(!bw_store_find(s.store, "", "refused"));
    CHECK_INT(finish(&s, "", "job", 4, 1, 5000), BW_OK);
    restart(&s, &roomy);
    CHECK_INT(read_back(&s, "", "job", 0, 5000), BW_OK);
    end_scene(&s);
}

/* Whoever asks for it would wait for its pictures for ever. */
static void completed_without_pictures(void)
{
    static const enum bw_job_end outcomes[] = {BW_JOB_FAILED, BW_JOB_COMPLETED};
    for (int i = 0; i < 2; i++) {
        struct bw_record record = admission("", "plums", 1), read = {0};
        struct bw_buf header = {0};
        struct bw_err err = {0};
        record.outcome = outcomes[i];
        record.finished_s = 2;
        record.result = "{}";
        bw_record_write(&record, &header);
        int code =
            bw_record_parse(&read, header.data, header.length_bytes, header.length_bytes, &err);
        CHECK_INT(code, outcomes[i] == BW_JOB_COMPLETED ? BW_ESYNTAX : BW_OK);
        bw_record_release(&read);
        bw_buf_release(&header);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(life_in_memory),
                                              TEST(life_on_disk),
                                              TEST(owners_in_memory),
                                              TEST(owners_on_disk),
                                              TEST(refused_in_memory),
                                              TEST(refused_on_disk),
                                              TEST(limits_in_memory),
                                              TEST(limits_on_disk),
                                              TEST(expiry_in_memory),
                                              TEST(expiry_on_disk),
                                              TEST(tombstones_in_memory),
                                              TEST(tombstones_on_disk),
                                              TEST(unfinished_in_memory),
                                              TEST(unfinished_on_disk),
                                              TEST(restarts),
                                              TEST(quick_changes),
                                              TEST(a_picture_whose_file_is_gone),
                                              TEST(a_picture_on_its_way_at_the_end),
                                              TEST(damaged_files),
                                              TEST(damaged_pictures),
                                              TEST(a_record_under_a_wrong_name),
                                              TEST(completed_without_pictures),
                                              TEST(files_of_others_are_left_alone),
                                              TEST(one_server_to_a_directory),
                                              TEST(directories),
                                              TEST(a_disk_without_room)};
    bw_log_setup(BW_LOG_OFF, BW_LOG_LOGFMT); // damage is reported there
    return CHECK_RUN("store", tests);
}
