#include "base/path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MODEL "models/pomology-128.safetensors"

void bw_default_model(char path[BW_PATH_CHARS])
{
    static const char *const beside[] = {"/../" MODEL, "/../share/brickwork/" MODEL};
    char program[BW_PATH_CHARS - 64];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(program, '/');
    snprintf(path, BW_PATH_CHARS, "%s", MODEL);
    for (int i = 0; slash && i < 2 && access(path, R_OK); i++) {
        *slash = '\0';
        snprintf(path, BW_PATH_CHARS, "%s%s", program, beside[i]);
    }
    if (access(path, R_OK))
        snprintf(path, BW_PATH_CHARS, "%s", MODEL);
}
