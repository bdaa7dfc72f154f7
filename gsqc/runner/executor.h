/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's tensors in memory, and its schedules in order, as gsqc/runtime/executor.py has them. */
#ifndef GSQC_EXECUTOR_H
#define GSQC_EXECUTOR_H

#include "bundle.h"
#include "tensors.h"
#include "trace.h"

typedef struct {
    plan *plan;
    tensor_file base;
    unsigned char *arena;
    uint64_t frozen_bytes; /* read of the base since its pages were released */
    trace *trace;          /* of the calls from here on, or NULL */
} executor;

/* Memory for all tensors, and the base in place. */
void prepare_executor(executor *e, bundle *b);

void run_schedule(executor *e, const schedule *s);

/* Zero the sums of the batch. */
void clear_gradients(executor *e);

#endif
