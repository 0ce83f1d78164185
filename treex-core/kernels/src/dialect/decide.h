// Whether a step is made: if a number is 1, or, without a scale, after more than `limit` steps in a row that were not. The table has
// the addresses of the number, of counts (in a row, left out, made, the address of rows of words, and their width), of results (1 if
// it is made, and the scale) and of the words of this step; then the limit, and whether there is a scale. That is halved where the
// step is left out, and doubled after `limit` in a row that were made.
KERNEL(decide, TABLE(table)) {
    const ulong counts = table.words[1], results = table.words[2], limit = table.words[4];
    const bool has_scale = table.words[5] != 0, is_finite = LOAD_F64(table.words[0], 0) == 1;
    const ulong in_row = LOAD_U64(counts, 0) + 1, left_out = LOAD_U64(counts, 1), made = LOAD_U64(counts, 2);
    const ulong rows = LOAD_U64(counts, 3), width = LOAD_U64(counts, 4);
    const bool is_made = is_finite || (!has_scale && in_row > limit);
    if (is_made) {
        for (ulong i = LOCAL_ID; i < width; i += GROUP_SIZE) STORE_U64(table.words[3], i, LOAD_U64(rows, made * width + i));
    }
    BARRIER;
    if (LOCAL_ID != 0) return;
    STORE_F64(results, 0, is_made ? 1. : 0.);
    STORE_U64(counts, 1, left_out + (is_finite ? 0 : 1));
    STORE_U64(counts, 2, made + (is_made ? 1 : 0));
    if (has_scale) {
        const double scale = LOAD_F64(results, 1), doubled = scale * 2;
        const double most = bits_to_float(0x7f7fffffu);
        const bool is_grown = is_finite && in_row >= limit;
        STORE_F64(results, 1, !is_finite ? scale / 2 : is_grown ? (doubled < most ? doubled : most) : scale);
        STORE_U64(counts, 0, !is_finite || is_grown ? 0 : in_row);
    } else {
        STORE_U64(counts, 0, is_finite ? 0 : in_row);
    }
}
