/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of a step, as gsqc/bundle/plan.py defines it: kernels, functions, schedules, buffers. */
#ifndef GSQC_PLAN_H
#define GSQC_PLAN_H

#include <stdbool.h>

#include "format.h"
#include "json.h"

typedef enum { BUFFER_KIND_LIST, BUFFER_KINDS, ACTIVATION, SCRATCH, PORT } tensor_kind;

/* A flat tensor. `item_bytes` 1, 2 and 4 are int8, int16 and int32. */
typedef struct {
    const char *name;
    tensor_kind kind;
    unsigned item_bytes;
    uint64_t count, offset;
    unsigned char *address; /* of a buffer */
    uint32_t slot;          /* of a port: its number in its function */
} tensor;

/* Sorted by name. */
typedef struct {
    tensor *items;
    uint32_t count;
} tensor_table;

/* `count` elements of a tensor from element `offset` on. */
typedef struct {
    const tensor *target;
    uint64_t offset, count;
} reference;

/* An input of a kernel: what compiled code expects. */
typedef struct {
    unsigned item_bytes;
    uint64_t count;
} shape;

typedef struct {
    const char *name, *op;
    shape *inputs;
    uint32_t input_count;
    void *code; /* of its library; NULL until it is loaded */
} kernel;

typedef struct {
    kernel *kernel;
    reference *arguments;
    uint32_t count;
} kernel_call;

typedef struct {
    const char *name;
    tensor_table locals; /* ports and scratch */
    uint32_t ports;
    uint64_t scratch_bytes;
    kernel_call *calls;
    uint32_t call_count;
} function;

/* A call binds each port, by its slot. A copy has no function, and binds source and target. While
 * its guard, an int32, is 0, the call is left out. A guard without a target is none. */
typedef struct {
    const function *function;
    reference *bindings;
    reference guard;
} function_call;

typedef struct {
    const char *name;
    tensor_table activations;
    uint64_t activation_bytes, scratch_bytes;
    function_call *calls;
    uint32_t call_count;
} schedule;

typedef struct {
    kernel *kernels;
    function *functions;
    schedule *schedules;
    uint32_t kernel_count, function_count, schedule_count;
    tensor_table buffers;
    uint64_t arena_bytes, buffer_bytes; /* without the base, which is mapped, and the gradients */
    uint64_t gradient_bytes;
} plan;

enum { COPY_SOURCE = 0, COPY_TARGET = 1 };

/* Where an error in a plan happened. */
extern const json_source plan_source;

/* Read and check a plan. Fails unless every name is known and every part lies inside its tensor. */
void read_plan(plan *p, yyjson_val *data);

/* A tensor or schedule by name, NULL if there is none. */
tensor *find_tensor(const tensor_table *table, const char *name);
schedule *find_schedule(const plan *p, const char *name);

/* The type's name as the plan and the digest write it. */
const char *type_name(unsigned item_bytes);

/* Bytes of a type's name in the plan; 0 for an unknown type. */
unsigned type_bytes(const char *name);

#endif
