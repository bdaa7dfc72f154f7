/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library, loaded from memory. */
#ifndef GSQC_LIBRARY_COPY_H
#define GSQC_LIBRARY_COPY_H

#include "files.h"

/* Load a private copy of a library, which nobody can write to. NULL if it cannot be loaded, and
 * `problem` says why. */
void *load_library(const mapping *content, const char **problem);

#endif
