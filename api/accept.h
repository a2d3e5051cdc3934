/* Accept: which of the offered media types a client prefers (RFC 9110, section 12.5.1). Any thread.
 */
#ifndef BW_API_ACCEPT_H
#define BW_API_ACCEPT_H

/* The index of the offer with the highest quality value, the first of equals; -1 if the client
 * takes none of them. `offers` are lower-case types without parameters; `accept` is the field's
 * value, NULL or blank if there was none (then everything is welcome). A more specific range
 * outweighs a wildcard; parameters other than q are ignored; a range that does not parse counts for
 * nothing. */
int bw_accept_choose(const char *accept, const char *const *offers, int count);

#endif
