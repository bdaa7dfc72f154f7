/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are replaced as a whole. */
#ifndef GSQC_REPLACEMENT_H
#define GSQC_REPLACEMENT_H

#include "files.h"

enum { TEMPORARY_NAME = 256 };

/* A file that is written beside its final place and put there when it is complete on disk. */
typedef struct replacement {
    struct replacement *next;
    const folder *folder;
    const char *name;
    char temporary[TEMPORARY_NAME]; /* .NAME.XXXXXXXXXXXXXXXX.tmp, as Python names it */
    int descriptor, error;          /* the first error, as errno has it */
} replacement;

/* A failure is kept until the end: what is written after it is not written. */
void begin_replacement(replacement *file, const folder *place, const char *name);
void write_replacement(replacement *file, const void *data, uint64_t size);

/* False with errno if anything failed, and then the old file stands, and no other is left. */
bool finish_replacement(replacement *file);

/* Remove what was written, and leave the old file. */
void abandon_replacement(replacement *file);

/* Say that a file could not be written, for the reason in errno, and end; or warn and return. */
_Noreturn void fail_write(const folder *place, const char *name);
void warn_write(const folder *place, const char *name);

/* Remove the temporary files of a run that a process left when it was killed, and say so. */
void remove_left_over(const folder *run);

#endif
