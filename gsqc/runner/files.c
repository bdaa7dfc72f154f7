/* SPDX-License-Identifier: Apache-2.0 */
/* Opens plain files alone. A stranger may have put anything in their place: reading a FIFO may wait
 * for ever, a device may have no end, and a link may lead to any file of the user. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "third_party/libmd/sha2.h"

void hash_bytes(char text[HASH_TEXT], const void *data, uint64_t size) {
    SHA2_CTX context;
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256Init(&context);
    if (size) SHA256Update(&context, data, size);
    SHA256Final(digest, &context);
    for (int k = 0; k < SHA256_DIGEST_LENGTH; k++) snprintf(text + 2 * k, 3, "%02x", digest[k]);
}

bool is_there(int place, const char *name) {
    struct stat status;
    return !fstatat(place, name, &status, AT_SYMLINK_NOFOLLOW) ||
           (errno != ENOENT && errno != ENOTDIR);
}

static void close_keeping_errno(int descriptor) {
    int reason = errno;
    close(descriptor);
    errno = reason;
}

/* A descriptor of a plain file. O_NONBLOCK, because opening a FIFO would wait for its other end. */
static int open_plain(int place, const char *name, int flags, struct stat *status) {
    int descriptor = openat(place, name, flags | O_CLOEXEC | O_NONBLOCK, 0666);
    if (descriptor < 0) return -1;
    bool good = !fstat(descriptor, status);
    if (good && S_ISREG(status->st_mode)) return descriptor;
    if (good) errno = EINVAL;
    close_keeping_errno(descriptor);
    return -1;
}

bool open_input(input *in, int place, const char *name, bool links) {
    int flags = links ? O_RDONLY : O_RDONLY | O_NOFOLLOW;
    in->descriptor = open_plain(place, name, flags, &in->status);
    return in->descriptor >= 0;
}

int open_output(int place, const char *name, int flags) {
    struct stat status;
    return open_plain(place, name, flags | O_RDWR | O_NOFOLLOW, &status);
}

static const char *other_kind(mode_t mode) {
    return S_ISDIR(mode)                      ? "it is a directory, not a plain file"
           : S_ISLNK(mode)                    ? "it is a link, not a plain file"
           : S_ISFIFO(mode)                   ? "it is a FIFO, not a plain file"
           : S_ISSOCK(mode)                   ? "it is a socket, not a plain file"
           : S_ISCHR(mode) || S_ISBLK(mode) ? "it is a device, not a plain file"
                                              : NULL;
}

const char *file_problem(int place, const char *name) {
    int reason = errno;
    struct stat status;
    bool is_kind =
        reason == EINVAL || reason == ELOOP || reason == ENXIO || reason == EISDIR;
    int flags = reason == ELOOP ? AT_SYMLINK_NOFOLLOW : 0;
    const char *kind = is_kind && !fstatat(place, name, &status, flags)
                           ? other_kind(status.st_mode)
                           : NULL;
    errno = reason;
    return kind ? kind : strerror(reason);
}

bool read_input(const input *in, mapping *map, uint64_t most_bytes) {
    uint64_t size = (uint64_t)in->status.st_size, done = 0;
    *map = (mapping){NULL, 0};
    if (size > most_bytes) errno = EFBIG;
    if (size > most_bytes || !size) return !size;
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return false;
    *map = (mapping){data, size};
    while (done < size) {
        ssize_t got = pread(in->descriptor, map->data + done, size - done, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            int reason = got ? errno : EIO; /* it was shortened meanwhile */
            unmap(map);
            errno = reason;
            return false;
        }
        done += (uint64_t)got;
    }
    return true;
}

bool read_file(mapping *map, int place, const char *name, uint64_t most_bytes) {
    input in;
    if (!open_input(&in, place, name, false)) return false;
    bool good = read_input(&in, map, most_bytes);
    close_keeping_errno(in.descriptor);
    return good;
}

bool map_input(const input *in, mapping *map) {
    size_t size = (size_t)in->status.st_size;
    *map = (mapping){NULL, 0};
    if (!size) return true;
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, in->descriptor, 0);
    if (data == MAP_FAILED) return false;
    *map = (mapping){data, size};
    return true;
}

void unmap(mapping *map) {
    if (map->data) munmap(map->data, map->size);
    *map = (mapping){NULL, 0};
}

bool write_bytes(int descriptor, const void *data, uint64_t size) {
    const unsigned char *next = data;
    while (size) {
        ssize_t written = write(descriptor, next, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        next += written;
        size -= (uint64_t)written;
    }
    return true;
}
