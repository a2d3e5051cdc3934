/* Answer: what an order that has ended is, in each of the forms a listener may want. Thread: the
 * loop's. */
#ifndef BW_SERVER_ANSWER_H
#define BW_SERVER_ANSWER_H

#include "server/order.h"

enum { BW_ETAG_CHARS = BW_DIGEST_CHARS + 2 };

/* Answer a listener that is no stream; its exchange is then over. */
void bw_answer(struct bw_listener *listener);

/* Answer with a picture or JSON made of a result whose request_id is settled. */
void bw_answer_result(struct bw_exchange *exchange, enum bw_form form,
                      const struct bw_generation *result);

/* What all events of this order have in common in OpenAI's shape. */
struct bw_openai_stream bw_answer_openai_stream(const struct bw_order *order);

/* Append the last event of a stream. */
void bw_answer_last_event(const struct bw_listener *listener, struct bw_buf *out);

/* The entity tag of the picture that an effective request stands for: a strong one, of everything
 * its bytes depend on. */
void bw_answer_etag(const struct bw_service *service, const struct bw_model *model,
                    const struct bw_request *effective, char etag[BW_ETAG_CHARS]);

/* What Cache-Control says of a picture with an address: only where a schedule is left to the
 * service may the same address mean another picture. */
const char *bw_answer_lasting(const struct bw_order *order);

/* The index of the offered media type that the client prefers (see bw_accept_choose()). None: -1,
 * and the exchange is refused with 406 and `reason`. */
int bw_answer_choose(struct bw_exchange *exchange, const char *const *offers, int count,
                     const char *reason);

/* Answer 304 if the client has what this tag names, saying of it what Cache-Control says with the
 * picture; false if it has not. */
bool bw_answer_not_modified(struct bw_exchange *exchange, const char *etag, const char *lasting);

/* Answer 500: there is no memory for the answer. */
void bw_answer_no_memory(struct bw_exchange *exchange);

/* Answer with a text of JSON (heap memory, which passes), or 500 if it is NULL. `extra`: NULL, or
 * up to two more fields, ended by a NULL name. */
void bw_answer_json(struct bw_exchange *exchange, int status, const struct bw_header *extra,
                    char *body);

#endif
