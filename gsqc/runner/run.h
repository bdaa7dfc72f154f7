/* SPDX-License-Identifier: Apache-2.0 */
/* The run directory, as gsqc/runtime/store.py keeps it: config.json, state.safetensors and
 * log.jsonl. */
#ifndef GSQC_RUN_H
#define GSQC_RUN_H

#include "batches.h"
#include "bundle.h"

typedef struct {
    folder folder;
    int lock;
    const bundle *bundle;
    yyjson_val *config;    /* what it began with; NULL for a new run */
    uint64_t step, saved;  /* steps that the state has taken, and that the saved one has */
    struct stat last_save; /* the saved state's file, all zero if there is none */
    tensor **state;        /* sorted by name */
    uint32_t state_count;
} run;

/* Lock the run's directory, and take its state, or the bundle's initial one, into the plan's state
 * buffers. */
void open_run(run *r, const char *path, bundle *b);

/* Read the run's config, which a run with a saved state has. Fails unless it is of this bundle. */
void read_config(run *r, bool is_begun);

/* Write the config, and drop the log lines after the saved step. Fails if the run began with other
 * settings. */
void begin_run(run *r, const char *settings);

/* sha256 over the whole training state: the step, then each tensor's name, type, size and own
 * sha256. */
void state_digest(const run *r, char digest[HASH_TEXT]);

/* Save the state if it has taken steps. Without `must`, a full disk is a warning. Fails if another
 * process has taken the run meanwhile. */
void save_run(run *r, bool must);

#endif
