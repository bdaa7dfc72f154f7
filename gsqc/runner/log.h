/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a run: a line of JSON for each step, as gsqc/runtime/store.py writes it. */
#ifndef GSQC_LOG_H
#define GSQC_LOG_H

#include <stdbool.h>

#include "files.h"

/* The last three are of a step without gradients: gsqc replay makes the state of them again. */
typedef struct {
    uint64_t step, peak_bytes;
    double loss, tokens_per_second;
    const char *digest;
    int64_t weight;
    const int64_t *differences;
    uint32_t queries;
} log_entry;

/* Drop the lines after a step, and a line that a crash cut off. */
void resume_log(const folder *run, uint64_t step);

/* Add a line for a step. If that fails, it is kept and added with the next one. */
void append_log(const folder *run, const log_entry *entry);

/* Add the lines that are kept. False with errno if that fails. */
bool flush_log(const folder *run);

#endif
