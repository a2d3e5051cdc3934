/* Mix: what a generated load asks for, as a file: one JSON object a line,
 *
 *     {"weight": 3, "client": "127.0.0.2", "request": {"steps": 12}, "deadline_ms": [300, 900]}
 *
 * Only `request` is needed. An entry is drawn with its weight (default 1); with `deadline_ms` each
 * of its requests gets a deadline of its own, a whole number drawn evenly from that range. Empty
 * lines are skipped. One thread.
 */
#ifndef BW_CLI_LOAD_MIX_H
#define BW_CLI_LOAD_MIX_H

#include "api/trace.h"
#include "base/err.h"

enum { BW_LOAD_GROUPS = 32 }; // the most entries

struct bw_load_entry {
    double weight;
    char client[BW_TRACE_CLIENT_CHARS]; // "": any
    char *body;                         // a valid request as JSON without spaces
    int deadline_ms[2];                 // both ends belong to the range; 0: none
};

struct bw_load_mix {
    struct bw_load_entry entries[BW_LOAD_GROUPS];
    int count; // at least 1 once read
};

/* Read a mix file, or make a mix of one request body. BW_EIO, BW_ENOMEM, or BW_ERANGE with the line
 * in the message. The caller releases the mix in either case. */
int bw_load_mix_read(struct bw_load_mix *mix, const char *path, struct bw_err *err);
int bw_load_mix_one(struct bw_load_mix *mix, const char *body, struct bw_err *err);

void bw_load_mix_release(struct bw_load_mix *mix);

#endif
