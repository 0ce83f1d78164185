// Rows of a matrix. A row belongs to LANES threads of a group, a power of two that is at most 32, or all threads. Each of them
// has the elements lane, lane + LANES, ..: at most EACH, which it keeps in registers, or any number if EACH is 0.

struct Row {
    ulong index;
    ulong start; // of its elements in the matrix
    uint lane;
    uint length; // 0 behind the last row
};

INLINE Row row_of(uint group, uint local, ulong rows, uint columns) {
    Row row;
    row.index = (ulong)group * (GROUP_SIZE / LANES) + local / LANES;
    row.start = row.index * columns;
    row.lane = local % LANES;
    row.length = row.index < rows ? columns : 0;
    return row;
}

// For each element i of the thread's, the k-th of them. KEEP(x) reads a row of x once, where AT(x, k, i) then finds it.
#if EACH > 0
#define OF_ROW(k, i) UNROLL for (uint k = 0, i = row.lane; k < EACH; ++k, i += LANES) if (i < row.length)
#define KEEP(x) real x##_kept[EACH]; OF_ROW(k, i) x##_kept[k] = LOAD(x, row.start + i);
#define AT(x, k, i) x##_kept[k]
#else
#define OF_ROW(k, i) for (uint k = 0, i = row.lane; i < row.length; ++k, i += LANES)
#define KEEP(x)
#define AT(x, k, i) LOAD(x, row.start + i)
#endif

// Whether a thread is the one that writes what a row has once.
#define IS_FIRST (row.lane == 0 && row.length > 0)

// The sum, and the maximum, of a number of each thread of a row, for all of them.
#if LANES > 32
#define PARTS (LANES / 32)
#define OVER_ROW(name, combine) \
    INLINE real name(real x, uint local, SHARED_POINTER(real, parts)) { \
        UNROLL for (uint mask = 16; mask > 0; mask /= 2) { \
            const real other = SHUFFLE_XOR(x, mask); \
            x = combine(x, other); \
        } \
        BARRIER; \
        if (local % 32 == 0) parts[local / 32] = x; \
        BARRIER; \
        x = parts[0]; \
        UNROLL for (uint part = 1; part < PARTS; ++part) x = combine(x, parts[part]); \
        return x; \
    }
#else
#define PARTS 1
#define OVER_ROW(name, combine) \
    INLINE real name(real x, uint, SHARED_POINTER(real, )) { \
        UNROLL for (uint mask = LANES / 2; mask > 0; mask /= 2) { \
            const real other = SHUFFLE_XOR(x, mask); \
            x = combine(x, other); \
        } \
        return x; \
    }
#endif

#define ADDED(a, b) (a + b)
#define LARGER(a, b) (a < b ? b : a)
OVER_ROW(row_sum, ADDED)
OVER_ROW(row_largest, LARGER)
#define SUM(x) row_sum(x, LOCAL_ID, parts)
#define LARGEST(x) row_largest(x, LOCAL_ID, parts)
