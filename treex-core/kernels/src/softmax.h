// y = exp(x - max(x)) / sum(exp(x - max(x))) of each row, or its logarithm.
KERNEL(softmax, READ(0, x), WRITE(1, y), VALUE(2, ulong, rows), VALUE(3, uint, columns)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(x)
    real largest = -INFINITE, sum = 0;
    OF_ROW(k, i) largest = LARGER(largest, AT(x, k, i));
    largest = LARGEST(largest);
    OF_ROW(k, i) sum += exp(AT(x, k, i) - largest);
    sum = SUM(sum);
    const real log_sum = log(sum);
    OF_ROW(k, i) STORE(y, row.start + i, IS_LOG ? AT(x, k, i) - largest - log_sum : exp(AT(x, k, i) - largest) / sum);
}

// dx = y (dy - sum(y dy)), from the output of a softmax.
KERNEL(softmax_backward, READ(0, y), READ(1, dy), WRITE(2, dx), VALUE(3, ulong, rows), VALUE(4, uint, columns)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(y)
    KEEP(dy)
    real dot = 0;
    OF_ROW(k, i) dot += AT(y, k, i) * AT(dy, k, i);
    dot = SUM(dot);
    OF_ROW(k, i) STORE(dx, row.start + i, AT(y, k, i) * (AT(dy, k, i) - dot));
}

// dx = dy - softmax(x) sum(dy), from the input of a log-softmax: rounded logarithms have few digits.
KERNEL(log_softmax_backward, READ(0, x), READ(1, dy), WRITE(2, dx), VALUE(3, ulong, rows), VALUE(4, uint, columns)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(x)
    KEEP(dy)
    real largest = -INFINITE, sum = 0, total = 0;
    OF_ROW(k, i) largest = LARGER(largest, AT(x, k, i));
    largest = LARGEST(largest);
    OF_ROW(k, i) {
        sum += exp(AT(x, k, i) - largest);
        total += AT(dy, k, i);
    }
    sum = SUM(sum);
    total = SUM(total);
    OF_ROW(k, i) STORE(dx, row.start + i, AT(dy, k, i) - exp(AT(x, k, i) - largest) / sum * total);
}
