/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine is. */
#ifndef GSQC_MACHINE_H
#define GSQC_MACHINE_H

#include <stdbool.h>

/* As the first part of a target's triple: x86_64 or aarch64. */
extern const char *const machine_architecture;

/* Whether this CPU has a feature, by its name in /proc/cpuinfo. */
bool machine_has(const char *feature);

/* The cores that this process may use. */
int machine_cores(void);

#endif
