// A window that moves along three axes, of which some may have size 1. For an axis: the input's size, the number of output
// positions, and the window's size, stride, padding before the input, and dilations.
#define AXIS(index, d) \
    VALUE(index, uint, n##d), VALUE(index + 1, uint, positions##d), VALUE(index + 2, uint, size##d), \
    VALUE(index + 3, uint, stride##d), VALUE(index + 4, uint, padding##d), VALUE(index + 5, uint, dilation##d), \
    VALUE(index + 6, uint, input_dilation##d)
#define AXES(index) AXIS(index, 0), AXIS(index + 7, 1), AXIS(index + 14, 2)

#define NOWHERE 0xffffffffu

// The element that a tap reads at an output position; NOWHERE for a zero.
INLINE uint source_of(uint position, uint tap, uint n, uint stride, uint padding, uint dilation, uint input_dilation) {
    const ulong at = (ulong)position * stride + (ulong)tap * dilation;
    if (at < padding || (at - padding) % input_dilation != 0) return NOWHERE;
    const ulong index = (at - padding) / input_dilation;
    return index < n ? (uint)index : NOWHERE;
}

// The output position at which a tap reads an element; NOWHERE if there is none.
INLINE uint position_of(uint element, uint tap, uint positions, uint stride, uint padding, uint dilation,
                        uint input_dilation) {
    const ulong at = (ulong)element * input_dilation + padding, before = (ulong)tap * dilation;
    if (at < before || (at - before) % stride != 0) return NOWHERE;
    const ulong position = (at - before) / stride;
    return position < positions ? (uint)position : NOWHERE;
}

#define SOURCE(d, position, tap) source_of(position, tap, n##d, stride##d, padding##d, dilation##d, input_dilation##d)
#define POSITION(d, element, tap) \
    position_of(element, tap, positions##d, stride##d, padding##d, dilation##d, input_dilation##d)

// The last digit of a number in mixed radix, which it loses.
#define DIGIT(name, rest, radix) \
    const uint name = (uint)(rest % (radix)); \
    rest /= (radix);

// The flat index of three indices.
#define AT(a, n_a, b, n_b, c) (((ulong)(a) * (n_a) + (b)) * (n_b) + (c))
