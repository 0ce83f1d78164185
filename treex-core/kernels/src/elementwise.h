// A function of each element, or its gradient times dy.
KERNEL(elementwise, READ(0, x), READ(1, dy), WRITE(2, y), VALUE(3, ulong, length)) {
    CONSTANTS
    OF_ALL(i, length) {
        const real x0 = LOAD(x, i);
        const real x1 = IS_BACKWARD ? LOAD(dy, i) : (real)0;
        STATEMENTS
        STORE(y, i, RESULTS);
    }
}
