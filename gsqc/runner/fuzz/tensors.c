/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files: whatever the bytes are, every tensor of an accepted header can be read to its
 * last byte. */
#include <setjmp.h>
#include <string.h>

#include "error.h"
#include "memory.h"
#include "tensors.h"

static jmp_buf back;

static void refuse(const char *line) {
    (void)line;
    longjmp(back, 1);
}

static void read_all(const tensor_file *file) {
    size_t position, last;
    yyjson_val *key, *value;
    tensor_metadata(file, "step");
    yyjson_obj_foreach(file->header, position, last, key, value) {
        const char *name = yyjson_get_str(key);
        const char *type = yyjson_get_str(yyjson_obj_get(value, "dtype"));
        if (!type || !strcmp(type, "U8")) continue; /* no plan has it */
        unsigned item_bytes = !strcmp(type, "I8") ? 1 : !strcmp(type, "I16") ? 2 : 4;
        uint64_t count = tensor_count(file, name, item_bytes);
        const volatile unsigned char *bytes = tensor_data(file, name, item_bytes, count);
        for (uint64_t k = 0; k < count * item_bytes; k++) (void)bytes[k];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    on_failure = refuse;
    if (!setjmp(back)) {
        tensor_file file;
        mapping map = {take(size ? size : 1, 1), size};
        memcpy(map.data, data, size);
        open_tensors(&file, "fuzz", map, "none");
        read_all(&file);
    }
    release_memory();
    return 0;
}
