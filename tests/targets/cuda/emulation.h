// SPDX-License-Identifier: Apache-2.0
// An emulation of a GPU on the host, in place of gsqc/targets/cuda/device/instructions.cuh. The
// threads of a block are fibers of one host thread. They yield at barriers, shuffles and
// tensor-core instructions. Blocks run one by one.
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

#include <algorithm>
#include <vector>
using std::max;
using std::min;

#define __global__
#define __device__
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct Dimension {
    unsigned x = 0;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

namespace emulation {

constexpr int MOST_THREADS = 256, WARP = 32, STACK = 64 << 10;
enum Waiting { RUNNING, FOR_BLOCK, FOR_WARP, DONE };

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool begun;
    Waiting waiting;
    int64_t shown;          // what this lane gives to a shuffle
    unsigned a[4], b[2];    // its fragments of a matrix product
};

inline Fiber fibers[MOST_THREADS];
inline char stacks[MOST_THREADS][STACK];
inline int current, count;
inline jmp_buf scheduler;
inline void (*body)();

inline void fail(const char *why) {
    fprintf(stderr, "emulated GPU: %s\n", why);
    abort();
}

inline void yield(Waiting why) {
    Fiber &f = fibers[current];
    f.waiting = why;
    if (!_setjmp(f.place)) _longjmp(scheduler, 1);
}

inline void begin() {
    body();
    fibers[current].waiting = DONE;
    _longjmp(scheduler, 1);
}

inline void resume(int k);

// Threads that have returned count as arrived, as on a GPU since Volta only for warps: a block
// barrier wants all.
inline bool arrived(int first, int last, Waiting at) {
    for (int k = first; k < last; ++k)
        if (fibers[k].waiting != at) return false;
    return true;
}

}  // namespace emulation

inline Dimension threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

inline void resume(int k) {
    current = k;
    threadIdx.x = (unsigned)k;
    Fiber &f = fibers[k];
    f.waiting = RUNNING;
    if (_setjmp(scheduler)) return;
    if (f.begun) _longjmp(f.place, 1);
    f.begun = true;
    setcontext(&f.start);
}

inline void run_block() {
    for (int k = 0; k < count; ++k) {
        Fiber &f = fibers[k];
        f.begun = false;
        getcontext(&f.start);
        f.start.uc_stack = {stacks[k], 0, STACK};
        f.start.uc_link = nullptr;
        makecontext(&f.start, begin, 0);
        f.waiting = RUNNING;
    }
    // Odd warps run backwards: an order that a kernel must not rely on.
    for (bool moved = true; moved;) {
        moved = false;
        for (int warp = 0; warp < count / WARP; ++warp)
            for (int n = 0; n < WARP; ++n) {
                int k = warp * WARP + (warp % 2 ? WARP - 1 - n : n);
                if (fibers[k].waiting == RUNNING) resume(k), moved = true;
            }
        for (int first = 0; first < count; first += WARP)
            if (arrived(first, first + WARP, FOR_WARP)) {
                for (int k = first; k < first + WARP; ++k) fibers[k].waiting = RUNNING;
                moved = true;
            }
        if (arrived(0, count, FOR_BLOCK)) {
            for (int k = 0; k < count; ++k) fibers[k].waiting = RUNNING;
            moved = true;
        }
    }
    if (!arrived(0, count, DONE)) fail("threads wait at different barriers");
}

template <typename T, typename F> T exchange(T x, F choose) {
    fibers[current].shown = (int64_t)x;
    yield(FOR_WARP);
    int first = current / WARP * WARP;
    T result = choose(first);
    yield(FOR_WARP);
    return result;
}

}  // namespace emulation

inline void __syncthreads() { emulation::yield(emulation::FOR_BLOCK); }

template <typename T> T __shfl_xor_sync(unsigned lanes, T x, int distance) {
    if (lanes != 0xffffffffu) emulation::fail("a shuffle of part of a warp");
    return emulation::exchange(
        x, [=](int) { return (T)emulation::fibers[emulation::current ^ distance].shown; });
}

inline int __reduce_add_sync(unsigned, int x) {
    return emulation::exchange(x, [](int first) {
        unsigned total = 0;
        for (int k = 0; k < emulation::WARP; ++k)
            total += (unsigned)emulation::fibers[first + k].shown;
        return (int)total;
    });
}

inline int __reduce_max_sync(unsigned, int x) {
    return emulation::exchange(x, [](int first) {
        int most = INT32_MIN;
        for (int k = 0; k < emulation::WARP; ++k)
            most = max(most, (int)emulation::fibers[first + k].shown);
        return most;
    });
}

inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }

inline int __dp4a(int x, int y, int sum) {
    int8_t a[4], b[4];
    memcpy(a, &x, 4);
    memcpy(b, &y, 4);
    for (int k = 0; k < 4; ++k) sum += a[k] * b[k];
    return sum;
}

// PTX ISA, "matrix fragments for mma.m16n8k32", int8: the lane and register that hold each element.
inline int8_t element_of_a(int first, int row, int k) {
    const emulation::Fiber &f = emulation::fibers[first + row % 8 * 4 + k % 16 / 4];
    return (int8_t)(f.a[k / 16 * 2 + row / 8] >> k % 4 * 8);
}
inline int8_t element_of_b(int first, int k, int column) {
    const emulation::Fiber &f = emulation::fibers[first + column * 4 + k % 16 / 4];
    return (int8_t)(f.b[k / 16] >> k % 4 * 8);
}
inline void mma_s8(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulation::Fiber &f = emulation::fibers[emulation::current];
    memcpy(f.a, a, sizeof a);
    memcpy(f.b, b, sizeof b);
    emulation::yield(emulation::FOR_WARP);
    const int lane = emulation::current % 32, first = emulation::current - lane;
    for (int e = 0; e < 4; ++e)
        for (int k = 0; k < 32; ++k)
            c[e] += element_of_a(first, lane / 4 + e / 2 * 8, k) *
                    element_of_b(first, k, lane % 4 * 2 + e % 2);
    emulation::yield(emulation::FOR_WARP);
}

// Copies arrive as late as they may: at the wait for their batch.
struct PendingCopy {
    void *to;
    const void *from;
    int batch;
};
inline std::vector<PendingCopy> pending[emulation::MOST_THREADS];
inline int batches[emulation::MOST_THREADS];

inline void copy_async16(void *shared, const void *global) {
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16)
        emulation::fail("a copy of 16 bytes that is not aligned");
    pending[emulation::current].push_back({shared, global, batches[emulation::current]});
}
inline void copies_issued() { ++batches[emulation::current]; }
template <int PENDING> void copies_arrived() {
    std::vector<PendingCopy> later;
    for (const PendingCopy &c : pending[emulation::current])
        if (c.batch < batches[emulation::current] - PENDING)
            memcpy(c.to, c.from, 16);
        else
            later.push_back(c);
    pending[emulation::current].swap(later);
}

// The launch. Shared memory keeps what the last block left there: kernels must not count on zeros.
typedef void Kernel24(void *, void *, void *, void *, void *, void *, void *, void *, void *,
                      void *, void *, void *, void *, void *, void *, void *, void *, void *,
                      void *, void *, void *, void *, void *, void *);
inline Kernel24 *launched;
inline void *arguments[24];

extern "C" __attribute__((visibility("default"))) void emulated_launch(
    void *kernel, unsigned blocks, unsigned threads, void **values, int value_count) {
    if (threads > emulation::MOST_THREADS || threads % 32 || value_count > 24)
        emulation::fail("an impossible launch");
    memcpy(arguments, values, sizeof(void *) * (size_t)value_count);
    launched = (Kernel24 *)kernel;
    emulation::count = (int)threads;
    emulation::body = [] {
        void **v = arguments;
        launched(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12],
                 v[13], v[14], v[15], v[16], v[17], v[18], v[19], v[20], v[21], v[22], v[23]);
    };
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) emulation::run_block();
}
