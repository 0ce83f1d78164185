// The totals of the sums of pieces over each group of `size` columns of each matrix: a row of threads for each group. The sums of
// a piece are two rows of columns.

#define OF_GROUP(at) \
    for (ulong k = row.lane, at = 0; at = AT_SUM(k), k < row.length; k += LANES)
#define AT_SUM(k) ((row.index / groups * pieces + (k) / size) * 2 * columns + row.index % groups * size + (k) % size)

// Mean and variance of each group, in `means` and `vars`, and what is saved of them. IS_CENTERED: the sums are of squares of x -
// mean, and the mean is in `before`; otherwise they are of x and its square.
KERNEL(group_moments, READ(0, sums), READ(1, before), WRITE(2, saved), WRITE(3, means), WRITE(4, vars), VALUE(5, ulong, rows),
       VALUE(6, uint, length), VALUE(7, uint, groups), VALUE(8, uint, size), VALUE(9, uint, pieces), VALUE(10, real, count),
       VALUE(11, real, epsilon)) {
    SHARED(real, parts, PARTS)
    const uint columns = groups * size;
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, length);
    real sum = 0, squares = 0;
    OF_GROUP(at) {
        sum += LOAD_REAL(sums, at);
        squares += LOAD_REAL(sums, at + columns);
    }
    real mean = SUM(sum) / count, var = SUM(squares) / count;
    if (!IS_FIRST) return;
    if (IS_CENTERED) mean = LOAD_REAL(before, 3 * row.index);
    else var = var - mean * mean;
    const real inv_std = INV_STD(var);
    STORE_REAL(saved, 3 * row.index, mean);
    STORE_REAL(saved, 3 * row.index + 1, inv_std);
    STORE_REAL(saved, 3 * row.index + 2, SLOPE(var, inv_std));
    STORE_WIDEST(means, row.index, mean);
    STORE_WIDEST(vars, row.index, var < 0 ? (real)0 : var);
}

// The mean of scale dy over each group, and what x - mean is multiplied by in the gradient of x; both are 0 if the moments are
// constants.
KERNEL(group_gradients, READ(0, sums), READ(1, scale), READ(2, saved), WRITE(3, terms), VALUE(4, ulong, rows), VALUE(5, uint, length),
       VALUE(6, uint, groups), VALUE(7, uint, size), VALUE(8, uint, pieces), VALUE(9, real, count)) {
    SHARED(real, parts, PARTS)
    const uint columns = groups * size;
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, length);
    real products = 0, sum = 0;
    OF_GROUP(at) {
        const real factor = HAS_SCALE ? LOAD_REAL(scale, at % columns) : (real)1;
        products += factor * LOAD_REAL(sums, at);
        sum += factor * LOAD_REAL(sums, at + columns);
    }
    products = SUM(products) / count;
    sum = SUM(sum) / count;
    if (!IS_FIRST) return;
    STORE_REAL(terms, 2 * row.index, sum);
    STORE_REAL(terms, 2 * row.index + 1, products * LOAD_REAL(saved, 3 * row.index + 2));
}
