/* Prompt: text that picks a class, in the shapes of other services' APIs. Any thread.
 */
#ifndef BW_API_PROMPT_H
#define BW_API_PROMPT_H

#include "base/picture.h"

enum { BW_PROMPT_CHARS = 4096 }; // room for a prompt with its NUL

/* The class a prompt asks for: all words of its name are words of the prompt, letter case and a
 * plural's ending aside; of several the one with the longest name. -1 if there is none. A longer
 * prompt than fits into BW_PROMPT_CHARS counts up to there at least. */
int bw_prompt_class(const char *prompt, const char (*class_names)[BW_NAME_CHARS], int class_count);

#endif
