// Rows of a table by their ids, which are of an unsigned type with 32 bits, or IS_LONG: signed with 64 bits, where negative ones
// count from the end. NO_ROW stands for all ids that are out of range.

#define NO_ROW 0xffffffffu

INLINE uint row_id(MEMORY ids, ulong at, uint n) {
    if (!IS_LONG) {
        const uint id = LOAD_U32(ids, at);
        return id < n ? id : NO_ROW;
    }
    const ulong id = LOAD_U64(ids, at);
    const ulong from_start = id >> 63 ? id + n : id;
    return from_start < n ? (uint)from_start : NO_ROW;
}

// table[ids], NaN where an id is out of range.
KERNEL(gather_rows, READ(0, table), READ(1, ids), WRITE(2, y), VALUE(3, ulong, length), VALUE(4, uint, n),
       VALUE(5, uint, features)) {
    OF_ALL(i, length) {
        const uint id = row_id(ids, i / features, n);
        STORE(y, i, id == NO_ROW ? (real)NOT_A_NUMBER : LOAD(table, (ulong)id * features + i % features));
    }
}

// The gradient of the table, which is 0 before. A group for each id: the group of its first occurrence adds all of them, in order.
KERNEL(scatter_rows, READ(0, ids), READ(1, dy), WRITE(2, dtable), VALUE(3, uint, count), VALUE(4, uint, n),
       VALUE(5, uint, features)) {
    SHARED(real, parts, PARTS)
    SHARED(uint, is_alike, GROUP_SIZE)
    const uint id = row_id(ids, GROUP_ID, n);
    uint before = id == NO_ROW;
    for (uint at = LOCAL_ID; at < GROUP_ID; at += GROUP_SIZE) before |= row_id(ids, at, n) == id;
    if (row_sum((real)before, LOCAL_ID, parts) != 0) return;
    for (uint block = 0; block < features; block += GROUP_SIZE * EACH_THREAD) {
        real sums[EACH_THREAD] = {};
        for (uint first = GROUP_ID / GROUP_SIZE * GROUP_SIZE; first < count; first += GROUP_SIZE) {
            const uint at = first + LOCAL_ID;
            const bool is_one = at < count && row_id(ids, at, n) == id;
            is_alike[LOCAL_ID] = is_one;
            if (row_sum((real)is_one, LOCAL_ID, parts) != 0) {
                for (uint other = 0; other < GROUP_SIZE; ++other) {
                    if (!is_alike[other]) continue;
                    UNROLL for (uint k = 0; k < EACH_THREAD; ++k) {
                        const uint feature = block + LOCAL_ID + k * GROUP_SIZE;
                        if (feature < features) sums[k] += LOAD(dy, (ulong)(first + other) * features + feature);
                    }
                }
            }
            BARRIER;
        }
        UNROLL for (uint k = 0; k < EACH_THREAD; ++k) {
            const uint feature = block + LOCAL_ID + k * GROUP_SIZE;
            if (feature < features) STORE(dtable, (ulong)id * features + feature, sums[k]);
        }
    }
}
