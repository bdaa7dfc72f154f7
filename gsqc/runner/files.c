/* SPDX-License-Identifier: Apache-2.0 */
/* Maps, hashes and replaces files. It trusts the file system: if another program shortens a mapped
 * file, reading it ends this one (SIGBUS). A replaced file is the old one or the new one at any
 * moment, also after a crash. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"
#include "third_party/libmd/sha2.h"

void hash_bytes(char text[HASH_TEXT], const void *data, uint64_t size) {
    SHA2_CTX context;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256Init(&context);
    if (size) SHA256Update(&context, data, size);
    SHA256Final(digest, &context);
    for (int k = 0; k < SHA256_DIGEST_LENGTH; k++) snprintf(text + 2 * k, 3, "%02x", digest[k]);
}

bool is_file(const char *path) {
    struct stat status;
    return !stat(path, &status) && S_ISREG(status.st_mode);
}

bool map_file(const char *path, mapping *map) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    *map = (mapping){NULL, 0};
    void *data = NULL;
    bool good = !fstat(descriptor, &status) && S_ISREG(status.st_mode);
    if (good && status.st_size) {
        data =
            mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
        good = data != MAP_FAILED;
        if (good) *map = (mapping){data, (uint64_t)status.st_size};
    }
    int reason = errno;
    close(descriptor);
    errno = reason;
    return good;
}

void unmap_file(mapping *map) {
    if (map->data) munmap(map->data, map->size);
    *map = (mapping){NULL, 0};
}

_Noreturn void fail_write(const char *path) {
    bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    fail("make its folder writable with free space, and run the same command again",
         "%s %s: %s; the state saved before is whole",
         full ? "disk full while saving" : "cannot save", path, strerror(errno));
}

static _Noreturn void give_up(replacement *file) {
    int reason = errno;
    if (file->descriptor >= 0) close(file->descriptor);
    unlink(file->temporary);
    errno = reason;
    fail_write(file->path);
}

void begin_replacement(replacement *file, const char *path) {
    size_t size = strlen(path) + sizeof ".tmp";
    file->path = path;
    file->temporary = take(size, 1);
    snprintf(file->temporary, size, "%s.tmp", path);
    file->descriptor =
        open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file->descriptor < 0) give_up(file);
}

void write_replacement(replacement *file, const void *data, uint64_t size) {
    const unsigned char *next = data;
    while (size) {
        ssize_t written = write(file->descriptor, next, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) give_up(file);
        next += written;
        size -= (uint64_t)written;
    }
}

void finish_replacement(replacement *file) {
    if (fsync(file->descriptor)) give_up(file);
    int failed = close(file->descriptor);
    file->descriptor = -1;
    if (failed || rename(file->temporary, file->path)) give_up(file);
    /* The new name is safe only when the folder is on disk too. */
    int folder = open(dirname(take_text(file->path, strlen(file->path))), O_RDONLY | O_CLOEXEC);
    if (folder >= 0) {
        failed = fsync(folder);
        close(folder);
    }
    if (folder < 0 || failed) fail_write(file->path);
}
