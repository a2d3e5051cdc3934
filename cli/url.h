/* URL: where on a server a command sends its requests. */
#ifndef BW_CLI_URL_H
#define BW_CLI_URL_H

#include "base/err.h"

enum { BW_URL_CHARS = 1024 };

/* The path, which begins with a slash, at the server that the option --url names. BW_ERANGE. */
int bw_cmd_url(char url[BW_URL_CHARS], const char *server, const char *path, struct bw_err *err);

#endif
