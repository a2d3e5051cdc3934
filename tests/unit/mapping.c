/* A file that is cut short while it is mapped: zeros where it was, and the one who reads can know.
 */
#include "engine/mapping.h"

#include "tests/unit/check.h"

#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 8 * 4096 };

static void cut_short(void)
{
    char path[] = "/tmp/brickwork-mapping-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0 && unlink(path) == 0);
    unsigned char block[SIZE];
    memset(block, 7, sizeof block);
    REQUIRE(write(fd, block, sizeof block) == SIZE);
    volatile unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    REQUIRE(map != MAP_FAILED);
    const void *bytes = (const void *)map;
    bw_mapping_watch(bytes, SIZE);
    CHECK(map[0] == 7 && map[SIZE - 1] == 7 && !bw_mapping_is_torn(bytes));
    REQUIRE(ftruncate(fd, 4096) == 0);
    CHECK(map[0] == 7 && !bw_mapping_is_torn(bytes));
    CHECK(map[SIZE - 1] == 0 && bw_mapping_is_torn(bytes));
    CHECK(map[0] == 7 && map[5 * 4096] == 0);
    bw_mapping_unwatch(bytes);
    CHECK(!bw_mapping_is_torn(bytes));
    munmap((void *)map, SIZE);
    close(fd);
}

static void many_times(void)
{
    for (int i = 0; i < 100; i++) // more than can be watched at a time
        cut_short();
}

int main(void)
{
    static const struct check_test tests[] = {TEST(cut_short), TEST(many_times)};
    return CHECK_RUN("mapping", tests);
}
