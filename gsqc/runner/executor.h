/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and order: lays a plan's tensors out in memory and runs its schedules, as gsqc/runtime/executor.py does. */
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

/* A schedule that must be there. */
const schedule *require_schedule(const plan *p, const char *name);

void run_schedule(executor *e, const schedule *s);

/* Zero the sums of the batch. */
void clear_gradients(executor *e);

/* The memory of an int32 buffer of `count` elements that must be there. */
int32_t *require_buffer(const plan *p, const char *name, tensor_kind kind, uint64_t count);

#endif
