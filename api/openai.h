/* OpenAI: the body of POST /v1/images/generations as a request of our own.
 *
 * openapi.yaml, schema ImagesRequest, is the contract: the fields of OpenAI's images API that have
 * a meaning here. The prompt picks a class: the one whose words it holds. Any thread.
 */
#ifndef BW_API_OPENAI_H
#define BW_API_OPENAI_H

#include "api/request.h"

#include <stdbool.h>

/* Read a body. The class is left to bw_openai_class(); `prompt` gets the prompt, which has to fit.
 * Errors as bw_request_parse(). */
int bw_openai_parse(struct bw_request *request, char *prompt, size_t prompt_room, const char *body,
                    size_t length, struct bw_err *err);

/* The quality, in that API's words, of a request that asks for this skip: "low", "medium" or
 * "high".
 */
const char *bw_openai_quality(const struct bw_skip *asked);

/* The class a prompt asks for: all words of its name are words of the prompt, letter case and a
 * plural's ending aside; of several the one with the longest name. -1 if there is none. */
int bw_openai_class(const char *prompt, const char (*class_names)[BW_NAME_CHARS], int class_count);

#endif
