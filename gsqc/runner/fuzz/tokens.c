/* SPDX-License-Identifier: Apache-2.0 */
/* Token files: whatever the bytes are, reading them ends with batches or a sentence. Every sequence
 * of every step of an accepted file can be copied, and has its numbers in their ranges. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "batches.h"
#include "error.h"
#include "memory.h"

enum { LENGTH = 4, VOCABULARY = 8, MOST_STEPS = 64 };
static const char MANIFEST[] = "{\"optimizer\": \"adamw\", \"files\": {}}";
static jmp_buf back;

static void refuse(const char *line) {
    (void)line;
    longjmp(back, 1);
}

static void copy_all(const batches *b) {
    int32_t numbers[SEQUENCE_PARTS][LENGTH];
    int32_t *const parts[SEQUENCE_PARTS] = {numbers[0], numbers[1], numbers[2], numbers[3]};
    for (uint64_t step = 0; step < b->steps && step < MOST_STEPS; step++)
        for (uint32_t k = 0; k < b->batch; k++) {
            copy_sequence(b, step, k, parts);
            for (int i = 0; i < LENGTH; i++)
                if (numbers[TOKENS][i] < 0 || numbers[TOKENS][i] >= VOCABULARY ||
                    numbers[POSITIONS][i] > i)
                    abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bundle owner; /* not local variables: their values must survive the jump */
    static batches b;
    const json_source source = {"fuzz", "none"};
    owner = (bundle){.sequence_length = LENGTH, .vocabulary = VOCABULARY};
    b = (batches){0};
    on_failure = refuse;
    if (!setjmp(back)) {
        owner.manifest = json_read(&source, MANIFEST, strlen(MANIFEST));
        mapping map = {take(size ? size : 1, 1), size};
        memcpy(map.data, data, size);
        read_batches(&b, &owner, "fuzz", map);
        copy_all(&b);
    }
    release_memory();
    return 0;
}
