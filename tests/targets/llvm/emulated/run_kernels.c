/* SPDX-License-Identifier: Apache-2.0 */
/* run_kernels LIBRARY < calls > results: runs kernels on tensors, through gsqc-step's own loader.
 *
 * A call: the name (64 bytes, zero-filled), int64 arguments, and for each argument int64 item
 * bytes, int64 count, the elements.
 * A result: the elements of every argument after the call. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"
#include "threads.h"

static int64_t number(void) {
    int64_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1) exit(3);
    return n;
}

int main(int count, char **words) {
    char name[64];
    if (count != 2) return 3;
    if (use_threads(2)) return 3;
    while (fread(name, sizeof name, 1, stdin) == 1) {
        kernel one = {.name = name};
        plan p = {.kernels = &one, .kernel_count = 1};
        array arrays[MAXIMUM_ARGUMENTS];
        uint32_t arguments = (uint32_t)number();
        load_kernels(&p, words[1]);
        for (uint32_t k = 0; k < arguments; k++) {
            arrays[k].item_bytes = (unsigned)number();
            arrays[k].count = (uint64_t)number();
            size_t bytes = arrays[k].count * arrays[k].item_bytes;
            arrays[k].data = aligned_alloc(64, bytes / 64 * 64 + 64);
            if (!arrays[k].data || fread(arrays[k].data, 1, bytes, stdin) != bytes) return 3;
        }
        call_kernel(&one, arrays, arguments);
        for (uint32_t k = 0; k < arguments; k++) {
            fwrite(arrays[k].data, arrays[k].item_bytes, arrays[k].count, stdout);
            free(arrays[k].data);
        }
    }
    return 0;
}
