// What a window reads, [groups, batch, *positions, *taps, channels of a group], of [batch, *spatial, channels].
KERNEL(im2col, READ(0, x), WRITE(1, columns), VALUE(2, ulong, length), VALUE(3, ulong, batch), VALUE(4, uint, channels),
       VALUE(5, uint, groups), AXES(6)) {
    const uint each = channels / groups;
    OF_ALL(index, length) {
        ulong rest = index;
        DIGIT(channel, rest, each)
        DIGIT(tap2, rest, size2)
        DIGIT(tap1, rest, size1)
        DIGIT(tap0, rest, size0)
        DIGIT(position2, rest, positions2)
        DIGIT(position1, rest, positions1)
        DIGIT(position0, rest, positions0)
        const ulong item = rest % batch, group = rest / batch;
        const uint i0 = SOURCE(0, position0, tap0), i1 = SOURCE(1, position1, tap1), i2 = SOURCE(2, position2, tap2);
        const bool is_read = i0 != NOWHERE && i1 != NOWHERE && i2 != NOWHERE;
        const ulong at = (item * n0 * n1 * n2 + AT(i0, n1, i1, n2, i2)) * channels + group * each + channel;
        STORE(columns, index, is_read ? LOAD(x, at) : (real)0);
    }
}

// The transpose: the sum of all columns that an element was read into.
KERNEL(col2im, READ(0, columns), WRITE(1, x), VALUE(2, ulong, length), VALUE(3, ulong, batch), VALUE(4, uint, channels),
       VALUE(5, uint, groups), AXES(6)) {
    const uint each = channels / groups;
    OF_ALL(index, length) {
        ulong rest = index;
        DIGIT(channel, rest, channels)
        DIGIT(i2, rest, n2)
        DIGIT(i1, rest, n1)
        DIGIT(i0, rest, n0)
        const ulong item = channel / each * batch + rest;
        real sum = 0;
        for (uint tap0 = 0; tap0 < size0; ++tap0) {
            const uint position0 = POSITION(0, i0, tap0);
            if (position0 == NOWHERE) continue;
            for (uint tap1 = 0; tap1 < size1; ++tap1) {
                const uint position1 = POSITION(1, i1, tap1);
                if (position1 == NOWHERE) continue;
                for (uint tap2 = 0; tap2 < size2; ++tap2) {
                    const uint position2 = POSITION(2, i2, tap2);
                    if (position2 == NOWHERE) continue;
                    const ulong row = item * positions0 * positions1 * positions2
                        + AT(position0, positions1, position1, positions2, position2);
                    const ulong tap = row * size0 * size1 * size2 + AT(tap0, size1, tap1, size2, tap2);
                    sum += LOAD(columns, tap * each + channel % each);
                }
            }
        }
        STORE(x, index, sum);
    }
}
