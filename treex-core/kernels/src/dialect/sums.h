KERNEL(sums, TABLE(table)) {
    SHARED(double, part, GROUP_SIZE)
    const Share share = share_of(table, GROUP_ID, LOCAL_ID);
    double sums[TERMS] = {};
    switch (share.program) {
        PROGRAMS
    }
    UNROLL for (uint term = 0; term < TERMS; ++term) {
        part[LOCAL_ID] = sums[term];
        BARRIER;
        for (uint rest = GROUP_SIZE / 2; rest > 0; rest /= 2) {
            if (LOCAL_ID < rest) part[LOCAL_ID] += part[LOCAL_ID + rest];
            BARRIER;
        }
        if (LOCAL_ID == 0) STORE_F64(table.words[1], (ulong)GROUP_ID * TERMS + term, part[0]);
        BARRIER;
    }
}
