// Kernels that are right, and each of them again with one fault: what `seeded_faults.rs` runs. `compile.sh` makes
// `kernels.ptx` of it, so that the faults are seen in what NVIDIA's compiler makes of them.
//
// Each kernel makes `y` of `x`, which has `rows * columns` numbers.

#include <cassert>

enum Fault {
    NONE,
    INDEX_OFF_BY_ONE,
    MISSING_GUARD,
    MISSING_TAIL,
    UNALIGNED,
    SWAPPED_INPUT_STRIDE,
    SWAPPED_OUTPUT_STRIDE,
    BARRIER_REMOVED,
    BARRIER_IN_A_BRANCH,
    UNINITIALIZED_SUM,
    SHUFFLE_MASK,
    SHUFFLE_IN_A_BRANCH,
    SHUFFLE_OFFSET,
    PLAIN_ADD,
    NOT_CLEARED,
    WRONG_BIN,
    ENDLESS_LOOP,
};

// y = 2 x, one number each thread.
template <Fault fault> __device__ void scale(float *y, const float *x, int rows, int columns) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (fault == MISSING_GUARD || i < rows * columns) {
        y[i] = 2 * x[fault == INDEX_OFF_BY_ONE ? i + 1 : i];
    }
}

// y = 2 x, four numbers each thread. The last block takes what is left.
template <Fault fault> __device__ void scale4(float *y, const float *x, int rows, int columns) {
    int n = rows * columns;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n / 4) {
        float4 v = reinterpret_cast<const float4 *>(fault == UNALIGNED ? x + 1 : x)[i];
        reinterpret_cast<float4 *>(y)[i] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
    }
    int tail = n / 4 * 4 + threadIdx.x;
    if (fault != MISSING_TAIL && blockIdx.x == gridDim.x - 1 && tail < n) {
        y[tail] = 2 * x[tail];
    }
}

// y is x transposed, one number each thread.
template <Fault fault> __device__ void transpose(float *y, const float *x, int rows, int columns) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * columns) {
        int row = i / columns, column = i % columns;
        int to = column * (fault == SWAPPED_OUTPUT_STRIDE ? columns : rows) + row;
        int from = row * (fault == SWAPPED_INPUT_STRIDE ? rows : columns) + column;
        y[to] = x[from];
    }
}

// The sum over the lanes of a warp, in the first of them.
template <Fault fault> __device__ float warp_sum(float value) {
    unsigned lanes = fault == SHUFFLE_MASK ? 0x7fffffff : 0xffffffff;
    for (int offset = fault == SHUFFLE_OFFSET ? 8 : 16; offset > 0; offset /= 2) {
        value += __shfl_down_sync(lanes, value, offset);
    }
    return value;
}

// y holds the sums of the rows of x, a block for each: first over each warp, then over the warps.
template <Fault fault> __device__ void row_sum(float *y, const float *x, int rows, int columns) {
    __shared__ float partial[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    float value = 0;
    for (int column = threadIdx.x; column < columns; column += fault == ENDLESS_LOOP ? 0 : blockDim.x) {
        value += x[blockIdx.x * columns + column];
    }
    value = warp_sum<fault>(value);
    if (lane == 0) {
        partial[warp] = value;
        if (fault == BARRIER_IN_A_BRANCH) {
            __syncthreads();
        }
    }
    if (fault != BARRIER_REMOVED) {
        __syncthreads();
    }
    if (warp == 0) {
        if (fault == SHUFFLE_IN_A_BRANCH) {
            if (lane < warps) {
                value = warp_sum<fault>(partial[lane]);
            }
        } else {
            value = warp_sum<fault>(fault == UNINITIALIZED_SUM || lane < warps ? partial[lane] : 0);
        }
        if (lane == 0) {
            y[blockIdx.x] = value;
        }
    }
}

// Adds to y, which has `columns` numbers, how often x is 0, 1, .. `columns - 1`: in shared memory first.
template <Fault fault> __device__ void histogram(float *y, const float *x, int rows, int columns) {
    __shared__ float counts[64];
    assert(columns <= 64);
    if (fault != NOT_CLEARED && threadIdx.x < columns) {
        counts[threadIdx.x] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        int bin = static_cast<int>(x[i]) + (fault == WRONG_BIN ? 1 : 0);
        assert(bin < columns);
        if (fault == PLAIN_ADD) {
            counts[bin] += 1;
        } else {
            atomicAdd(&counts[bin], 1.0f);
        }
    }
    __syncthreads();
    if (threadIdx.x < columns) {
        atomicAdd(&y[threadIdx.x], counts[threadIdx.x]);
    }
}

#define KERNEL(kernel, name, fault)                                                                                    \
    extern "C" __global__ void kernel##_##name(float *y, const float *x, int rows, int columns) {                      \
        kernel<fault>(y, x, rows, columns);                                                                            \
    }

KERNEL(scale, right, NONE)
KERNEL(scale, index_off_by_one, INDEX_OFF_BY_ONE)
KERNEL(scale, missing_guard, MISSING_GUARD)
KERNEL(scale4, right, NONE)
KERNEL(scale4, missing_tail, MISSING_TAIL)
KERNEL(scale4, unaligned, UNALIGNED)
KERNEL(transpose, right, NONE)
KERNEL(transpose, swapped_input_stride, SWAPPED_INPUT_STRIDE)
KERNEL(transpose, swapped_output_stride, SWAPPED_OUTPUT_STRIDE)
KERNEL(row_sum, right, NONE)
KERNEL(row_sum, barrier_removed, BARRIER_REMOVED)
KERNEL(row_sum, barrier_in_a_branch, BARRIER_IN_A_BRANCH)
KERNEL(row_sum, uninitialized_sum, UNINITIALIZED_SUM)
KERNEL(row_sum, shuffle_mask, SHUFFLE_MASK)
KERNEL(row_sum, shuffle_in_a_branch, SHUFFLE_IN_A_BRANCH)
KERNEL(row_sum, shuffle_offset, SHUFFLE_OFFSET)
KERNEL(row_sum, endless_loop, ENDLESS_LOOP)
KERNEL(histogram, right, NONE)
KERNEL(histogram, plain_add, PLAIN_ADD)
KERNEL(histogram, not_cleared, NOT_CLEARED)
KERNEL(histogram, wrong_bin, WRONG_BIN)
