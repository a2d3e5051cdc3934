/* What the encoders do when memory runs out: malloc() here refuses one large block at a time,
 * each in a child of its own, because what used to be a crash would end the other tests. Sanitizers
 * bring their own malloc(), so under them every child simply succeeds. */
#include "image/encode.h"
#include "tests/unit/check.h"
#include "tests/unit/random.h"

#include <sys/wait.h>
#include <unistd.h>

enum { SIDE = 256, LARGE_BYTES = 4096, MOST_BLOCKS = 24 };

static int blocks_left = -1; // large blocks until the refused one; negative: never

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_malloc(size_t size);

void *malloc(size_t size)
{
    if (blocks_left >= 0 && size >= LARGE_BYTES && blocks_left-- == 0)
        return NULL;
    return __libc_malloc(size);
}
#endif

static unsigned char rgb[SIDE * SIDE * 3];

/* Encode while one large block is refused; in a child, whose exit status this is. */
static int encode_without(int block, const struct bw_encoding *encoding)
{
    struct bw_buf out = {0};
    struct bw_err err = {0};
    fclose(stderr);
    blocks_left = block;
    int code = bw_image_encode(rgb, SIDE, SIDE, encoding, &out, &err);
    blocks_left = -1;
    bw_buf_release(&out);
    return code == BW_OK || *err.message ? 0 : 1;
}

static void images_without_memory(void)
{
    static const struct bw_encoding encodings[] = {
        {.format = BW_FORMAT_JPEG, .quality = 95},
        {.format = BW_FORMAT_JPEG, .quality = 95, .progressive = true, .comment = "x"},
        {.format = BW_FORMAT_PNG, .comment = "x"},
        {.format = BW_FORMAT_WEBP, .quality = 95},
        {.format = BW_FORMAT_WEBP, .quality = 95, .comment = "x"}};
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (unsigned char)random_next(&random);
    for (int i = 0; i < (int)(sizeof encodings / sizeof *encodings) * MOST_BLOCKS; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(encode_without(i % MOST_BLOCKS, &encodings[i / MOST_BLOCKS]));
        int status = -1;
        waitpid(child, &status, 0);
        CHECK_OF(WIFEXITED(status) && WEXITSTATUS(status) == 0, "encoding %d, block %d: status %d",
                 i / MOST_BLOCKS, i % MOST_BLOCKS, status);
    }
}

int main(void)
{
    static const struct check_test tests[] = {TEST(images_without_memory)};
    return CHECK_RUN("memory", tests);
}
