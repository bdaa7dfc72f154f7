/* SPDX-License-Identifier: Apache-2.0 */
/* Files: mapped for reading, hashed, and replaced as a whole. */
#ifndef GSQC_FILES_H
#define GSQC_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_TEXT = 65 };

typedef struct {
    unsigned char *data;
    uint64_t size;
} mapping;

/* sha256 as lower-case hexadecimal text. */
void hash_bytes(char text[HASH_TEXT], const void *data, uint64_t size);

bool is_file(const char *path);

/* Map a file for reading; what is written to the memory does not reach the file. False with errno
 * if that fails. */
bool map_file(const char *path, mapping *map);

/* Forget a mapping before release_memory would. */
void unmap_file(mapping *map);

/* A file that is written beside its final place and put there when it is complete on disk. */
typedef struct {
    const char *path;
    char *temporary;
    int descriptor;
} replacement;

/* These fail with a sentence, and leave the old file whole. */
void begin_replacement(replacement *file, const char *path);
void write_replacement(replacement *file, const void *data, uint64_t size);
void finish_replacement(replacement *file);

/* Fail because a file could not be written, for the reason in errno. */
_Noreturn void fail_write(const char *path);

#endif
