/* SPDX-License-Identifier: Apache-2.0 */
/* What plan.c (names and tensors) and plan_calls.c (what calls what) share. No other file includes
 * it. */
#ifndef GSQC_PLAN_PARTS_H
#define GSQC_PLAN_PARTS_H

#include "plan.h"

void read_tensors(tensor_table *table, yyjson_val *data, tensor_kind kind);
void finish_table(tensor_table *table);
void check_region(const tensor_table *table, tensor_kind kind, uint64_t size);
reference read_reference(yyjson_val *data, const tensor_table *near, const tensor_table *far);

kernel *find_kernel(const plan *p, const char *name);
function *find_function(const plan *p, const char *name);

void read_kernel(kernel *k, yyjson_val *data);
void read_function(plan *p, function *f, yyjson_val *data);
void read_schedule(plan *p, schedule *s, yyjson_val *data);

#endif
