/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces files. Each is the old one or the new one at any moment, also after a crash. It trusts
 * no name: a temporary file has a random one and is new, so that nobody can have put a link
 * there. */
#include "replacement.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "error.h"
#include "format.h"

enum { RANDOM_DIGITS = 16, PROBLEM_BYTES = 900 };
static const char ENDING[] = ".tmp", *const OWN[] = {STATE_FILE, BEST_FILE, CONFIG_FILE, LOG_FILE};

/* Those that are not finished. If the program ends with a sentence, they go. */
static replacement *unfinished;

static void forget(replacement *file) {
    for (replacement **place = &unfinished; *place; place = &(*place)->next)
        if (*place == file) {
            *place = file->next;
            return;
        }
}

static void remove_unfinished(void) {
    for (; unfinished; unfinished = unfinished->next)
        unlinkat(unfinished->folder->descriptor, unfinished->temporary, 0);
}

void begin_replacement(replacement *file, const folder *place, const char *name) {
    static bool registered;
    uint64_t number;
    *file = (replacement){.folder = place, .name = name, .descriptor = -1};
    if (!registered) registered = !atexit(remove_unfinished);
    if (getrandom(&number, sizeof number, 0) != sizeof number) {
        file->error = errno;
        return;
    }
    snprintf(file->temporary, sizeof file->temporary, ".%.200s.%016" PRIx64 "%s", name, number,
             ENDING);
    file->descriptor = open_output(place->descriptor, file->temporary, O_CREAT | O_EXCL);
    if (file->descriptor < 0) {
        file->error = errno;
        return;
    }
    file->next = unfinished;
    unfinished = file;
}

void write_replacement(replacement *file, const void *data, uint64_t size) {
    if (!file->error && !write_bytes(file->descriptor, data, size)) file->error = errno;
}

void abandon_replacement(replacement *file) {
    if (file->descriptor < 0) return;
    close(file->descriptor);
    unlinkat(file->folder->descriptor, file->temporary, 0);
    forget(file);
}

bool finish_replacement(replacement *file) {
    int place = file->folder->descriptor;
    if (!file->error && fsync(file->descriptor)) file->error = errno;
    if (!file->error && renameat(place, file->temporary, place, file->name)) file->error = errno;
    if (file->error) abandon_replacement(file);
    else {
        forget(file);
        close(file->descriptor);
        /* The new name is safe only when the folder is on disk too. */
        if (fsync(place)) file->error = errno;
    }
    errno = file->error;
    return !file->error;
}

static void describe(char text[PROBLEM_BYTES], const folder *place, const char *name) {
    bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    snprintf(text, PROBLEM_BYTES, "%s %s/%s: %s; the state saved before is whole",
             full ? "disk full while saving" : "cannot save", place->path, name,
             file_problem(place->descriptor, name));
}

_Noreturn void fail_write(const folder *place, const char *name) {
    char text[PROBLEM_BYTES];
    describe(text, place, name);
    fail("make its folder writable with free space, and run the same command again", "%s", text);
}

void warn_write(const folder *place, const char *name) {
    char text[PROBLEM_BYTES];
    describe(text, place, name);
    warn("%s; the run goes on and tries again", text);
}

static bool is_left_over(const char *name) {
    size_t length = strlen(name), end = strlen(ENDING);
    if (*name != '.' || length < end + RANDOM_DIGITS + 1) return false;
    const char *number = name + length - end - RANDOM_DIGITS;
    if (strcmp(number + RANDOM_DIGITS, ENDING) || number[-1] != '.') return false;
    if (strspn(number, "0123456789abcdef") != RANDOM_DIGITS) return false;
    for (size_t k = 0; k < sizeof OWN / sizeof *OWN; k++)
        if (!strncmp(name + 1, OWN[k], strcspn(OWN[k], "."))) return true;
    return false;
}

void remove_left_over(const folder *run) {
    int removed = 0, descriptor = openat(run->descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = descriptor < 0 ? NULL : fdopendir(descriptor);
    for (struct dirent *e; entries && (e = readdir(entries));)
        if (is_left_over(e->d_name)) removed += !unlinkat(run->descriptor, e->d_name, 0);
    if (entries) closedir(entries);
    if (removed)
        warn("%s: removed %d temporary files that an interrupted save left there", run->path,
             removed);
}
