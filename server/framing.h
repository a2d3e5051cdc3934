/* Framing: may the head of a request be taken at its word, or could another server between here and
 * the client read it differently? (RFC 9112, sections 2.2, 3.2, 5, 6 and 11.2)
 *
 * Pure functions of the bytes that arrived, whatever they are. Any thread.
 */
#ifndef BW_SERVER_FRAMING_H
#define BW_SERVER_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

struct bw_framing {
    const char *fault;  // why the request is to be refused, a static text; NULL: it is not
    const char *host;   // value of the Host field, inside the head; NULL if there is none
    size_t field_bytes; // of all header fields
    bool chunked;       // the body comes in chunks
    bool unread; // the answer must not wait for the end of the body: nobody knows where that is
};

/* Judge a head from its protocol version on, in the form that libmicrohttpd leaves it in: NULs
 * stand for the colons after names and for CR and LF after lines, the empty one included; nothing
 * else has been touched. Spaces at the end of values, which are no part of them (RFC 9110, section
 * 5.5), become NULs; only in Transfer-Encoding, which the library has judged already, they are a
 * fault. */
void bw_framing_read(struct bw_framing *framing, char *head, size_t head_bytes);

/* Is this the name of a method or field? */
bool bw_framing_is_token(const char *text);

/* Does the target of a request have only characters that belong in one? Percent escapes are not
 * looked at, and bytes beyond ASCII are let through, since clients do send them. */
bool bw_framing_target_ok(const char *target);

/* The path in a target without its query: a path, or a URL of that host (NULL: of any). Points into
 * the target; NULL if it is neither. */
const char *bw_framing_path(const char *target, const char *host);

#endif
