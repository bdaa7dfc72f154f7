/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a bundle's kernels and calls them. It trusts the library: its hash was checked, but it is
 * native code, and nothing here could confine it. The plan's shapes were checked against the calls;
 * whether the code has the same shapes, the code itself checks. */
#include "kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "error.h"
#include "library_copy.h"

/* The library reaches the runtime through variables of its own, which its loader fills. A library
 * that lacks a variable does not use it. */
static void provide(void *library, const char *name, void *target) {
    void **variable = dlsym(library, name);
    if (variable) *variable = target;
}

void load_kernels(plan *p, const mapping *content) {
    char symbol[512];
    const char *problem = NULL;
    void *library = load_library(content, &problem);
    if (!library)
        fail("compile the model again, or give TMPDIR space for a copy of the file",
             "cannot load kernels.so: %s", problem);
    provide(library, "__TVMBackendParallelLaunch", (void *)(uintptr_t)parallel_launch);
    provide(library, "__TVMBackendAllocWorkspace", (void *)(uintptr_t)allocate_workspace);
    provide(library, "__TVMBackendFreeWorkspace", (void *)(uintptr_t)free_workspace);
    for (uint32_t k = 0; k < p->kernel_count; k++) {
        snprintf(symbol, sizeof symbol, "__tvm_ffi_%s", p->kernels[k].name);
        p->kernels[k].code = dlsym(library, symbol);
        if (!p->kernels[k].code)
            fail(AGAIN, "the bundle's code has no kernel %s", p->kernels[k].name);
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
        fail(AGAIN, "the kernel %s does not fit the plan (%s)", k->name, raised_error());
}
