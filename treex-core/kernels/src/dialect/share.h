// The table of a launch over many tensors: the number of leaves, and the address of what the launch writes beside them; then
// for each leaf its first group and its program, its number of elements, the place of its constants, and the addresses of its
// memory; then the constants.

// A group's part of its leaf.
struct Share {
    uint at; // the place of the leaf
    uint constants;
    uint program;
    ulong start; // the thread's first element
    ulong length;
};

// The last leaf whose first group is this one or before it.
INLINE Share share_of(TABLE_REFERENCE(table), uint group, uint local) {
    uint leaf = 0;
    for (uint end = (uint)table.words[0]; end - leaf > 1;) {
        const uint middle = (leaf + end) / 2;
        if ((uint)table.words[2 + middle * STRIDE] <= group) leaf = middle;
        else end = middle;
    }
    Share share;
    share.at = 2 + leaf * STRIDE;
    share.program = (uint)(table.words[share.at] >> 32);
    share.length = table.words[share.at + 1];
    share.constants = (uint)table.words[share.at + 2];
    share.start = (ulong)(group - (uint)table.words[share.at]) * (GROUP_SIZE * EACH) + local;
    return share;
}
