// The average of each window, or its largest or smallest element: REDUCTION is 0, 1 or 2. Of the last two the tap is saved, the first
// of equals; NaN stays in the value, and not in the choice of the tap.

#define IS_BETTER(a, b) (REDUCTION == 1 ? a >= b : a <= b)

// Elements of a window along an axis; all of its size if COUNTS_PADDING.
INLINE uint elements_of(uint position, uint n, uint size, uint stride, uint padding) {
    if (COUNTS_PADDING) return size;
    const ulong first = (ulong)position * stride, end = first + size;
    const ulong start = first < padding ? 0 : first - padding, stop = end < padding ? 0 : end - padding;
    return (uint)((stop < n ? stop : n) - (start < n ? start : n));
}
#define ELEMENTS(d, position) elements_of(position, n##d, size##d, stride##d, padding##d)

// The positions whose windows cover an element, and the tap that is there.
#define FIRST(d, i) \
    ((ulong)(i) + padding##d < size##d ? 0 : (uint)(((ulong)(i) + padding##d - size##d + stride##d) / stride##d))
#define OF_COVERING(d, position, i) \
    for (uint position = FIRST(d, i); position < positions##d && (ulong)position * stride##d <= (ulong)(i) + padding##d; ++position)
#define TAP(d, position, i) ((uint)((ulong)(i) + padding##d - (ulong)(position) * stride##d))

KERNEL(pool, READ(0, x), WRITE(1, y), WRITE(2, taps), VALUE(3, ulong, length), VALUE(4, uint, channels), AXES(5)) {
    OF_ALL(index, length) {
        ulong rest = index;
        DIGIT(channel, rest, channels)
        DIGIT(position2, rest, positions2)
        DIGIT(position1, rest, positions1)
        DIGIT(position0, rest, positions0)
        real sum = 0, best = REDUCTION == 1 ? -INFINITE : INFINITE;
        bool has_any = false, has_nan = false;
        uint chosen = 0;
        for (uint tap = 0; tap < size0 * size1 * size2; ++tap) {
            const uint i0 = SOURCE(0, position0, tap / size2 / size1), i1 = SOURCE(1, position1, tap / size2 % size1);
            const uint i2 = SOURCE(2, position2, tap % size2);
            if (i0 == NOWHERE || i1 == NOWHERE || i2 == NOWHERE) continue;
            const real value = LOAD(x, (rest * n0 * n1 * n2 + AT(i0, n1, i1, n2, i2)) * channels + channel);
            sum += value;
            if (!has_any || !IS_BETTER(best, value)) {
                best = value;
                chosen = tap;
            }
            has_any = true;
            has_nan = has_nan || value != value;
        }
        if (REDUCTION == 0) {
            const real count = (real)ELEMENTS(0, position0) * ELEMENTS(1, position1) * ELEMENTS(2, position2);
            STORE(y, index, sum / count);
        } else {
            STORE(y, index, has_nan ? (real)NOT_A_NUMBER : best);
            STORE_U32(taps, index, has_any ? chosen : NOWHERE);
        }
    }
}

KERNEL(pool_backward, READ(0, dy), READ(1, taps), WRITE(2, dx), VALUE(3, ulong, length), VALUE(4, uint, channels), AXES(5)) {
    OF_ALL(index, length) {
        ulong rest = index;
        DIGIT(channel, rest, channels)
        DIGIT(i2, rest, n2)
        DIGIT(i1, rest, n1)
        DIGIT(i0, rest, n0)
        real sum = 0;
        OF_COVERING(0, position0, i0) OF_COVERING(1, position1, i1) OF_COVERING(2, position2, i2) {
            const ulong window = rest * positions0 * positions1 * positions2
                + AT(position0, positions1, position1, positions2, position2);
            const ulong at = window * channels + channel;
            const uint tap = (uint)AT(TAP(0, position0, i0), size1, TAP(1, position1, i1), size2, TAP(2, position2, i2));
            if (REDUCTION == 0) {
                const real count = (real)ELEMENTS(0, position0) * ELEMENTS(1, position1) * ELEMENTS(2, position2);
                sum += LOAD(dy, at) / count;
            } else if (LOAD_U32(taps, at) == tap) {
                sum += LOAD(dy, at);
            }
        }
        STORE(dx, index, sum);
    }
}
