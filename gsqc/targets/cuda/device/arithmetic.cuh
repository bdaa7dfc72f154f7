// SPDX-License-Identifier: Apache-2.0
// The operators that are more than one C operator, and reductions over a block. What they mean
// stands in gsqc/numerics/operators/builder.py.

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Bits may leave at the top, which C leaves undefined for a signed number.
__device__ inline int left_shift(int x, int n) { return (int)((unsigned)x << n); }

__device__ inline int logical_right_shift(int x, int n) { return (int)((unsigned)x >> n); }

// Half up, without a sum that could overflow.
__device__ inline int round_shift(int x, int n) {
    return (x >> n) + ((x >> max(n - 1, 0)) & min(n, 1));
}

__device__ inline int rounding_product(int x, int y, int shift) {
    return (int)(((int64_t)x * y + ((int64_t)1 << (shift - 1))) >> shift);
}

// Linear interpolation: the upper 9 bits choose an entry, the lower 7 are the fraction.
// An entry holds two neighbours: this one in the low half, the next in the high half.
__device__ inline int table_lookup(int x, const int *table) {
    int index = x + 32768, pair = table[index >> 7];
    int base = (int16_t)pair, following = pair >> 16;
    return base * 128 + (following - base) * (index & 127);
}

// A partial sum may leave int32 where the whole does not.
__device__ inline int add_wrapping(int x, int y) { return (int)((unsigned)x + (unsigned)y); }

struct Sum {
    static constexpr int neutral = 0;
    static __device__ int combine(int x, int y) { return add_wrapping(x, y); }
    static __device__ int warp(int x) { return __reduce_add_sync(ALL_LANES, x); }
};

struct Max {
    static constexpr int neutral = INT32_MIN;
    static __device__ int combine(int x, int y) { return max(x, y); }
    static __device__ int warp(int x) { return __reduce_max_sync(ALL_LANES, x); }
};

// H·x for the 32 elements that the lanes of a warp hold. Each round takes one bit of the index:
// where it is 0 stands the sum of two lanes, where it is 1 their difference.
__device__ inline int rotated(int x) {
    for (int bit = 1; bit < WARP; bit *= 2) {
        const int other = __shfl_xor_sync(ALL_LANES, x, bit);
        x = threadIdx.x & bit ? other - x : other + x;
    }
    return x;
}

// The reduction over all threads of the block, which all of them get. Warps reduce in registers,
// and leave their parts to each other in shared memory.
template <typename Reduction> __device__ inline int over_block(int x) {
    __shared__ int parts[WARP];
    x = Reduction::warp(x);
    if (blockDim.x == WARP) return x;
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
    __syncthreads();
    x = parts[0];
    for (int k = 1; k < (int)blockDim.x / WARP; ++k) x = Reduction::combine(x, parts[k]);
    // The next reduction writes `parts` again.
    __syncthreads();
    return x;
}
