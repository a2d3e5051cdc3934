/* Parts: the JSON values that several bodies have in common. For api/ only.
 *
 * Every function returns a new value, which the caller owns (json_pack() takes it over), or NULL
 * without memory. Any thread.
 */
#ifndef BW_API_PARTS_H
#define BW_API_PARTS_H

#include "api/response.h"

#include <jansson.h>

json_t *bw_skip_json(const struct bw_skip *skip);

/* "WxH". */
json_t *bw_size_json(const struct bw_picture *picture);

/* Schema EffectiveRequest: what it requires, and what else is not as by default. Model, size and
 * format have to be settled. */
json_t *bw_request_json(const struct bw_request *request);

/* Text that is base64 of these bytes. */
json_t *bw_base64_json(const void *bytes, size_t count);

/* Milliseconds to the microsecond: more digits would only claim what no clock here knows. */
json_t *bw_ms_json(double ms);

json_t *bw_timings_json(const struct bw_timings *timings);

json_t *bw_cost_json(const struct bw_generation *generation);

json_t *bw_offer_json(const struct bw_offer *offer);

#endif
