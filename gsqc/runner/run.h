/* SPDX-License-Identifier: Apache-2.0 */
/* The run directory, as gsqc/runtime/store.py keeps it: config.json, state.safetensors and
 * log.jsonl. */
#ifndef GSQC_RUN_H
#define GSQC_RUN_H

#include "batches.h"
#include "bundle.h"

typedef struct {
    const char *path;
    const bundle *bundle;
    yyjson_val *config; /* what it began with; NULL for a new run */
    uint64_t step;      /* steps that the state has taken */
    tensor **state;     /* sorted by name */
    uint32_t state_count;
} run;

typedef struct {
    uint64_t step, peak_bytes;
    double loss, tokens_per_second;
    const char *digest;
} log_entry;

/* Make the directory and lock it: no other process can train the run until this one ends. Python
 * takes the same lock. */
void lock_run(const char *path);

/* Take the run's state, or the bundle's initial one, into the plan's state buffers. */
void open_run(run *r, const char *path, const bundle *b);

/* Read the run's config, which a run with a saved state has. Fails unless it is of this bundle. */
void read_config(run *r, bool is_begun);

/* Write the config, and drop the log lines after the saved step. Fails if the run began with other
 * settings. */
void begin_run(run *r, const char *settings);

/* sha256 over the whole training state: the step, then each tensor's name, type, size and own
 * sha256. */
void state_digest(const run *r, char digest[HASH_TEXT]);

void save_run(const run *r);
void append_log(const run *r, const log_entry *entry);

#endif
