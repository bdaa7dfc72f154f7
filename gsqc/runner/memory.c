/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that lives as long as the program. A size that cannot be had ends the program with a
 * sentence, so no caller checks for NULL. Nothing here is safe to call from two threads. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"

enum { MAPPED_FROM = 1 << 16 };

typedef struct record {
    struct record *next;
    void (*undo)(void *, size_t);
    void *what;
    size_t size;
} record;

static record *records;

/* All that was taken. Sizes come from a stranger's files, and each of them may be sound by itself.
 * What goes beyond the machine is refused here, before the system kills the program for it. */
static uint64_t taken;

static _Noreturn void fail_memory(uint64_t count, uint64_t size) {
    fail("free some memory, or compile for shorter sequences",
         "not enough memory for %llu times %llu bytes",
         (unsigned long long)count, (unsigned long long)size);
}

static void undo_malloc(void *what, size_t size) {
    (void)size;
    free(what);
}

static void undo_map(void *what, size_t size) { munmap(what, size); }

void at_release(void (*undo)(void *, size_t), void *what, size_t size) {
    record *r = malloc(sizeof *r);
    if (!r) {
        undo(what, size);
        fail_memory(1, sizeof *r);
    }
    *r = (record){records, undo, what, size};
    records = r;
}

void *take(uint64_t count, uint64_t size) {
    uint64_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT ||
        bytes > physical_memory() || taken > physical_memory() - bytes)
        fail_memory(count, size);
    taken += bytes;
    if (bytes >= MAPPED_FROM) {
        /* Fresh pages are zero already, and count as resident only when they are touched. */
        void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) fail_memory(count, size);
        at_release(undo_map, pages, bytes);
        return pages;
    }
    size_t rounded = (bytes / ALIGNMENT + 1) * ALIGNMENT;
    void *block = aligned_alloc(ALIGNMENT, rounded);
    if (!block) fail_memory(count, size);
    at_release(undo_malloc, block, rounded);
    return memset(block, 0, rounded);
}

char *take_text(const char *text, size_t length) {
    return memcpy(take(length + 1, 1), text, length);
}

char *take_path(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = take(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

void release_memory(void) {
    taken = 0;
    while (records) {
        record *r = records;
        records = r->next;
        r->undo(r->what, r->size);
        free(r);
    }
}

uint64_t physical_memory(void) {
    static uint64_t bytes;
    if (bytes) return bytes;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    return bytes;
}
