// Normalization by groups of `size` columns of each matrix, and the sums over the rows of a piece that it needs: two rows of
// columns for each piece. Three numbers are saved for each group, or for each row if IS_OF_ROWS: see `layer_norm.h`.

#define STATISTIC(row) \
    (IS_OF_ROWS ? piece.matrix * rows + row : piece.matrix * (columns / size) + piece.column / size)

// Of x and its square; IS_CENTERED: of the square of x - mean, twice.
KERNEL(norm_moment_sums, READ(0, x), READ(1, saved), WRITE(2, sums), VALUE(3, ulong, rows), VALUE(4, uint, columns),
       VALUE(5, ulong, piece_rows), VALUE(6, uint, pieces), VALUE(7, uint, size)) {
    SHARED(real, parts, GROUP_SIZE)
    const Piece piece = piece_of(GROUP_ID, LOCAL_ID, rows, columns, piece_rows, pieces);
    const ulong start = piece.matrix * rows * columns + piece.column;
    const real mean = IS_CENTERED && piece.is_there ? LOAD_REAL(saved, 3 * STATISTIC(0)) : 0;
    real sum = 0, squares = 0;
    OF_PIECE(row) {
        const real z = LOAD(x, start + row * columns) - mean;
        sum += z;
        squares += z * z;
    }
    sum = SUM(sum);
    squares = SUM(squares);
    if (IS_FIRST) {
        STORE_REAL(sums, 2 * piece.index * columns + piece.column, sum);
        STORE_REAL(sums, (2 * piece.index + 1) * columns + piece.column, squares);
    }
}

// Of dy (x - mean) / sqrt(var + epsilon) and of dy.
KERNEL(norm_gradient_sums, READ(0, x), READ(1, dy), READ(2, saved), WRITE(3, sums), VALUE(4, ulong, rows),
       VALUE(5, uint, columns), VALUE(6, ulong, piece_rows), VALUE(7, uint, pieces), VALUE(8, uint, size)) {
    SHARED(real, parts, GROUP_SIZE)
    const Piece piece = piece_of(GROUP_ID, LOCAL_ID, rows, columns, piece_rows, pieces);
    const ulong start = piece.matrix * rows * columns + piece.column;
    real products = 0, sum = 0;
    OF_PIECE(row) {
        const ulong at = start + row * columns, statistic = 3 * STATISTIC(row);
        const real d = LOAD(dy, at);
        products += d * (LOAD(x, at) - LOAD_REAL(saved, statistic)) * LOAD_REAL(saved, statistic + 1);
        sum += d;
    }
    products = SUM(products);
    sum = SUM(sum);
    if (IS_FIRST) {
        STORE_REAL(sums, 2 * piece.index * columns + piece.column, products);
        STORE_REAL(sums, (2 * piece.index + 1) * columns + piece.column, sum);
    }
}

// (x - mean) / sqrt(var + epsilon) scale + bias.
KERNEL(group_norm, READ(0, x), READ(1, scale), READ(2, bias), READ(3, saved), WRITE(4, y), VALUE(5, ulong, rows),
       VALUE(6, uint, columns), VALUE(7, ulong, piece_rows), VALUE(8, uint, pieces), VALUE(9, uint, size)) {
    const Piece piece = piece_of(GROUP_ID, LOCAL_ID, rows, columns, piece_rows, pieces);
    if (!piece.is_there) return;
    const ulong start = piece.matrix * rows * columns + piece.column, statistic = 3 * STATISTIC(0);
    const real mean = LOAD_REAL(saved, statistic), inv_std = LOAD_REAL(saved, statistic + 1);
    const real factor = HAS_SCALE ? inv_std * LOAD_REAL(scale, piece.column) : inv_std;
    const real shift = HAS_BIAS ? LOAD_REAL(bias, piece.column) : (real)0;
    OF_PIECE(row) STORE(y, start + row * columns, (LOAD(x, start + row * columns) - mean) * factor + shift);
}

// The gradient of x, from the two terms of its group, which HAS_TERMS unless the moments are constants.
KERNEL(group_norm_backward, READ(0, x), READ(1, dy), READ(2, scale), READ(3, saved), READ(4, terms), WRITE(5, dx),
       VALUE(6, ulong, rows), VALUE(7, uint, columns), VALUE(8, ulong, piece_rows), VALUE(9, uint, pieces), VALUE(10, uint, size)) {
    const Piece piece = piece_of(GROUP_ID, LOCAL_ID, rows, columns, piece_rows, pieces);
    if (!piece.is_there) return;
    const ulong start = piece.matrix * rows * columns + piece.column, statistic = STATISTIC(0);
    const real mean = LOAD_REAL(saved, 3 * statistic), inv_std = LOAD_REAL(saved, 3 * statistic + 1);
    const real factor = HAS_SCALE ? LOAD_REAL(scale, piece.column) : (real)1;
    const real center = HAS_TERMS ? LOAD_REAL(terms, 2 * statistic) : (real)0;
    const real slope = HAS_TERMS ? LOAD_REAL(terms, 2 * statistic + 1) : (real)0;
    OF_PIECE(row) {
        const ulong at = start + row * columns;
        real d = (LOAD(dy, at) * factor - center) * inv_std;
        if (HAS_TERMS) d = d - (LOAD(x, at) - mean) * slope;
        STORE(dx, at, d);
    }
}
