// The number of leaves, then for each its first group and its program, its number of elements, the place of its constants, and
// the addresses of its memory; then the constants.
struct Table { ulong words[WORDS]; };

KERNEL(sweep, TABLE(table)) {
    // The last leaf whose first group is this one or before it.
    uint leaf = 0;
    for (uint end = (uint)table.words[0]; end - leaf > 1;) {
        const uint middle = (leaf + end) / 2;
        if ((uint)table.words[1 + middle * STRIDE] <= GROUP_ID) leaf = middle;
        else end = middle;
    }
    const uint at = 1 + leaf * STRIDE;
    const ulong length = table.words[at + 1];
    const uint constants = (uint)table.words[at + 2];
    const ulong start = (ulong)(GROUP_ID - (uint)table.words[at]) * (GROUP_SIZE * EACH) + LOCAL_ID;
    switch ((uint)(table.words[at] >> 32)) {
        PROGRAMS
    }
}
