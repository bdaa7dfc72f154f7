/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle: opened only after every file's size and sha256 match the manifest, as
 * gsqc/bundle/bundle.py does. */
#ifndef GSQC_BUNDLE_H
#define GSQC_BUNDLE_H

#include "files.h"
#include "plan.h"

typedef struct {
    const char *path;
    yyjson_val *manifest;
    const char *target;      /* the one whose code runs */
    char meaning[HASH_TEXT]; /* by which runs and states refer to it */
    uint32_t sequence_length, vocabulary;
    plan plan;
} bundle;

/* `target` is the one whose code is wanted, or NULL for the best one. */
void open_bundle(bundle *b, const char *path, const char *target);

/* Read a manifest that is in memory, without its files. */
void read_manifest(bundle *b, const char *text, size_t length);

/* The path of one of its files; fails if the manifest does not list it. */
const char *bundle_file(const bundle *b, const char *name);

/* The sha256 that the manifest gives for a file; NULL if it does not list it. */
const char *bundle_hash(const bundle *b, const char *name);

#endif
