/* Routes: which handler answers which path. */
#ifndef BW_SERVER_ROUTES_H
#define BW_SERVER_ROUTES_H

#include "server/service.h"

/* For bw_http_new(); `service` is a struct bw_service. Say in the answer to come what every answer
 * says, and answer. */
void bw_routes_greet(void *service, struct bw_exchange *exchange);
void bw_routes_handle(void *service, struct bw_exchange *exchange);

/* Does a path fit a pattern such as "/v1/jobs/{id}"? What stands in braces is one segment, not
 * empty. */
bool bw_route_matches(const char *pattern, const char *path);

/* The same for the admin listener: /metrics, /livez and /readyz, without keys. */
void bw_routes_handle_admin(void *service, struct bw_exchange *exchange);

/* Log and count an exchange that is over. Fits bw_http_new(). */
void bw_routes_observe(void *service, const struct bw_http_done *done);

#endif
