/* Process: what the system knows of this process, as the metrics that every Prometheus client
 * library has. Any thread.
 */
#ifndef BW_SERVER_PROCESS_H
#define BW_SERVER_PROCESS_H

#include "base/buf.h"

/* Append them; what the system does not tell is left out. */
void bw_process_render(struct bw_buf *out);

#endif
