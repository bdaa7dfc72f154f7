/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are read while steps run: mapped once, and held open, so that what was hashed is what
 * is used. */
#ifndef GSQC_HELD_H
#define GSQC_HELD_H

#include "files.h"

typedef struct held {
    struct held *next;
    const char *path;
    mapping map;
    char hash[HASH_TEXT]; /* sha256 of what was mapped */
    int descriptor;
    struct stat seen;
} held;

/* Map and hash a file that was opened. It is closed if that fails: false with errno. */
bool hold_file(held *file, const char *path, const input *opened);

/* Close and unmap it again. */
void drop_file(held *file);

/* The path of a held file whose content was changed since it was hashed; NULL if all are whole. A
 * file that was renamed, linked or deleted is whole: this program still has it. */
const char *changed_file(void);

#endif
