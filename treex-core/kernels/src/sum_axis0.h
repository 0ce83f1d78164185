// The sums of each column over the rows of a piece. IS_PARTIAL: x has sums already, in the type that is computed in;
// IS_ROUNDED: sums are rounded to the type of the elements.
KERNEL(sum_axis0, READ(0, x), WRITE(1, sums), VALUE(2, ulong, rows), VALUE(3, uint, columns), VALUE(4, ulong, piece_rows),
       VALUE(5, uint, pieces)) {
    SHARED(real, parts, GROUP_SIZE)
    const Piece piece = piece_of(GROUP_ID, LOCAL_ID, rows, columns, piece_rows, pieces);
    const ulong start = piece.matrix * rows * columns + piece.column;
    real sum = 0;
    OF_PIECE(row) sum += IS_PARTIAL ? LOAD_REAL(x, start + row * columns) : LOAD(x, start + row * columns);
    sum = SUM(sum);
    if (IS_FIRST) {
        const ulong at = piece.index * columns + piece.column;
        if (IS_ROUNDED) STORE(sums, at, sum);
        else STORE_REAL(sums, at, sum);
    }
}
