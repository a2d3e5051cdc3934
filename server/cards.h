/* Cards: what is answered about the models in service and about the service itself. */
#ifndef BW_SERVER_CARDS_H
#define BW_SERVER_CARDS_H

#include "api/cards.h"
#include "server/service.h"

/* GET /v1/models and GET /v1/models/{id}. */
void bw_cards_models(struct bw_service *service, struct bw_exchange *exchange);
void bw_cards_model(struct bw_service *service, struct bw_exchange *exchange);

/* GET /v1/capabilities, with what the service's settings do not say. */
void bw_cards_capabilities(struct bw_service *service, struct bw_exchange *exchange,
                           int keep_jobs_s, struct bw_features features);

#endif
