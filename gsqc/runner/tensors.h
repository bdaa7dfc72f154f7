/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files, read in place and written as gsqc/bundle/tensor_file.py writes them, byte for
 * byte. */
#ifndef GSQC_TENSORS_H
#define GSQC_TENSORS_H

#include "files.h"
#include "json.h"
#include "plan.h"

typedef struct {
    const char *path;
    json_source source;
    mapping map;
    yyjson_val *header;
    unsigned char *data;
    uint64_t size; /* of the data section */
} tensor_file;

/* Take a file that is in memory, and check its header. `hint` says what to do about a malformed
 * file. The tensors are those bytes, which the caller keeps. */
void open_tensors(tensor_file *file, const char *path, mapping map, const char *hint);

/* A text of the header's metadata; NULL if it has none of this name. */
const char *tensor_metadata(const tensor_file *file, const char *key);

/* The memory of a tensor, aligned; fails unless it has this type and number of elements. */
unsigned char *tensor_data(const tensor_file *file, const char *name, unsigned item_bytes,
                           uint64_t count);

/* The number of elements of a tensor of this type. */
uint64_t tensor_count(const tensor_file *file, const char *name, unsigned item_bytes);

/* Let the system drop what was read. It is read again when it is needed. */
void release_pages(const tensor_file *file);

/* Replace a file by one with these tensors, sorted by name, and two texts of metadata: step and
 * bundle. False with errno if that fails. */
bool write_tensors(const folder *place, const char *name, tensor *const *tensors, uint32_t count,
                   uint64_t step, const char *bundle);

#endif
