// The softmax cross entropy of rows of logits. What backward needs of a row is its maximum and the logarithm of the sum of
// exp(x - maximum).

// A label is below 2^32, or no class.
INLINE uint label_of(MEMORY labels, ulong row) {
    if (!IS_LONG) return LOAD_U32(labels, row);
    const ulong label = LOAD_U64(labels, row);
    return label >> 32 ? 0xffffffffu : (uint)label;
}

// -log_softmax(logits)[label], NaN for a label that is no class.
KERNEL(integer_cross_entropy, READ(0, x), READ(1, labels), WRITE(2, losses), WRITE(3, saved), VALUE(4, ulong, rows),
       VALUE(5, uint, columns)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(x)
    real largest = -INFINITE, sum = 0;
    OF_ROW(k, i) largest = LARGER(largest, AT(x, k, i));
    largest = LARGEST(largest);
    OF_ROW(k, i) sum += exp(AT(x, k, i) - largest);
    const real log_sum = log(SUM(sum));
    if (IS_FIRST) {
        const uint label = label_of(labels, row.index);
        const real value = label < columns ? LOAD(x, row.start + label) : (real)NOT_A_NUMBER;
        STORE_REAL(losses, row.index, log_sum - (value - largest));
        STORE_REAL(saved, 2 * row.index, largest);
        STORE_REAL(saved, 2 * row.index + 1, log_sum);
    }
}

// (softmax(x) - one_hot(label)) d, where d is the gradient of the row's loss.
KERNEL(integer_cross_entropy_backward, READ(0, x), READ(1, labels), READ(2, saved), READ(3, dlosses), WRITE(4, dx),
       VALUE(5, ulong, rows), VALUE(6, uint, columns)) {
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    if (row.length == 0) return;
    const uint label = label_of(labels, row.index);
    const real largest = LOAD_REAL(saved, 2 * row.index), log_sum = LOAD_REAL(saved, 2 * row.index + 1);
    const real d = LOAD_REAL(dlosses, row.index);
    OF_ROW(k, i) {
        const real p = exp(LOAD(x, row.start + i) - largest - log_sum);
        STORE(dx, row.start + i, (i == label ? p - 1 : p) * d);
    }
}
