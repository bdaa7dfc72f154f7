/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that lives until the program ends, or until release_memory. A caller never sees NULL. */
#ifndef GSQC_MEMORY_H
#define GSQC_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "format.h"

/* Zeroed memory for `count` items of `size` bytes, aligned to ALIGNMENT. */
void *take(uint64_t count, uint64_t size);

/* A zero-terminated copy of `length` bytes. */
char *take_text(const char *text, size_t length);

/* A path made of a folder and a name. */
char *take_path(const char *folder, const char *name);

/* Remember something that release_memory is to undo. */
void at_release(void (*undo)(void *, size_t), void *what, size_t size);

/* Free everything that was taken. */
void release_memory(void);

/* What this machine has, in bytes. */
uint64_t physical_memory(void);

#endif
