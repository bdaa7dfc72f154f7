/* SPDX-License-Identifier: Apache-2.0 */
/* The targets that a bundle has code for, and the one that this machine runs. */
#ifndef GSQC_TARGETS_H
#define GSQC_TARGETS_H

#include "json.h"

/* The target of a manifest that this machine can run and that has the highest rank, as
 * gsqc/targets/registry.py chooses it. If `wanted` is not NULL, only that one will do. Fails if
 * there is none. */
const char *choose_target(yyjson_val *targets, const char *wanted);

/* The name in a bundle of a file of a target's code. */
const char *code_file(const char *target, const char *name);

#endif
