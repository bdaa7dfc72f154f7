/* SPDX-License-Identifier: Apache-2.0 */
/* The token file that `gsqc tokens` writes: sequences, the order in which steps take them, and each
 * step's numbers. */
#ifndef GSQC_BATCHES_H
#define GSQC_BATCHES_H

#include "bundle.h"
#include "tensors.h"

/* What a sequence consists of. */
enum { TOKENS, LABELS, WEIGHTS, POSITIONS };
extern const char *const part_names[SEQUENCE_PARTS];

/* Mantissas and exponents of 1 / tokens, the learning rate, the weight decay, and the largest norm:
 * 0 for none. */
extern const char *const step_inputs[STEP_INPUTS];

typedef struct {
    held file;
    uint64_t steps, sequences;
    uint32_t length, batch, vocabulary;
    const int32_t *parts[SEQUENCE_PARTS];   /* [sequences, length] */
    const int32_t *order;                   /* [steps, batch]: numbers of sequences */
    const int32_t *inputs[STEP_INPUTS];     /* [steps] */
    const char *settings;                   /* JSON: what a run must keep to */
    bool sums;                              /* whether a step sums gradients before its update */
} batches;

/* Open the file and check all of it against the bundle. Fails if a step could not take it. */
void open_batches(batches *b, const bundle *owner, const char *path);

/* The same for a file that is in memory already. */
void read_batches(batches *b, const bundle *owner, const char *path, mapping map);

/* Copy the parts of sequence `number` of a step. They are in the ranges that were checked, whatever
 * has become of the file. */
void copy_sequence(const batches *b, uint64_t step, uint32_t number,
                   int32_t *const parts[SEQUENCE_PARTS]);

#endif
