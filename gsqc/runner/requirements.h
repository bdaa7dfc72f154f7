/* SPDX-License-Identifier: Apache-2.0 */
/* What a session needs of a plan, as gsqc/runtime/requirements.py lists it. */
#ifndef GSQC_REQUIREMENTS_H
#define GSQC_REQUIREMENTS_H

#include <stdbool.h>

#include "bundle.h"

/* Fails unless the plan has the schedules and buffers of a training session and this machine has
 * the memory; `sums` says whether a step sums the gradients of several sequences. */
void require_session(const bundle *b, bool sums);

/* Whether the plan has an input of this name. */
bool has_input(const plan *p, const char *name);

/* The memory of an int32 buffer that require_session has found. */
int32_t *buffer_numbers(const plan *p, const char *name);

#endif
