// Sums over the rows of matrices, for each column. A group has COLUMNS columns, a power of two that is at most 32, of some of
// the rows of one matrix: a piece.

#define AT_ONCE (GROUP_SIZE / COLUMNS)

struct Piece {
    ulong matrix;
    ulong index; // among the pieces of all matrices
    uint column;
    ulong row; // the thread's first
    ulong end;
    bool is_there;
};

INLINE Piece piece_of(uint group, uint local, ulong rows, uint columns, ulong piece_rows, uint pieces) {
    const uint blocks = (columns + COLUMNS - 1) / COLUMNS;
    Piece piece;
    piece.index = group / blocks;
    piece.matrix = piece.index / pieces;
    piece.column = group % blocks * COLUMNS + local % COLUMNS;
    const ulong first = piece.index % pieces * piece_rows;
    piece.row = first + local / COLUMNS;
    piece.end = first + piece_rows < rows ? first + piece_rows : rows;
    piece.is_there = piece.column < columns;
    if (!piece.is_there) piece.end = 0;
    return piece;
}

#define OF_PIECE(row) for (ulong row = piece.row; row < piece.end; row += AT_ONCE)

// Whether a thread is the one that writes the sum of its column.
#define IS_FIRST (piece.is_there && LOCAL_ID < COLUMNS)

// The sum over all threads of a column, for the first of them.
INLINE real column_sum(real x, uint local, SHARED_POINTER(real, parts)) {
    BARRIER;
    parts[local] = x;
    BARRIER;
    for (uint rest = GROUP_SIZE / 2; rest >= COLUMNS; rest /= 2) {
        if (local < rest) parts[local] += parts[local + rest];
        BARRIER;
    }
    return parts[local % COLUMNS];
}

#define SUM(x) column_sum(x, LOCAL_ID, parts)
