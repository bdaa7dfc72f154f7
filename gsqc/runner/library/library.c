/* SPDX-License-Identifier: Apache-2.0 */
/* What is linked into kernels.so beside the kernels: the threads that they run on, and a loop over
 * their calls. The Python runtime loads kernels.so alone. gsqc-step brings its own threads, and
 * replaces what is provided here. It trusts its caller's addresses, and checks counts. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "../backend.h"
#include "../format.h"
#include "../threads.h"

#define EXPORTED __attribute__((visibility("default")))

/* A call of a kernel. Without code it is a copy of `count` bytes from the first argument's address
 * to the second's. */
typedef struct {
    packed_function code;
    const any *arguments;
    int64_t count;
} gsqc_call;

/* Variables of compiled code, which exist if it uses them, and are null until `provide` runs. */
extern void *__TVMBackendParallelLaunch __attribute__((weak));
extern void *__TVMBackendAllocWorkspace __attribute__((weak));
extern void *__TVMBackendFreeWorkspace __attribute__((weak));

__attribute__((constructor)) static void provide(void) {
    if (&__TVMBackendParallelLaunch)
        __TVMBackendParallelLaunch = (void *)(uintptr_t)parallel_launch;
    if (&__TVMBackendAllocWorkspace)
        __TVMBackendAllocWorkspace = (void *)(uintptr_t)allocate_workspace;
    if (&__TVMBackendFreeWorkspace) __TVMBackendFreeWorkspace = (void *)(uintptr_t)free_workspace;
}

/* start / period for a kernel, of which LLVM must not know that it is a division. */
int32_t gsqc_quotient(int32_t start, int32_t period);

int32_t gsqc_quotient(int32_t start, int32_t period) {
    return start / period;
}

/* Sessions of one bundle share the library, and its threads take one job at a time. */
static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static int64_t run(const gsqc_call *calls, int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        const gsqc_call *c = &calls[k];
        any result = {0};
        if (c->count < 0 || (c->code && c->count > MAXIMUM_ARGUMENTS)) {
            raise_error("a call's count is out of its range");
            return k;
        }
        if (!c->code)
            memmove((void *)(uintptr_t)c->arguments[1].value.pointer, c->arguments[0].value.pointer,
                    (size_t)c->count);
        else if (c->code(NULL, c->arguments, (int32_t)c->count, &result))
            return k;
    }
    return count;
}

/* Run calls in order. The number of those that were done: less than `count` if one failed, and -1
 * if `count` is negative. */
EXPORTED int64_t gsqc_run(const gsqc_call *calls, int64_t count);

int64_t gsqc_run(const gsqc_call *calls, int64_t count) {
    if (count < 0) return -1;
    pthread_mutex_lock(&running);
    int64_t done = run(calls, count);
    pthread_mutex_unlock(&running);
    return done;
}

EXPORTED const char *gsqc_error(void);

const char *gsqc_error(void) { return raised_error(); }

EXPORTED int gsqc_use_threads(int count);

int gsqc_use_threads(int count) {
    pthread_mutex_lock(&running);
    int reason = use_threads(count);
    pthread_mutex_unlock(&running);
    return reason;
}
