// y = (x - mean) / sqrt(var + epsilon) scale + bias of each row. Saved are mean, 1 / sqrt(var + epsilon), and
// 1 / (var + epsilon) as a factor of the gradient of var: half of it at var = 0, and 0 below.
KERNEL(layer_norm, READ(0, x), READ(1, scale), READ(2, bias), WRITE(3, y), WRITE(4, saved), VALUE(5, ulong, rows),
       VALUE(6, uint, columns), VALUE(7, real, epsilon)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(x)
    real sum = 0, squares = 0, mean = 0;
    if (IS_CENTERED) {
        OF_ROW(k, i) sum += AT(x, k, i);
        mean = SUM(sum) / columns;
    }
    OF_ROW(k, i) {
        const real z = IS_FAST ? AT(x, k, i) : AT(x, k, i) - mean;
        squares += z * z;
    }
    real var = SUM(squares) / columns;
    if (IS_CENTERED && IS_FAST) var = var - mean * mean;
    const real inv_std = INV_STD(var);
    if (IS_FIRST) {
        STORE_REAL(saved, 3 * row.index, mean);
        STORE_REAL(saved, 3 * row.index + 1, inv_std);
        STORE_REAL(saved, 3 * row.index + 2, SLOPE(var, inv_std));
    }
    OF_ROW(k, i) {
        const real factor = HAS_SCALE ? inv_std * LOAD_REAL(scale, i) : inv_std;
        STORE(y, row.start + i, (AT(x, k, i) - mean) * factor + (HAS_BIAS ? LOAD_REAL(bias, i) : 0));
    }
}

// The gradient of x.
KERNEL(layer_norm_backward, READ(0, x), READ(1, dy), READ(2, scale), READ(3, saved), WRITE(4, dx), VALUE(5, ulong, rows),
       VALUE(6, uint, columns)) {
    SHARED(real, parts, PARTS)
    const Row row = row_of(GROUP_ID, LOCAL_ID, rows, columns);
    KEEP(x)
    KEEP(dy)
    real mean = 0, inv_std = 0, factor = 0, sum = 0, deviation = 0;
    if (row.length > 0) {
        mean = LOAD_REAL(saved, 3 * row.index);
        inv_std = LOAD_REAL(saved, 3 * row.index + 1);
        factor = LOAD_REAL(saved, 3 * row.index + 2);
    }
    OF_ROW(k, i) {
        const real d = HAS_SCALE ? AT(dy, k, i) * LOAD_REAL(scale, i) : AT(dy, k, i);
        sum += d;
        deviation += d * (AT(x, k, i) - mean);
    }
    const real center = IS_CENTERED ? SUM(sum) / columns : 0;
    const real slope = SUM(deviation) / columns * inv_std * factor;
    OF_ROW(k, i) {
        const real d = HAS_SCALE ? AT(dy, k, i) * LOAD_REAL(scale, i) : AT(dy, k, i);
        STORE(dx, row.start + i, (d - center) * inv_std - (AT(x, k, i) - mean) * slope);
    }
}
