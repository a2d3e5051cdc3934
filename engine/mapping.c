/* The handler may run in any thread that reads, so all it looks at is atomic; a slot is taken by
 * its address and complete before anyone reads what it watches. */
#include "engine/mapping.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_WATCHED = 16 };

static struct watched {
    _Atomic uintptr_t first; // 0: free
    _Atomic size_t size_bytes;
    atomic_bool torn;
} watched[MOST_WATCHED];
static size_t page_bytes;

static struct watched *find(uintptr_t at)
{
    for (int i = 0; i < MOST_WATCHED; i++) {
        uintptr_t first = atomic_load(&watched[i].first);
        if (first && at >= first && at - first < atomic_load(&watched[i].size_bytes))
            return &watched[i];
    }
    return NULL;
}

/* A page of zeros takes the place of the one that is not there; then the read is tried again. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    struct watched *w = find(at);
    void *page = (void *)(at / page_bytes * page_bytes);
    (void)context;
    if (w &&
        mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page)
        atomic_store(&w->torn, true);
    else
        signal(number, SIG_DFL); // the next try ends the process
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESTART};
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    sigaction(SIGBUS, &action, NULL);
}

void bw_mapping_watch(const void *bytes, size_t size_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    for (int i = 0; i < MOST_WATCHED; i++) {
        uintptr_t free_one = 0;
        if (!atomic_compare_exchange_strong(&watched[i].first, &free_one, (uintptr_t)bytes))
            continue;
        atomic_store(&watched[i].torn, false);
        atomic_store(&watched[i].size_bytes, size_bytes);
        return;
    }
}

bool bw_mapping_is_torn(const void *bytes)
{
    const struct watched *w = find((uintptr_t)bytes);
    return w && atomic_load(&w->torn);
}

void bw_mapping_unwatch(const void *bytes)
{
    struct watched *w = find((uintptr_t)bytes);
    if (!w)
        return;
    atomic_store(&w->size_bytes, 0);
    atomic_store(&w->first, 0);
}
