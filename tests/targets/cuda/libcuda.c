/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the CUDA driver that gsqc calls, for an emulated GPU. A "fat binary" is the path
 * of a library that was built with emulation.h. What is started runs as late as it may, at
 * cuCtxSynchronize. As on a GPU, a kernel must not be given memory that only the host has. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};
enum { MOST_ARGUMENTS = 24, MOST_RANGES = 1 << 16 };

typedef void launcher(void *kernel, unsigned blocks, unsigned threads, void **arguments, int count);
typedef struct {
    void *kernel;
    launcher *launch;
    int arguments;
} function;
typedef struct {
    const function *f; /* null for a copy or a fill */
    unsigned blocks, threads;
    void *arguments[MOST_ARGUMENTS];
    size_t size;
} work;
typedef struct {
    char *start;
    size_t size;
} range;

static work *queue;
static size_t queued, room;
static range ranges[MOST_RANGES];
static size_t range_count;
static _Thread_local int is_current;

static work *add(void) {
    if (queued == room) {
        room = room ? 2 * room : 256;
        queue = realloc(queue, room * sizeof *queue);
        if (!queue) abort();
    }
    work *w = &queue[queued++];
    memset(w, 0, sizeof *w);
    return w;
}

static int is_managed(const char *p, size_t size) {
    for (size_t k = 0; k < range_count; k++)
        if (p >= ranges[k].start && p + size <= ranges[k].start + ranges[k].size) return 1;
    return 0;
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDeviceGetCount(int *count) {
    const char *gpus = getenv("EMULATED_GPUS");
    return *count = gpus ? atoi(gpus) : 1, OK;
}
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    int major = getenv("EMULATED_CAPABILITY") ? atoi(getenv("EMULATED_CAPABILITY")) : 9;
    *value = attribute == 75 ? major : 0;
    return attribute == 75 || attribute == 76 ? OK : INVALID_VALUE;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    return *context = &queue, device ? INVALID_VALUE : OK;
}
int cuCtxSetCurrent(void *context) { return is_current = context == &queue, OK; }
int cuGetErrorString(int code, const char **text) {
    *text = code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "emulated error";
    return OK;
}

int cuMemAllocManaged(void **address, size_t size, unsigned flags) {
    if (!is_current) return INVALID_CONTEXT;
    if (flags != 1 || !size) return INVALID_VALUE;
    if (range_count == MOST_RANGES) return OUT_OF_MEMORY;
    if (!(*address = aligned_alloc(256, (size + 255) / 256 * 256))) return OUT_OF_MEMORY;
    memset(*address, 0x55, size);
    ranges[range_count++] = (range){*address, size};
    return OK;
}
int cuMemFree_v2(void *address) {
    for (size_t k = 0; k < range_count; k++)
        if (ranges[k].start == address) {
            ranges[k] = ranges[--range_count];
            return free(address), OK;
        }
    return INVALID_VALUE;
}
int cuMemsetD8_v2(void *address, unsigned char value, size_t size) {
    if (!is_managed(address, size)) return ILLEGAL_ADDRESS;
    return memset(address, value, size), OK;
}
int cuMemsetD8Async(void *address, unsigned char value, size_t size, void *stream) {
    if (!is_current || stream || value) return INVALID_VALUE;
    if (!is_managed(address, size)) return ILLEGAL_ADDRESS;
    work *w = add();
    w->arguments[0] = address;
    w->size = size;
    return OK;
}
int cuMemcpyDtoDAsync_v2(void *to, void *from, size_t size, void *stream) {
    if (!is_current || stream) return INVALID_VALUE;
    if (!is_managed(to, size) || !is_managed(from, size)) return ILLEGAL_ADDRESS;
    work *w = add();
    w->arguments[0] = to;
    w->arguments[1] = from;
    w->size = size;
    return OK;
}

int cuModuleLoadData(void **module, const void *image) {
    if (!is_current) return INVALID_CONTEXT;
    *module = dlopen(image, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "%s\n", dlerror());
    return *module ? OK : INVALID_IMAGE;
}
int cuModuleGetFunction(void **found, void *module, const char *name) {
    char text[256];
    function *f = calloc(1, sizeof *f);
    snprintf(text, sizeof text, "%s_arguments", name);
    const int *arguments = dlsym(module, text);
    f->kernel = dlsym(module, name);
    f->launch = (launcher *)dlsym(module, "emulated_launch");
    if (!f->kernel || !f->launch || !arguments) return NOT_FOUND;
    f->arguments = *arguments;
    *found = f;
    return OK;
}
int cuLaunchKernel(const function *f, unsigned x, unsigned y, unsigned z, unsigned threads,
                   unsigned ty, unsigned tz, unsigned shared, void *stream, void **parameters,
                   void **extra) {
    if (!is_current) return INVALID_CONTEXT;
    if (y != 1 || z != 1 || ty != 1 || tz != 1 || shared || stream || extra) return INVALID_VALUE;
    work *w = add();
    w->f = f;
    w->blocks = x;
    w->threads = threads;
    for (int k = 0; k < f->arguments; k++) w->arguments[k] = *(void **)parameters[k];
    return OK;
}

int cuCtxSynchronize(void) {
    int result = is_current ? OK : INVALID_CONTEXT;
    for (size_t k = 0; k < queued && result == OK; k++) {
        work *w = &queue[k];
        if (w->f) {
            for (int n = 0; n < w->f->arguments; n++)
                if (!is_managed(w->arguments[n], 1)) result = ILLEGAL_ADDRESS;
            if (result == OK)
                w->f->launch(w->f->kernel, w->blocks, w->threads, w->arguments, w->f->arguments);
        } else if (w->arguments[1]) {
            memcpy(w->arguments[0], w->arguments[1], w->size);
        } else {
            memset(w->arguments[0], 0, w->size);
        }
    }
    queued = 0;
    return result;
}
