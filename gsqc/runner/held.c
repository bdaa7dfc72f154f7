/* SPDX-License-Identifier: Apache-2.0 */
/* Holds mapped files, and finds out when another program writes to one of them. A mapping shows
 * such a change at once, so steps that were made since cannot be trusted. If the file is shortened,
 * reading the mapping raises SIGBUS, which ends the program with a sentence. */
#include "held.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static const char BEFORE[] = "error: ", UNKNOWN[] = "a file that is used";
static const char AFTER[] = " was changed while it was used, or its disk failed: the last saved "
                            "state is whole; put the whole file back, and run the same command "
                            "again\n";
enum { USER_ERROR = 2 };

static held *files;

static bool holds(const held *file, uintptr_t address) {
    uintptr_t start = (uintptr_t)file->map.data;
    return address >= start && address - start < file->map.size;
}

/* Only functions that a signal handler may call. */
static void end_with_a_sentence(int number, siginfo_t *information, void *context) {
    (void)number, (void)context;
    const char *path = UNKNOWN;
    for (const held *file = files; file; file = file->next)
        if (holds(file, (uintptr_t)information->si_addr)) path = file->path;
    (void)(write_bytes(STDERR_FILENO, BEFORE, sizeof BEFORE - 1) &&
           write_bytes(STDERR_FILENO, path, strlen(path)) &&
           write_bytes(STDERR_FILENO, AFTER, sizeof AFTER - 1));
    _exit(USER_ERROR);
}

static void heed_bus_errors(void) {
    struct sigaction action = {.sa_sigaction = end_with_a_sentence, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

bool hold_file(held *file, const char *path, const input *opened) {
    *file = (held){.path = path, .descriptor = opened->descriptor, .seen = opened->status};
    if (!map_input(opened, &file->map)) {
        int reason = errno;
        close(opened->descriptor);
        errno = reason;
        return false;
    }
    heed_bus_errors();
    file->next = files;
    files = file;
    hash_bytes(file->hash, file->map.data, file->map.size);
    return true;
}

void drop_file(held *file) {
    for (held **place = &files; *place; place = &(*place)->next)
        if (*place == file) {
            *place = file->next;
            break;
        }
    close(file->descriptor);
    unmap(&file->map);
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_whole(held *file) {
    struct stat now;
    char hash[HASH_TEXT];
    if (fstat(file->descriptor, &now)) return false;
    if (now.st_size != file->seen.st_size || !same_time(now.st_mtim, file->seen.st_mtim))
        return false;
    if (same_time(now.st_ctim, file->seen.st_ctim)) return true;
    /* A new name, another mode, or the last name gone. It may also be a change whose time was set
     * back, so the content decides. */
    hash_bytes(hash, file->map.data, file->map.size);
    file->seen = now;
    return !strcmp(hash, file->hash);
}

const char *changed_file(void) {
    for (held *file = files; file; file = file->next)
        if (!is_whole(file)) return file->path;
    return NULL;
}
