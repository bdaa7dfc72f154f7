// SPDX-License-Identifier: Apache-2.0
// The exact product of two GSE matrices: x [batch, m, k] · w [batch, c, k]ᵀ -> int32 [batch, m, c].
//
//     for each group:  d[i, j] = Σ over the group of x[i] · w[j]          int32, exact: mma or dp4a
//                      acc[i, j] += d << (lift of x[i]'s group + lift of w[j]'s group)
//     C32 = (acc · 2^base + 2^(s-1)) >> s
//
// The lift of a group is how far its exponent lies above the least of its row, and the base is
// what the lifts leave of the window. Lifting by differences alone keeps most sums small: they are
// taken in int32 where the exponents of a tile prove that they fit. Else they are taken in int64,
// for which a GPU needs several instructions each. Both are the same exact sum.

constexpr int GROUP = 32;

struct Product {
    const int8_t *x_m, *x_d, *w_m, *w_d;
    int *result;
    int m, c, k, batch;
    int window;       // octaves that the lifts of x and w may take together
    int largest_dot;  // of a group
    int shift;        // s
};

// Multiplied rather than shifted, because C leaves the left shift of a negative number undefined.
__device__ inline int round_sum(int64_t sum, int base, int shift) {
    int up = max(base - shift, 0), down = max(shift - base, 0);
    return (int)(((sum * ((int64_t)1 << up)) + (((int64_t)1 << down) >> 1)) >> down);
}

// ------------------------------------------------------------------------------- tensor-core tiles
// A block of 4 warps makes 64 x 64 results, each warp 32 x 32 of them. So a warp's 32 x 32 sums
// take 32 registers of each lane as int32 and 64 as int64, and each fragment that it loads is used
// twice (of w) or four times (of x).
//
// Mantissas pass through shared memory in chunks of four groups. There are two buffers: the next
// chunk is on its way while one is multiplied.

constexpr int TILE = 64, TILE_THREADS = 128, WARP_TILE = 32;
constexpr int CHUNK_GROUPS = 4, CHUNK = CHUNK_GROUPS * GROUP;
constexpr int ROW_BYTES = CHUNK + 16;  // fragments of 8 rows then lie in different banks

struct Operand {
    int8_t m[2][TILE][ROW_BYTES];
    int8_t d[2][TILE][CHUNK_GROUPS];
    int last[TILE];  // the largest distance of each row
};

struct Tile {
    Operand x, w;
};

// Row `i` of a tile. Rows beyond the last repeat it, and are not stored.
__device__ inline int64_t row_of(int batch, int first, int i, int rows) {
    return (int64_t)batch * rows + min(first + i, rows - 1);
}

// Start the copies of a chunk of groups into a buffer.
__device__ inline void fetch(Operand &to, int stage, const int8_t *m, const int8_t *d, int batch,
                             int first, int rows, int k, int group) {
    const int groups = min(k / GROUP - group, CHUNK_GROUPS);
    for (int part = threadIdx.x; part < TILE * CHUNK / 16; part += TILE_THREADS) {
        int i = part / (CHUNK / 16), at = part % (CHUNK / 16) * 16;
        if (at >= groups * GROUP) continue;
        const int8_t *from = m + row_of(batch, first, i, rows) * k + group * GROUP + at;
        copy_async16(&to.m[stage][i][at], from);
    }
    // Four distances are too few bytes for copy_async16.
    for (int part = threadIdx.x; part < TILE * CHUNK_GROUPS; part += TILE_THREADS) {
        int i = part / CHUNK_GROUPS, g = part % CHUNK_GROUPS;
        if (g < groups)
            to.d[stage][i][g] = d[row_of(batch, first, i, rows) * (k / GROUP) + group + g];
    }
}

// One group: each lane holds its four elements of 2 x 4 fragments of 16 x 8 results.
template <typename T>
__device__ inline void multiply_group(T (&sums)[2][4][4], const Tile &t, int stage, int g) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, quad = lane / 4;
    const int k = g * GROUP + lane % 4 * 4;  // a lane has four bytes there and four 16 bytes on
    const int row = warp / 2 * WARP_TILE, column = warp % 2 * WARP_TILE;
    unsigned b[4][2];
    #pragma unroll
    for (int j = 0; j < 4; ++j)
        #pragma unroll
        for (int half = 0; half < 2; ++half)
            b[j][half] = *(const unsigned *)&t.w.m[stage][column + j * 8 + quad][k + half * 16];
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
        unsigned a[4];
        #pragma unroll
        for (int part = 0; part < 4; ++part)
            a[part] = *(const unsigned *)
                &t.x.m[stage][row + i * 16 + part % 2 * 8 + quad][k + part / 2 * 16];
        // The lift of x as a power of two, so that both lifts cost one shift and one multiply-add.
        int scale[2];
        #pragma unroll
        for (int half = 0; half < 2; ++half) {
            int at = row + i * 16 + half * 8 + quad;
            scale[half] = 1 << (t.x.last[at] - t.x.d[stage][at][g]);
        }
        #pragma unroll
        for (int j = 0; j < 4; ++j) {
            // From zero: the sums so far have other exponents, so mma must not add to them.
            int dots[4] = {0, 0, 0, 0};
            mma_s8(dots, a, b[j]);
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
                int at = column + j * 8 + lane % 4 * 2 + e % 2;
                int lift = t.w.last[at] - t.w.d[stage][at][g];
                sums[i][j][e] += (T)dots[e] * (T)(scale[e / 2] << lift);
            }
        }
    }
}

// All groups of a tile, and its results. T is the type of the sums.
template <typename T>
__device__ inline void multiply_tile(const Product &p, Tile &t, int batch, int first_row,
                                     int first_column) {
    const int groups = p.k / GROUP;
    T sums[2][4][4] = {};
    fetch(t.x, 0, p.x_m, p.x_d, batch, first_row, p.m, p.k, 0);
    fetch(t.w, 0, p.w_m, p.w_d, batch, first_column, p.c, p.k, 0);
    copies_issued();
    for (int group = 0, stage = 0; group < groups; group += CHUNK_GROUPS, stage ^= 1) {
        int next = group + CHUNK_GROUPS;
        if (next < groups) {
            fetch(t.x, stage ^ 1, p.x_m, p.x_d, batch, first_row, p.m, p.k, next);
            fetch(t.w, stage ^ 1, p.w_m, p.w_d, batch, first_column, p.c, p.k, next);
        }
        // Behind the last chunk an empty batch is issued, so that "all but the newest" is always
        // the chunk that is due.
        copies_issued();
        copies_arrived<1>();
        __syncthreads();
        for (int g = 0; g < min(groups - group, CHUNK_GROUPS); ++g)
            multiply_group(sums, t, stage, g);
        // The next turn copies into the buffer that was read here.
        __syncthreads();
    }
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    #pragma unroll
    for (int i = 0; i < 2; ++i)
        #pragma unroll
        for (int j = 0; j < 4; ++j)
            #pragma unroll
            for (int e = 0; e < 4; ++e) {
                int row = warp / 2 * WARP_TILE + i * 16 + e / 2 * 8 + lane / 4;
                int column = warp % 2 * WARP_TILE + j * 8 + lane % 4 * 2 + e % 2;
                if (first_row + row >= p.m || first_column + column >= p.c) continue;
                int base = p.window - t.x.last[row] - t.w.last[column];
                p.result[((int64_t)batch * p.m + first_row + row) * p.c + first_column + column] =
                    round_sum(sums[i][j][e], base, p.shift);
            }
}

// The largest distance of each row, and whether the tile's sums fit int32. A thread takes a row of
// x or a column of w. A sum is at most the largest dot times the lifts of x, summed over groups,
// times the largest lift of w.
__device__ inline bool measure_tile(const Product &p, Tile &t, int batch, int first_row,
                                    int first_column) {
    const int groups = p.k / GROUP, i = threadIdx.x % TILE;
    const bool is_x = threadIdx.x < TILE;
    const int8_t *d = (is_x ? p.x_d + row_of(batch, first_row, i, p.m) * groups
                            : p.w_d + row_of(batch, first_column, i, p.c) * groups);
    int last = d[0], least = d[0], weight = 0;
    for (int g = 1; g < groups; ++g) {
        last = max(last, (int)d[g]);
        least = min(least, (int)d[g]);
    }
    for (int g = 0; g < groups; ++g) weight += 1 << (last - d[g]);
    (is_x ? t.x : t.w).last[i] = last;
    int64_t bound = (int64_t)over_block<Max>(is_x ? weight : 0) * p.largest_dot;
    return bound << over_block<Max>(is_x ? 0 : last - least) <= INT32_MAX;
}

__device__ __noinline__ void matmul_block(const Product &p) {
    __shared__ __align__(16) Tile tile;
    const int columns = (p.c + TILE - 1) / TILE, rows = (p.m + TILE - 1) / TILE;
    const int column = blockIdx.x % columns * TILE, row = blockIdx.x / columns % rows * TILE;
    const int batch = blockIdx.x / columns / rows;
    if (measure_tile(p, tile, batch, row, column))
        multiply_tile<int>(p, tile, batch, row, column);
    else
        multiply_tile<int64_t>(p, tile, batch, row, column);
}

// -------------------------------------------------------------------------------------- a few rows
// A warp makes one column of results for all rows of x, and reads w once. Its lanes share the
// reduction: a lane takes half a group, which is one load of 16 bytes. The sums are int64 always,
// because waiting for memory leaves time for them.

constexpr int FEW_ROWS = 8, FEW_WARPS = 4;

__device__ inline int largest_distance(const int8_t *d, int groups, int lane) {
    int last = 0;
    for (int g = lane; g < groups; g += WARP) last = max(last, (int)d[g]);
    return Max::warp(last);
}

__device__ inline int dot16(int4 x, int4 w) {
    return __dp4a(x.x, w.x, __dp4a(x.y, w.y, __dp4a(x.z, w.z, __dp4a(x.w, w.w, 0))));
}

__device__ __noinline__ void few_rows_block(const Product &p) {
    const int lane = threadIdx.x % WARP, groups = p.k / GROUP;
    const int64_t column = (int64_t)blockIdx.x * FEW_WARPS + threadIdx.x / WARP;
    if (column >= (int64_t)p.batch * p.c) return;
    const int64_t row = column / p.c * p.m;
    const int w_last = largest_distance(p.w_d + column * groups, groups, lane);
    int x_last[FEW_ROWS];
    int64_t sums[FEW_ROWS] = {};
    #pragma unroll
    for (int i = 0; i < FEW_ROWS; ++i)
        if (i < p.m) x_last[i] = largest_distance(p.x_d + (row + i) * groups, groups, lane);
    for (int half = lane; half < 2 * groups; half += WARP) {
        const int4 w = *(const int4 *)(p.w_m + column * p.k + half * 16);
        const int lift = w_last - p.w_d[column * groups + half / 2];
        #pragma unroll
        for (int i = 0; i < FEW_ROWS; ++i) {
            if (i >= p.m) continue;
            const int4 x = *(const int4 *)(p.x_m + (row + i) * p.k + half * 16);
            const int x_lift = x_last[i] - p.x_d[(row + i) * groups + half / 2];
            sums[i] += (int64_t)dot16(x, w) * (1 << (lift + x_lift));
        }
    }
    #pragma unroll
    for (int i = 0; i < FEW_ROWS; ++i) {
        if (i >= p.m) continue;
        for (int distance = WARP / 2; distance; distance /= 2)
            sums[i] += __shfl_xor_sync(ALL_LANES, sums[i], distance);
        const int base = p.window - x_last[i] - w_last;
        if (lane == 0) p.result[(row + i) * p.c + column % p.c] = round_sum(sums[i], base, p.shift);
    }
}
