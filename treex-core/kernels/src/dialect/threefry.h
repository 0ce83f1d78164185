// The two words of a key, the first below: what a launch is given, or in a captured step where they are.
#if IS_CAPTURED
#define KEY_WORDS(key) LOAD_U64(key, 0)
#else
#define KEY_WORDS(key) (key)
#endif

// The random word of a key at a flat index: the two words of threefry2x32, combined as JAX combines them.
INLINE uint random_word(ulong key, ulong index) {
    const uint key0 = (uint)key, key1 = (uint)(key >> 32);
    const uint schedule[3] = {key0, key1, key0 ^ key1 ^ 0x1bd11bdau};
    const uint rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    uint a = (uint)(index >> 32) + schedule[0], b = (uint)index + schedule[1];
    UNROLL for (uint group = 0; group < 5; ++group) {
        UNROLL for (uint round = 0; round < 4; ++round) {
            const uint rotation = rotations[group % 2 * 4 + round];
            a += b;
            b = (b << rotation | b >> (32 - rotation)) ^ a;
        }
        a += schedule[(group + 1) % 3];
        b += schedule[(group + 2) % 3] + group + 1;
    }
    return a ^ b;
}
