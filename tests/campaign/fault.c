/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the calls that change files, and at one of them kills the process or lets the call fail.
 * Loaded with LD_PRELOAD. What is printed does not count, and neither do pipes and devices. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_AFTER, FAIL_ONCE, FAIL_ON };

static atomic_long calls;
static long chosen = -1;
static int mode, reason, report = -1;

void fault_arm(long at, int how, int error, int descriptor);
long fault_count(void);

/* From call number `at`, counted from 1, `how` happens. The call's name goes to `descriptor`. */
void fault_arm(long at, int how, int error, int descriptor) {
    mode = how, reason = error, report = descriptor;
    atomic_store(&calls, 0);
    chosen = at;
}

long fault_count(void) { return atomic_load(&calls); }

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *text = getenv("GSQC_FAULT"); /* at, mode, error, descriptor */
    long at;
    int how, error, descriptor;
    if (text && sscanf(text, "%ld %d %d %d", &at, &how, &error, &descriptor) == 4)
        fault_arm(at, how, error, descriptor);
}

__attribute__((destructor)) static void say_count(void) {
    if (getenv("GSQC_FAULT")) dprintf(report, "count %ld\n", fault_count());
}

/* Whether a call may go on. It returns with `*kill` set if the process ends after the call. */
static int enter(const char *name, int *kill_after) {
    *kill_after = 0;
    if (chosen < 0) return 1;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (number < chosen || (number > chosen && mode != FAIL_ON) || mode == COUNT) return 1;
    if (number == chosen && report >= 0) dprintf(report, "call %s\n", name);
    if (mode == KILL_BEFORE) kill(getpid(), SIGKILL);
    *kill_after = mode == KILL_AFTER;
    if (mode == KILL_AFTER) return 1;
    errno = reason;
    return 0;
}

static int is_plain(int descriptor) {
    struct stat status;
    int before = errno, plain = !fstat(descriptor, &status) && S_ISREG(status.st_mode);
    errno = before;
    return plain && descriptor > STDERR_FILENO;
}

static int is_device(const char *path) {
    return path && (!strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6));
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* A call that returns -1 for an error. `counts` says whether it changes a file. */
#define CALL(type, name, counts, parameters, ...)                                                  \
    type name parameters {                                                                         \
        static type(*real) parameters;                                                             \
        int last = 0;                                                                              \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                             \
        if ((counts) && !enter(#name, &last)) return -1;                                           \
        type result = real(__VA_ARGS__);                                                           \
        if (last) kill(getpid(), SIGKILL);                                                         \
        return result;                                                                             \
    }

CALL(ssize_t, write, is_plain(f), (int f, const void *data, size_t size), f, data, size)
CALL(ssize_t, writev, is_plain(f), (int f, const struct iovec *v, int count), f, v, count)
CALL(ssize_t, pwrite64, is_plain(f), (int f, const void *d, size_t n, off64_t at), f, d, n, at)
CALL(ssize_t, sendfile64, is_plain(to), (int to, int f, off64_t *at, size_t n), to, f, at, n)
CALL(ssize_t, sendfile, is_plain(to), (int to, int f, off_t *at, size_t n), to, f, at, n)
CALL(ssize_t, copy_file_range, is_plain(to),
     (int f, off64_t *a, int to, off64_t *b, size_t n, unsigned how), f, a, to, b, n, how)
CALL(int, fsync, 1, (int f), f)
CALL(int, fdatasync, 1, (int f), f)
CALL(int, ftruncate, 1, (int f, off_t size), f, size)
CALL(int, ftruncate64, 1, (int f, off64_t size), f, size)
CALL(int, truncate64, 1, (const char *path, off64_t size), path, size)
CALL(int, flock, 1, (int f, int how), f, how)
CALL(int, rename, 1, (const char *a, const char *b), a, b)
CALL(int, renameat, 1, (int f, const char *a, int to, const char *b), f, a, to, b)
CALL(int, renameat2, 1, (int f, const char *a, int to, const char *b, unsigned how), f, a, to, b,
     how)
CALL(int, link, 1, (const char *a, const char *b), a, b)
CALL(int, linkat, 1, (int f, const char *a, int to, const char *b, int how), f, a, to, b, how)
CALL(int, mkdir, 1, (const char *path, mode_t rights), path, rights)
CALL(int, mkdirat, 1, (int f, const char *path, mode_t rights), f, path, rights)
CALL(int, rmdir, 1, (const char *path), path)
CALL(int, unlink, 1, (const char *path), path)
CALL(int, unlinkat, 1, (int f, const char *path, int how), f, path, how)
CALL(int, chmod, 1, (const char *path, mode_t rights), path, rights)
CALL(int, fchmod, 1, (int f, mode_t rights), f, rights)

/* Opening counts if it may make or change a file. */
#define RIGHTS()                                                                                   \
    mode_t rights = 0;                                                                             \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        rights = va_arg(more, mode_t);                                                             \
        va_end(more);                                                                              \
    }                                                                                              \
    int counts = (flags & O_ACCMODE) != O_RDONLY && !is_device(path), last = 0

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        REAL(int, name, const char *, int, ...);                                                   \
        RIGHTS();                                                                                  \
        if (counts && !enter(#name, &last)) return -1;                                             \
        int result = real(path, flags, rights);                                                    \
        if (last) kill(getpid(), SIGKILL);                                                         \
        return result;                                                                             \
    }

#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...) {                                       \
        REAL(int, name, int, const char *, int, ...);                                              \
        RIGHTS();                                                                                  \
        if (counts && !enter(#name, &last)) return -1;                                             \
        int result = real(folder, path, flags, rights);                                            \
        if (last) kill(getpid(), SIGKILL);                                                         \
        return result;                                                                             \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* The C library's own calls below a FILE cannot be met, so its edges are. */
#define FOPEN(name)                                                                                \
    FILE *name(const char *path, const char *how) {                                                \
        REAL(FILE *, name, const char *, const char *);                                            \
        int last = 0;                                                                              \
        if (!strchr("r", how[0]) && !is_device(path) && !enter(#name, &last)) return NULL;         \
        FILE *result = real(path, how);                                                            \
        if (last) kill(getpid(), SIGKILL);                                                         \
        return result;                                                                             \
    }

FOPEN(fopen)
FOPEN(fopen64)

int fclose(FILE *file) {
    REAL(int, fclose, FILE *);
    int last = 0, flags = fcntl(fileno(file), F_GETFL);
    int counts = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && is_plain(fileno(file));
    if (counts && !enter("fclose", &last)) {
        int error = errno;
        real(file);
        errno = error;
        return EOF;
    }
    int result = real(file);
    if (last) kill(getpid(), SIGKILL);
    return result;
}

/* ctypes may call renameat2 by its number. */
long syscall(long number, ...) {
    REAL(long, syscall, long, ...);
    va_list more;
    long a[6];
    int last = 0;
    va_start(more, number);
    for (int k = 0; k < 6; k++) a[k] = va_arg(more, long);
    va_end(more);
    if (number == SYS_renameat2 && !enter("renameat2", &last)) return -1;
    long result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (last) kill(getpid(), SIGKILL);
    return result;
}
