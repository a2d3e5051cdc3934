/* All of it is in /proc; the fields of /proc/self/stat are counted from the parenthesis after the
 * name, which may hold anything. */
#include "server/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Places in /proc/self/stat, as proc(5) counts. */
enum { NAME = 2, USER_TIME = 14, SYSTEM_TIME = 15, START_TIME = 22, VIRTUAL_BYTES, RESIDENT_PAGES };

static void add(struct bw_buf *out, const char *name, const char *type, const char *help,
                double value)
{
    bw_buf_addf(out, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s %.15g\n", name, help,
                name, type, name, value);
}

static double field(const char *after_name, int number)
{
    for (int i = NAME + 1; i < number; i++)
        after_name += strcspn(after_name + 1, " ") + 1;
    return strtod(after_name, NULL);
}

/* When the system started, in seconds since 1970, or 0. */
static double boot_s(void)
{
    struct bw_buf text = {0};
    const char *line = bw_buf_add_file(&text, "/proc/stat", NULL) || !text.data
                           ? NULL
                           : strstr(text.data, "\nbtime ");
    double seconds = line ? strtod(line + 7, NULL) : 0;
    bw_buf_release(&text);
    return seconds;
}

static void add_stat(struct bw_buf *out)
{
    struct bw_buf text = {0};
    double ticks = (double)sysconf(_SC_CLK_TCK), booted_s = boot_s();
    const char *rest = bw_buf_add_file(&text, "/proc/self/stat", NULL) || !text.data
                           ? NULL
                           : strrchr(text.data, ')');
    if (rest) {
        rest++;
        add(out, "cpu_seconds_total", "counter", "Processor time of all threads, user and system.",
            (field(rest, USER_TIME) + field(rest, SYSTEM_TIME)) / ticks);
        add(out, "resident_memory_bytes", "gauge", "Memory in use.",
            field(rest, RESIDENT_PAGES) * (double)sysconf(_SC_PAGESIZE));
        add(out, "virtual_memory_bytes", "gauge", "Address space in use.",
            field(rest, VIRTUAL_BYTES));
        if (booted_s > 0)
            add(out, "start_time_seconds", "gauge", "When the process started, since 1970.",
                booted_s + field(rest, START_TIME) / ticks);
    }
    bw_buf_release(&text);
}

static void add_descriptors(struct bw_buf *out)
{
    struct rlimit limit;
    DIR *folder = opendir("/proc/self/fd");
    if (folder) {
        int count = -3; // ".", ".." and the folder's own
        while (readdir(folder))
            count++;
        closedir(folder);
        add(out, "open_fds", "gauge", "Open file descriptors.", count);
    }
    if (!getrlimit(RLIMIT_NOFILE, &limit))
        add(out, "max_fds", "gauge", "File descriptors there may be.", (double)limit.rlim_cur);
}

void bw_process_render(struct bw_buf *out)
{
    add_stat(out);
    add_descriptors(out);
}
