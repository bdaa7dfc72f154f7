// SPDX-License-Identifier: Apache-2.0
// Multiply-adds per second of the instructions that a matmul kernel can be made of. They work on
// registers, on one thread.
//
//     cc -O2 -march=native instruction_peak.c -o instruction_peak && ./instruction_peak
//
// Prints "name GMAC/s" for each instruction that this CPU has. Twelve independent accumulators hide
// the latency.
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 20000000 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

#define EACH(what)                                          \
    what(0) what(1) what(2) what(3) what(4) what(5) what(6) \
    what(7) what(8) what(9) what(10) what(11)
#define START(k) VECTOR s##k = ZERO;
// The compiler must not use one product for two accumulators.
#define KEEP(k) __asm__ volatile("" : "+v"(s##k), "+v"(a));
#define ADD(k) STEP(s##k) KEEP(k)

#define PEAK(name, macs)                                                      \
    static void name(void) {                                                  \
        VECTOR a = ZERO, b = ZERO;                                            \
        EACH(START)                                                           \
        double best = 1e9;                                                    \
        for (int trial = 0; trial < 3; trial++) {                             \
            double start = seconds();                                         \
            for (int n = 0; n < ROUNDS; n++) {                                \
                __asm__ volatile("" : "+v"(a), "+v"(b));                      \
                EACH(ADD)                                                     \
            }                                                                 \
            double spent = seconds() - start;                                 \
            if (spent < best) best = spent;                                   \
        }                                                                     \
        printf("%s %.1f\n", #name, (double)ROUNDS * 12 * (macs) / best / 1e9); \
    }

#define VECTOR __m256i
#define ZERO _mm256_setzero_si256()
#define STEP(s) s = _mm256_add_epi32(s, _mm256_madd_epi16(a, b));
PEAK(pmaddwd, 16)
#undef STEP
#define STEP(s) s = _mm256_add_epi16(s, _mm256_maddubs_epi16(a, b));
PEAK(pmaddubsw, 32)
#undef STEP

#ifdef __AVX512VNNI__
#undef VECTOR
#undef ZERO
#define VECTOR __m512i
#define ZERO _mm512_setzero_si512()
#define STEP(s) s = _mm512_dpbusd_epi32(s, a, b);
PEAK(vpdpbusd, 64)
#endif

int main(void) {
    pmaddwd();
    pmaddubsw();
#ifdef __AVX512VNNI__
    vpdpbusd();
#endif
    return 0;
}
