/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files: opened for reading and for writing, read, mapped and hashed. */
#ifndef GSQC_FILES_H
#define GSQC_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { HASH_TEXT = 65 };

typedef struct {
    unsigned char *data;
    uint64_t size;
} mapping;

/* A directory that is held open. Its files are opened relative to it, wherever its path leads
 * later. */
typedef struct {
    const char *path;
    int descriptor;
} folder;

typedef struct {
    int descriptor;
    struct stat status;
} input;

/* sha256 as lower-case hexadecimal text. */
void hash_bytes(char text[HASH_TEXT], const void *data, uint64_t size);

/* False only if the system says that there is nothing of this name. What cannot be looked at counts
 * as there, so that opening it says why. `place` may be AT_FDCWD. */
bool is_there(int place, const char *name);

/* Open a plain file for reading. `links` says whether the name may be a link: a user's own path may
 * be one, and a file of a bundle or a run may not. False with errno. */
bool open_input(input *in, int place, const char *name, bool links);

/* Open a plain file for writing, and never through a link. `flags` are those of open, such as
 * O_CREAT | O_EXCL. Gives a descriptor, or -1 with errno. No other function opens for writing. */
int open_output(int place, const char *name, int flags);

/* Why one of the functions above failed: the system's error, or what stands there instead of a
 * plain file. */
const char *file_problem(int place, const char *name);

/* Read the whole file, of at most `most_bytes`, into memory of its own. False with errno. */
bool read_input(const input *in, mapping *map, uint64_t most_bytes);

/* Open a file that is no link, read it and close it. */
bool read_file(mapping *map, int place, const char *name, uint64_t most_bytes);

/* Map the whole file. What is written to the memory does not reach the file. False with errno. */
bool map_input(const input *in, mapping *map);

/* Forget what was read or mapped. */
void unmap(mapping *map);

/* Write all bytes to a descriptor. False with errno. */
bool write_bytes(int descriptor, const void *data, uint64_t size);

#endif
