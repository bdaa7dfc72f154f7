/* SPDX-License-Identifier: Apache-2.0 */
/* The calling convention of TVM's compiled functions (tvm/ffi/c_api.h, dlpack.h, tvm/runtime/c_backend_api.h). */
#include "kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "memory.h"
#include "threads.h"

enum { CPU = 1, SIGNED_INTEGER = 0, TENSOR_POINTER = 7 };

/* DLPack's DLTensor. */
typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t dimensions;
    uint8_t type_code, type_bits;
    uint16_t type_lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

/* TVMFFIAny. */
typedef struct {
    int32_t type;
    uint32_t padding;
    union {
        int64_t number;
        const void *pointer;
    } value;
} any;

typedef int (*packed_function)(void *handle, const any *arguments, int32_t count, any *result);

typedef struct {
    void *handle;
    int32_t tasks;
} parallel_environment;

typedef int (*parallel_body)(int task, parallel_environment *environment, void *data);

typedef struct {
    parallel_body body;
    void *data;
} parallel_loop;

static char raised[256];

/* The library calls this by its name when an argument is not what it was compiled for. */
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

static int parallel_launch(parallel_body body, void *data, int tasks) {
    parallel_loop loop = {body, data};
    return run_tasks(run_body, tasks ? tasks : thread_count(), &loop);
}

static void *allocate_workspace(int device_type, int device, uint64_t bytes, int type_code, int type_bits) {
    (void)device_type, (void)device, (void)type_code, (void)type_bits;
    return bytes > SIZE_MAX - ALIGNMENT ? NULL : aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
}

static int free_workspace(int device_type, int device, void *workspace) {
    (void)device_type, (void)device;
    free(workspace);
    return 0;
}

/* The library reaches the runtime through variables of its own, which its loader fills. A library without one
 * has no use for it. */
static void provide(void *library, const char *name, void *target) {
    void **variable = dlsym(library, name);
    if (variable) *variable = target;
}

void load_kernels(plan *p, const char *path) {
    char symbol[512];
    /* A name without a slash would be looked for elsewhere. */
    const char *place = strchr(path, '/') ? path : take_path(".", path);
    void *library = dlopen(place, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(AGAIN, "cannot load kernels.so: %s", dlerror());
    provide(library, "__TVMBackendParallelLaunch", (void *)(uintptr_t)parallel_launch);
    provide(library, "__TVMBackendAllocWorkspace", (void *)(uintptr_t)allocate_workspace);
    provide(library, "__TVMBackendFreeWorkspace", (void *)(uintptr_t)free_workspace);
    for (uint32_t k = 0; k < p->kernel_count; k++) {
        snprintf(symbol, sizeof symbol, "__tvm_ffi_%s", p->kernels[k].name);
        p->kernels[k].code = dlsym(library, symbol);
        if (!p->kernels[k].code) fail(AGAIN, "the bundle's code has no kernel %s", p->kernels[k].name);
    }
}

void call_kernel(const kernel *k, const array *arrays, uint32_t count) {
    dl_tensor tensors[MAXIMUM_ARGUMENTS];
    any arguments[MAXIMUM_ARGUMENTS], result = {0};
    int64_t shapes[MAXIMUM_ARGUMENTS], stride = 1;
    for (uint32_t i = 0; i < count; i++) {
        shapes[i] = (int64_t)arrays[i].count;
        tensors[i] = (dl_tensor){.data = arrays[i].data,
                                 .device_type = CPU,
                                 .dimensions = 1,
                                 .type_code = SIGNED_INTEGER,
                                 .type_bits = (uint8_t)(arrays[i].item_bytes * 8),
                                 .type_lanes = 1,
                                 .shape = &shapes[i],
                                 .strides = &stride};
        arguments[i] = (any){TENSOR_POINTER, 0, {.pointer = &tensors[i]}};
    }
    packed_function code = (packed_function)(uintptr_t)k->code;
    if (code(NULL, arguments, (int32_t)count, &result))
        fail(AGAIN, "the kernel %s does not fit the plan (%s)", k->name, raised);
}
