/* Preloaded into a program by a test: memory and threads run out when the test says so, and every
 * block that is not freed is counted for the one who asked for it.
 *
 * Both sides share the file that the environment variable SCARCE names, so the test can look and
 * change its mind while the program runs, and look once more when that has ended, in whatever way.
 * Each block has a tag at the end of what malloc_usable_size() says it has: the module, i.e. the
 * program or library, that asked for it. Glibc's own functions that allocate (strdup, fopen) count
 * as its own. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

enum { MODULES = 96, NAME = 56, TAG_BYTES = 8 };
#define TAG 0x5ca5cefa17000000u // the module is in the lowest byte

/* As test_memory.py unpacks it. */
struct shared {
    _Atomic int64_t fail_at;    // 1: the next one is refused; 0: none is
    _Atomic int64_t fail_count; // how many are, in a row
    _Atomic int64_t only;       // count only those of this module; negative: all
    _Atomic int64_t refused;
    _Atomic int64_t refused_module; // the last one was asked for by
    struct {
        char name[NAME];        // "": there are no more
        _Atomic int64_t seen;   // asked for so far
        _Atomic int64_t blocks; // it has and has not freed
    } modules[MODULES];         // the first is the program
};

struct range {
    uintptr_t first, last;
};

static struct shared unused, *shared = &unused;
static struct range ranges[MODULES];
static int module_count;
static atomic_int state; // 0: not looked yet, 1: looking, 2: done

static int add_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size, (void)context;
    if (module_count == MODULES)
        return 1;
    struct range *r = &ranges[module_count];
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_X)
            *r = (struct range){info->dlpi_addr + part->p_vaddr,
                                info->dlpi_addr + part->p_vaddr + part->p_memsz};
    }
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : *info->dlpi_name ? info->dlpi_name : "program";
    strncpy(shared->modules[module_count++].name, name, NAME - 1);
    return 0;
}

/* The first allocation may come long before any constructor. */
static void look(void)
{
    int untouched = 0;
    const char *path = environ ? getenv("SCARCE") : NULL;
    if (!environ || !atomic_compare_exchange_strong(&state, &untouched, 1))
        return;
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED
                       : (void *)syscall(SYS_mmap, NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                         MAP_SHARED, fd, 0L);
    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED)
        shared = map;
    dl_iterate_phdr(add_module, NULL);
    atomic_store(&state, 2);
}

static int module_of(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    if (atomic_load(&state) != 2)
        look();
    for (int i = 0; i < module_count; i++) {
        if (at >= ranges[i].first && at < ranges[i].last)
            return i;
    }
    return MODULES - 1; // before we looked
}

static bool is_refused(int module)
{
    int64_t only = atomic_load(&shared->only);
    atomic_fetch_add(&shared->modules[module].seen, 1);
    if ((only >= 0 && only != module) || atomic_load(&shared->fail_at) <= 0)
        return false;
    int64_t left = atomic_fetch_sub(&shared->fail_at, 1);
    if (left != 1)
        return false;
    if (atomic_fetch_sub(&shared->fail_count, 1) > 1)
        atomic_store(&shared->fail_at, 1); // and the one after this
    atomic_fetch_add(&shared->refused, 1);
    atomic_store(&shared->refused_module, module);
    return true;
}

static uint64_t *tag_of(void *block)
{
    return (uint64_t *)((char *)block + malloc_usable_size(block) - TAG_BYTES);
}

static void *tagged(void *block, int module)
{
    if (!block)
        return NULL;
    *tag_of(block) = TAG | (uint64_t)module;
    atomic_fetch_add(&shared->modules[module].blocks, 1);
    return block;
}

static void untag(void *block)
{
    uint64_t *tag = tag_of(block);
    if ((*tag & ~(uint64_t)0xff) != TAG)
        return;
    atomic_fetch_sub(&shared->modules[*tag & 0xff].blocks, 1);
    *tag = 0;
}

static void *none(void)
{
    errno = ENOMEM;
    return NULL;
}

#define MODULE module_of(__builtin_return_address(0))

void *malloc(size_t size)
{
    int module = MODULE;
    return is_refused(module) ? none() : tagged(__libc_malloc(size + TAG_BYTES), module);
}

void *calloc(size_t count, size_t size)
{
    int module = MODULE;
    size_t bytes;
    if (is_refused(module) || __builtin_mul_overflow(count, size, &bytes))
        return none();
    return tagged(__libc_calloc(1, bytes + TAG_BYTES), module);
}

void *realloc(void *block, size_t size)
{
    int module = MODULE;
    if (block && !size) {
        free(block);
        return NULL;
    }
    if (is_refused(module))
        return none();
    if (block)
        untag(block);
    return tagged(__libc_realloc(block, size + TAG_BYTES), module);
}

void *memalign(size_t align, size_t size)
{
    int module = MODULE;
    return is_refused(module) ? none() : tagged(__libc_memalign(align, size + TAG_BYTES), module);
}

void *aligned_alloc(size_t align, size_t size)
{
    int module = MODULE;
    return is_refused(module) ? none() : tagged(__libc_memalign(align, size + TAG_BYTES), module);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    int module = MODULE;
    void *block =
        is_refused(module) ? NULL : tagged(__libc_memalign(align, size + TAG_BYTES), module);
    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

void free(void *block)
{
    int before = errno;
    if (block)
        untag(block);
    __libc_free(block);
    errno = before;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (is_refused(MODULE)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return is_refused(MODULE) ? EAGAIN : real(thread, attributes, run, argument);
}
