/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a library from bytes that were hashed. The system maps a library's file, so copying another
 * file over it would crash the process that runs it. Hence a file without a name: in memory, or
 * deleted as soon as it is loaded. */
#define _GNU_SOURCE
#include "library_copy.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "replacement.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static const char NAME[] = "gsqc-kernels";

/* A file in memory with this content, which can no longer change. -1 if the system has none. */
static int memory_file(const mapping *content) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int file = memfd_create(NAME, flags | MFD_EXEC);
    if (file < 0) file = memfd_create(NAME, flags); /* before Linux 6.3 */
    if (file < 0) return -1;
    if (write_bytes(file, content->data, content->size)) {
        /* Without seals nobody else has the file either. */
        (void)fcntl(file, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        return file;
    }
    close(file);
    return -1;
}

static void *load(const char *path, const char **problem) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) *problem = dlerror();
    return library;
}

static void *load_from_memory(const mapping *content, const char **problem) {
    char path[64];
    int file = memory_file(content);
    if (file < 0) return NULL;
    /* The file stays open: the loader knows libraries by their names, and this name is its
     * number. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    void *library = load(path, problem);
    if (!library) close(file);
    return library;
}

static void *load_from_folder(const mapping *content, const char **problem) {
    const char *place = getenv("TMPDIR");
    if (!place || *place != '/') place = "/tmp";
    folder temporary = {place, open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    replacement file;
    *problem = strerror(errno);
    if (temporary.descriptor < 0) return NULL;
    begin_replacement(&file, &temporary, NAME);
    write_replacement(&file, content->data, content->size);
    size_t size = strlen(place) + sizeof file.temporary + 2;
    char *path = take(size, 1);
    snprintf(path, size, "%s/%s", place, file.temporary);
    *problem = strerror(file.error);
    void *library = file.error ? NULL : load(path, problem);
    abandon_replacement(&file);
    close(temporary.descriptor);
    return library;
}

void *load_library(const mapping *content, const char **problem) {
    void *library = load_from_memory(content, problem);
    return library ? library : load_from_folder(content, problem);
}
