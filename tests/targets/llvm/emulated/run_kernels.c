/* SPDX-License-Identifier: Apache-2.0 */
/* run_kernels LIBRARY < calls > results: runs kernels on tensors, through gsqc-step's own loader.
 *
 * First comes int64 calls, and the name of each (64 bytes, zero-filled). Then for each call int64
 * arguments, and for each argument int64 item bytes, int64 count, the elements.
 * A result: the elements of every argument after the call. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "files.h"
#include "kernels.h"
#include "threads.h"

enum { NAME_BYTES = 64 };

static int64_t number(void) {
    int64_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1) exit(3);
    return n;
}

/* The kernels of the calls. A library is loaded once: each load has a copy of its own. */
static plan load_named(const char *library, uint32_t count) {
    kernel *kernels = calloc(count, sizeof *kernels);
    char *names = calloc(count, NAME_BYTES);
    mapping map;
    if (!kernels || !names || fread(names, NAME_BYTES, count, stdin) != count) exit(3);
    for (uint32_t k = 0; k < count; k++) kernels[k].name = names + (size_t)k * NAME_BYTES;
    plan p = {.kernels = kernels, .kernel_count = count};
    if (!read_file(&map, AT_FDCWD, library, INT64_MAX)) exit(3);
    load_kernels(&p, &map);
    return p;
}

int main(int count, char **words) {
    if (count != 2 || use_threads(2)) return 3;
    plan p = load_named(words[1], (uint32_t)number());
    for (uint32_t call = 0; call < p.kernel_count; call++) {
        array arrays[MAXIMUM_ARGUMENTS];
        uint32_t arguments = (uint32_t)number();
        for (uint32_t k = 0; k < arguments; k++) {
            arrays[k].item_bytes = (unsigned)number();
            arrays[k].count = (uint64_t)number();
            size_t bytes = arrays[k].count * arrays[k].item_bytes;
            arrays[k].data = aligned_alloc(64, bytes / 64 * 64 + 64);
            if (!arrays[k].data || fread(arrays[k].data, 1, bytes, stdin) != bytes) return 3;
        }
        call_kernel(&p.kernels[call], arrays, arguments);
        for (uint32_t k = 0; k < arguments; k++) {
            fwrite(arrays[k].data, arrays[k].item_bytes, arrays[k].count, stdout);
            free(arrays[k].data);
        }
    }
    return 0;
}
