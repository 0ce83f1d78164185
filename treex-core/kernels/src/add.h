// x + y, where y is repeated.
KERNEL(add, READ(0, x), READ(1, y), WRITE(2, sums), VALUE(3, ulong, length), VALUE(4, ulong, period)) {
    OF_ALL(i, length) STORE(sums, i, LOAD(x, i) + LOAD(y, i % period));
}
