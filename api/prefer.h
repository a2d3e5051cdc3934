/* Prefer: what a client would like of the way it is answered (RFC 7240). Any thread.
 */
#ifndef BW_API_PREFER_H
#define BW_API_PREFER_H

#include <stdbool.h>

/* Does it prefer respond-async? `prefer` is the field's value, several fields joined with commas;
 * NULL if there was none. Letter case and parameters do not matter. The first instance of a
 * preference counts, one with a value is another, and an element that does not parse counts for
 * nothing. */
bool bw_prefer_async(const char *prefer);

#endif
