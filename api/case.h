/* Case: the parameters of a recorded case, by which an engine is compared with the reference.
 *
 * They stand as JSON in the metadata entry "case" of the recorded file. A denoise case is one
 * evaluation of the denoiser; a sample case is one picture from given noise. Any thread.
 */
#ifndef BW_API_CASE_H
#define BW_API_CASE_H

#include "base/err.h"
#include "base/picture.h"

#include <stdbool.h>
#include <stdint.h>

struct bw_case {
    bool sample; // false: a denoise case
    int width, height, label;
    double sigma;                 // denoise
    uint8_t mask;                 // denoise
    int shifts[BW_MAX_BRICKS][2]; // denoise: rows, columns
    int steps;                    // sample
    double guidance;              // sample
    enum bw_solver solver;        // sample
    int mask_count;               // sample: 0 (all bricks at every step) or steps
    uint8_t masks[BW_MAX_STEPS];  // sample
};

/* Read the text for a model of that many bricks and classes. BW_ESYNTAX, BW_ERANGE. */
int bw_case_read(struct bw_case *recorded, const char *text, int brick_count, int class_count,
                 struct bw_err *err);

#endif
