/* SPDX-License-Identifier: Apache-2.0 */
/* The calling convention of TVM's compiled functions (tvm/ffi/c_api.h, dlpack.h,
 * tvm/runtime/c_backend_api.h), and the functions that they call in turn: parallel loops,
 * workspace, errors. */
#ifndef GSQC_BACKEND_H
#define GSQC_BACKEND_H

#include <stdint.h>

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

/* What TVMBackendParallelLaunch takes: the tasks of a loop, each with its number and how many there
 * are. */
typedef struct {
    void *handle;
    int32_t tasks;
} parallel_environment;

typedef int (*parallel_body)(int task, parallel_environment *environment, void *data);

int parallel_launch(parallel_body body, void *data, int tasks);

void *allocate_workspace(int device_type, int device, uint64_t bytes, int type_code, int type_bits);

int free_workspace(int device_type, int device, void *workspace);

/* Keep what a function that fails has to say, and what the last one said. */
void raise_error(const char *text);
const char *raised_error(void);

#endif
