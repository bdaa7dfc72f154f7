/* SPDX-License-Identifier: Apache-2.0 */
/* Locks a run. What counts is the system's lock on the file, which ends with its holder. It trusts
 * nothing at the file's name: a link or a second name of another file is refused, because the
 * file's text is replaced. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "error.h"
#include "format.h"
#include "memory.h"
#include "replacement.h"

static const char OTHER[] = "give another directory with --run";

static void make_folders(const char *path) {
    char *made = take_text(path, strlen(path));
    for (char *c = made + 1; *made; c++) {
        if (*c && *c != '/') continue;
        char kept = *c;
        *c = 0;
        if (mkdir(made, 0777) && errno != EEXIST)
            fail(OTHER, "cannot make %s: %s", path, strerror(errno));
        *c = kept;
        if (!kept) return;
    }
}

/* -1 with errno if it cannot be had: EMLINK if the file has another name, as which it may be
 * precious. */
static int open_lock(const folder *run) {
    struct stat status;
    int lock = open_output(run->descriptor, LOCK_FILE, O_CREAT);
    if (lock < 0 || (!fstat(lock, &status) && status.st_nlink <= 1)) return lock;
    close(lock);
    errno = EMLINK;
    return -1;
}

static _Noreturn void fail_held(const folder *run, int lock) {
    char holder[16] = "";
    if (pread(lock, holder, sizeof holder - 1, 0) < 0) *holder = 0;
    holder[strspn(holder, "0123456789")] = 0;
    fail("wait for it, or give another --run", "%s is being trained by %s%s", run->path,
         *holder ? "process " : "another process", holder);
}

/* The number in the file is for people to read. On a full disk it is missing, and the lock holds
 * all the same. */
static void write_holder(int lock) {
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    (void)(!ftruncate(lock, 0) && write_bytes(lock, text, (uint64_t)length));
}

static bool is_at_its_name(const folder *run, int lock) {
    struct stat mine, there;
    return !fstat(lock, &mine) &&
           !fstatat(run->descriptor, LOCK_FILE, &there, AT_SYMLINK_NOFOLLOW) &&
           mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

int lock_run(folder *run, const char *path) {
    make_folders(path);
    *run = (folder){path, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (run->descriptor < 0) fail(OTHER, "cannot open %s: %s", path, strerror(errno));
    /* The descriptor stays open, and the lock held, until the program ends. */
    int lock = open_lock(run);
    if (lock < 0 && errno == EMLINK)
        fail("delete that name if no process trains the run",
             "%s/%s is another file too, by a hard link", path, LOCK_FILE);
    if (lock < 0)
        fail(OTHER, "cannot lock %s/%s: %s", path, LOCK_FILE,
             file_problem(run->descriptor, LOCK_FILE));
    if (flock(lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            fail("put --run on a local disk", "cannot lock %s: %s", path, strerror(errno));
        fail_held(run, lock);
    }
    if (!is_at_its_name(run, lock)) /* its last holder has just removed it */
        fail("run the same command again", "another process has just left %s", path);
    write_holder(lock);
    return lock;
}

bool keep_lock(const folder *run, int *lock) {
    if (is_at_its_name(run, *lock)) return true;
    /* The old descriptor stays open: who opened the deleted file still finds it locked. */
    int taken = open_lock(run);
    if (taken < 0) {
        warn_write(run, LOCK_FILE);
        return false;
    }
    if (flock(taken, LOCK_EX | LOCK_NB))
        fail("see which of the two runs to keep, and give the other its own --run",
             "the lock of %s was replaced, and another process has the run; the steps since the "
             "last save are not saved",
             run->path);
    write_holder(taken);
    *lock = taken;
    return false;
}
