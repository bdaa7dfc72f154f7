/* SPDX-License-Identifier: Apache-2.0 */
/* A record of every call of the steps, by which gsqc check finds the first operator that differs
 * from numpy's. */
#ifndef GSQC_TRACE_H
#define GSQC_TRACE_H

#include <stdio.h>

#include "kernels.h"
#include "replacement.h"

typedef struct {
    folder folder;
    const char *name;
    replacement file;
    FILE *lines;
    uint64_t calls, wanted; /* seen so far; the call whose values are written, from 1, or 0 */
} trace;

/* Begin FILE with a line for each prepared tensor: its name and sha256. */
void open_trace(trace *t, const char *path, uint64_t wanted, const plan *p);

/* A line for a call: what ran, and the sha256 of each result. The wanted call's results also go to
 * FILE.values. */
void trace_call(trace *t, const char *name, const array *results, uint32_t count);

/* Put FILE in its place. Fails if it could not be written. */
void close_trace(trace *t);

#endif
