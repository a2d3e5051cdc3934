/* Cards: what the service says of its models and of itself.
 *
 * openapi.yaml, schemas ModelList, Model and Capabilities, is the contract. Every function returns
 * text that the caller free()s, or NULL without memory. Any thread.
 */
#ifndef BW_API_CARDS_H
#define BW_API_CARDS_H

#include "base/picture.h"

#include <stdbool.h>
#include <stdint.h>

struct bw_brick_card {
    int size, patch; // pixels of the picture
    int depth;
    double gigaflops; // of one evaluation at the model's own size
};

/* Of a model of latents. */
struct bw_decoder_card {
    const char *digest; // NULL: the network draws pixels
    int64_t parameters;
    double gigaflops; // of a picture of the model's own size
};

/* What GET /v1/models says of a model. */
struct bw_model_card {
    const char *name, *digest, *license, *source;
    int64_t created_s; // when it was loaded
    int64_t file_bytes, parameters;
    int image_size, min_size, side_multiple, max_area; // pixels
    struct bw_decoder_card decoder;
    int class_count;
    const char (*class_names)[BW_NAME_CHARS]; // [class_count]
    int brick_count;
    struct bw_brick_card bricks[BW_MAX_BRICKS];
    const char *presets[8]; // ends with NULL
};

char *bw_models_render(const struct bw_model_card *cards, int count);
char *bw_model_render(const struct bw_model_card *card);

enum { BW_MAX_POINTS = 24 };

/* A schedule's price in quality and in time. */
struct bw_curve_point {
    const char *preset; // its name; NULL in a curve
    double excess_loss;
    double cost; // share of full_ms
};

/* What quality costs with a model. */
struct bw_curve {
    const char *model;
    double full_ms; // a picture with every default and every brick, alone
    int preset_count, point_count;
    struct bw_curve_point presets[8];            // [preset_count]
    struct bw_curve_point points[BW_MAX_POINTS]; // [point_count] from the best to the cheapest
};

/* What the operator has switched on. */
struct bw_features {
    bool keys, webhooks, durable_jobs;
};

struct bw_capabilities {
    const char *kernels;
    int max_area, max_body_bytes, queue, queue_ms, keep_jobs_s;
    struct bw_features features;
    int model_count;
    const struct bw_curve *models; // [model_count]
};

char *bw_capabilities_render(const struct bw_capabilities *capabilities);

#endif
