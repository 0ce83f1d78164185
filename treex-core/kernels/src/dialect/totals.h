// A group for each range: its place in the sums, the number of sums of each term, and the place of the constants.
KERNEL(totals, TABLE(table)) {
    SHARED(double, part, GROUP_SIZE)
    const uint at = 2 + GROUP_ID * STRIDE;
    const ulong sums = table.words[at], count = table.words[at + 1];
    double total[TERMS];
    UNROLL for (uint term = 0; term < TERMS; ++term) {
        double sum = 0;
        for (ulong i = LOCAL_ID; i < count; i += GROUP_SIZE) sum += LOAD_F64(sums, i * TERMS + term);
        part[LOCAL_ID] = sum;
        BARRIER;
        for (uint rest = GROUP_SIZE / 2; rest > 0; rest /= 2) {
            if (LOCAL_ID < rest) part[LOCAL_ID] += part[LOCAL_ID + rest];
            BARRIER;
        }
        total[term] = part[0];
        BARRIER;
    }
    if (LOCAL_ID == 0) {
        FUNCTION
    }
}
