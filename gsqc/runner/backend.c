/* SPDX-License-Identifier: Apache-2.0 */
/* What compiled kernels call: parallel loops, workspace and errors. It trusts them, because they
 * are native code in the same process. Their C names and types are TVM's, and must not change. */
#include "backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "threads.h"

enum {
    WORKSPACE_ALIGNMENT = 64,
    /* tasks per thread: the smaller they are, the less a busy core holds up the others */
    SHARE_OF_TASKS = 4,
};

typedef struct {
    parallel_body body;
    void *data;
} parallel_loop;

static char raised[256];

void raise_error(const char *text) { snprintf(raised, sizeof raised, "%s", text); }

const char *raised_error(void) { return raised; }

/* Compiled code calls this by its name when an argument is not what it was compiled for. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    size_t used = (size_t)snprintf(raised, sizeof raised, "%s: ", kind);
    for (int32_t k = 0; k < count && used < sizeof raised; k++)
        if (parts[k]) used += (size_t)snprintf(raised + used, sizeof raised - used, "%s", parts[k]);
}

static int run_body(int number, int count, void *data) {
    parallel_loop *loop = data;
    parallel_environment environment = {NULL, count};
    return loop->body(number, &environment, loop->data);
}

int parallel_launch(parallel_body body, void *data, int tasks) {
    parallel_loop loop = {body, data};
    int threads = thread_count();
    return run_tasks(run_body, tasks ? tasks : threads > 1 ? threads * SHARE_OF_TASKS : 1, &loop);
}

/* Memory of a thread's kernels. It is kept from one call to the next, because fresh memory costs
 * page faults each time. */
typedef struct {
    void *memory;
    uint64_t bytes;
    bool taken;
} workspace;

enum { WORKSPACES = 16 };

static _Thread_local workspace workspaces[WORKSPACES];

static void *fresh(uint64_t bytes) {
    if (bytes > SIZE_MAX - WORKSPACE_ALIGNMENT) return NULL;
    return aligned_alloc(WORKSPACE_ALIGNMENT,
                         (bytes / WORKSPACE_ALIGNMENT + 1) * WORKSPACE_ALIGNMENT);
}

/* The smallest free workspace that is large enough, else the smallest free one, to be made
 * larger. */
static workspace *choose(uint64_t bytes) {
    workspace *best = NULL, *first = NULL;
    for (workspace *w = workspaces; w < workspaces + WORKSPACES; w++) {
        if (w->taken) continue;
        if (w->bytes >= bytes && (!best || w->bytes < best->bytes)) best = w;
        if (!first || w->bytes < first->bytes) first = w;
    }
    return best ? best : first;
}

void *allocate_workspace(int device_type, int device, uint64_t bytes, int type_code,
                         int type_bits) {
    (void)device_type, (void)device, (void)type_code, (void)type_bits;
    workspace *w = choose(bytes);
    if (!w) return fresh(bytes);
    if (w->bytes < bytes) {
        free(w->memory);
        w->memory = fresh(bytes);
        w->bytes = w->memory ? bytes : 0;
        if (!w->memory) return NULL;
    }
    w->taken = true;
    return w->memory;
}

int free_workspace(int device_type, int device, void *memory) {
    (void)device_type, (void)device;
    for (workspace *w = workspaces; w < workspaces + WORKSPACES; w++)
        if (w->memory == memory) {
            w->taken = false;
            return 0;
        }
    free(memory);
    return 0;
}
