/* SPDX-License-Identifier: Apache-2.0 */
/* The targets that a bundle has code for, and the one that this machine runs. */
#ifndef GSQC_TARGETS_H
#define GSQC_TARGETS_H

#include "json.h"

/* Of a manifest's targets that this machine can run, the one with the highest rank, as
 * gsqc/targets/registry.py has it; or `wanted`, if that is not NULL. Fails if there is none. */
const char *choose_target(yyjson_val *targets, const char *wanted);

/* The name in a bundle of a file of a target's code. */
const char *code_file(const char *target, const char *name);

#endif
