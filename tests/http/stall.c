/* Preloaded into a server by a test: the thread that writes a JPEG stands still as long as the file
 * that the environment variable STALL names is there, or ends if "end" is what it holds. "wait" in
 * it becomes "stands" then. */
#include <dlfcn.h>
#include <stdio.h> // jpeglib.h wants it first

#include <jpeglib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* AddressSanitizer's, which does not see that pthread_exit() leaves all frames. */
__attribute__((weak)) void __asan_handle_no_return(void);

void jpeg_start_compress(j_compress_ptr jpeg, boolean whole)
{
    void (*real)(j_compress_ptr, boolean);
    *(void **)&real = dlsym(RTLD_NEXT, "jpeg_start_compress");
    for (FILE *file; (file = fopen(getenv("STALL"), "r+"));) {
        char what[8] = "";
        char *read = fgets(what, sizeof what, file);
        if (read && strcmp(what, "wait") == 0) {
            rewind(file);
            fputs("stands", file);
        }
        fclose(file);
        if (read && strcmp(what, "end") == 0) {
            if (__asan_handle_no_return)
                __asan_handle_no_return();
            pthread_exit(NULL);
        }
        usleep(10000);
    }
    real(jpeg, whole);
}
