/* Pages: the playground, the API reference, and what they are made of. */
#ifndef BW_SERVER_PAGES_H
#define BW_SERVER_PAGES_H

#include "server/service.h"

/* GET of a path that server/assets.h lists: 200, or 304 for whoever has it; 404 for any other. */
void bw_pages_handle(struct bw_service *service, struct bw_exchange *exchange);

#endif
