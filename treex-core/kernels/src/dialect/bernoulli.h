// The address of the samples, their number, the key, and how many of 2^23 uniform numbers are true.
KERNEL(bernoulli, TABLE(table)) {
    const ulong start = (ulong)GROUP_ID * (GROUP_SIZE * EACH) + LOCAL_ID, length = table.words[1];
    const ulong words = KEY_WORDS(table.words[2]);
    const uint below = (uint)table.words[3];
    UNROLL for (uint k = 0; k < EACH; ++k) {
        const ulong i = start + k * GROUP_SIZE;
        if (i < length) STORE_U8(table.words[0], i, random_word(words, i) >> 9 < below);
    }
}
