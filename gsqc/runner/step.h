/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of a run: by gradients, or by forward passes alone (gsqc/runtime/step_methods.py). */
#ifndef GSQC_STEP_H
#define GSQC_STEP_H

#include "batches.h"
#include "executor.h"

/* What a step uses, looked up once. `queries` is 0 for an optimizer that takes gradients. */
typedef struct {
    executor executor;
    const schedule *train, *gradient, *clip, *update, *evaluate, *perturb;
    int32_t *parts[SEQUENCE_PARTS], *inputs[STEP_INPUTS], *loss;
    int32_t *noise[NOISE_INPUTS], *moves;
    int32_t *step_number; /* NULL if the plan does not ask for it */
    uint32_t queries;
    const batches *batches;
} trainer;

/* What a step gave: the weighted loss (Q16 times Q14) of `runs` runs over the batch, the batch's
 * weight (Q14), and for each query the difference of the losses at its two ends. */
typedef struct {
    int64_t loss, weight, differences[MAXIMUM_QUERIES];
    uint32_t runs, queries;
} outcome;

/* After require_session, and with a prepared executor. */
void prepare_trainer(trainer *t, bundle *b, const batches *data);

/* One optimizer step, number `step` from 0. */
void take_step(trainer *t, uint64_t step, outcome *found);

#endif
