/* The version of everything in this tree: semantic versioning of the HTTP contract. */
#ifndef BW_BASE_VERSION_H
#define BW_BASE_VERSION_H

#define BW_VERSION "0.2.0"

#endif
