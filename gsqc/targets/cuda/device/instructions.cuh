// SPDX-License-Identifier: Apache-2.0
// Instructions that CUDA C has no name for. An emulation of a GPU (tests/targets/cuda) replaces
// this file and no other.
#include <cstdint>

// Tensor cores: c[16, 8] += a[16, 32] · b[32, 8], int8 into int32. One instruction takes a whole
// group of 32, which is why its dot is exact before any shift. Which lane holds which elements:
// PTX ISA, "matrix fragments for mma.m16n8k32".
__device__ inline void mma_s8(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes from global to shared memory, without waiting; `copies_issued` closes a batch of them.
__device__ inline void copy_async16(void *shared, const void *global) {
    const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

__device__ inline void copies_issued() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until all batches but the newest PENDING are there.
template <int PENDING> __device__ inline void copies_arrived() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
