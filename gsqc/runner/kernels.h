/* SPDX-License-Identifier: Apache-2.0 */
/* The compiled kernels of a bundle: its shared library, loaded without TVM's runtime. */
#ifndef GSQC_KERNELS_H
#define GSQC_KERNELS_H

#include "files.h"
#include "plan.h"

/* Load the library, which is in memory. Its functions become the `code` of the plan's kernels.
 * Fails if one is missing. */
void load_kernels(plan *p, const mapping *library);

/* A flat array that a kernel takes. */
typedef struct {
    void *data;
    uint64_t count;
    unsigned item_bytes;
} array;

/* Run a kernel on its inputs, then outputs. */
void call_kernel(const kernel *k, const array *arrays, uint32_t count);

#endif
