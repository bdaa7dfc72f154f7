/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle: opened only after every file's size and sha256 match the manifest, as
 * gsqc/bundle/bundle.py does. */
#ifndef GSQC_BUNDLE_H
#define GSQC_BUNDLE_H

#include "held.h"
#include "plan.h"

enum { READ_FILES = 3 };

/* A file that was read into memory, and then hashed. */
typedef struct {
    const char *name;
    mapping content;
} read_once;

typedef struct {
    const char *path;
    yyjson_val *manifest;
    const char *target;      /* the one whose code runs */
    char meaning[HASH_TEXT]; /* by which runs and states refer to it */
    uint32_t sequence_length, vocabulary;
    held base;                   /* read while steps run */
    read_once files[READ_FILES]; /* plan, initial state and kernels, which are used once */
    plan plan;
} bundle;

/* `target` is the one whose code is wanted, or NULL for the best one. */
void open_bundle(bundle *b, const char *path, const char *target);

/* Read a manifest that is in memory, without its files. */
void read_manifest(bundle *b, const char *text, size_t length);

/* The content of the plan, the initial state or the kernels, as it was hashed. Fails if the
 * manifest does not list the file. */
mapping *bundle_content(bundle *b, const char *name);

/* The sha256 that the manifest gives for a file; NULL if it does not list it. */
const char *bundle_hash(const bundle *b, const char *name);

#endif
