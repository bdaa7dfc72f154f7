/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of a run directory. Python takes the same one (gsqc/training/lock.py). */
#ifndef GSQC_LOCK_H
#define GSQC_LOCK_H

#include <stdbool.h>

#include "files.h"

/* Make the directory and lock it: no other process can train the run until this one ends. Fails if
 * another process has it. Gives the descriptor that holds the lock. */
int lock_run(folder *run, const char *path);

/* Whether the lock is still the one at its name. If its file was deleted, it is made again. Fails
 * if another process has taken the run meanwhile. */
bool keep_lock(const folder *run, int *lock);

#endif
