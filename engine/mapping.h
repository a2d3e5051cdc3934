/* Mapping: files in memory that may be cut short while they are there.
 *
 * What is beyond the end of a mapped file ends the process that reads it (SIGBUS). While a mapping
 * is watched, zeros are read there instead, and who reads can ask at the end whether that happened.
 * The handler is installed with the first mapping and leaves all other faults as they are. Any
 * thread.
 */
#ifndef BW_ENGINE_MAPPING_H
#define BW_ENGINE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>

/* Watch a mapping from now on, until bw_mapping_unwatch() before it is unmapped. At most 16 are
 * watched at a time; further ones are as dangerous as without. */
void bw_mapping_watch(const void *bytes, size_t size_bytes);

/* Was something read so far that the file does not hold any more? */
bool bw_mapping_is_torn(const void *bytes);

void bw_mapping_unwatch(const void *bytes);

#endif
