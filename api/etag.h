/* ETag: If-None-Match (RFC 9110, section 13.1.2). Any thread.
 */
#ifndef BW_API_ETAG_H
#define BW_API_ETAG_H

#include <stdbool.h>

/* Does the client have it already? `etag` is what we would send, with its quotes; `if_none_match`
 * is the field's value, several fields joined with commas, NULL if there was none: "*", or a list
 * of entity tags, which are compared weakly. What does not parse to its end matches nothing, so
 * that the client gets the whole answer, which is never wrong. */
bool bw_etag_matches(const char *if_none_match, const char *etag);

#endif
