// x * scale where the random word of an element is below a limit of 2^23, otherwise 0.
KERNEL(dropout, READ(0, x), WRITE(1, y), VALUE(2, ulong, length), VALUE(3, ulong, key),
       VALUE(4, uint, below), VALUE(5, real, scale)) {
    const ulong words = KEY_WORDS(key);
    OF_ALL(i, length) {
        const bool is_kept = random_word(words, i) >> 9 < below;
        STORE(y, i, is_kept ? LOAD(x, i) * scale : (real)0);
    }
}
