// A step of a recurrent cell, for each feature of each sequence. GATES and STATES are the numbers of gates and of tensors of the
// carry; the gates from FROM_INPUT on have a product with the input, those before FROM_CARRY one with the carry. Gates are
// [steps, sequences, GATES, features], products too, of the gates that have them; carries are [STATES, steps, sequences, features].
// `length` is the number of features of all sequences.

#define INPUTS 8
#define OF_GATE(gate, first, count) ((sequence * (count) + (gate) - (first)) * features + column)
#define OF_STATE(state, at) (((state) * steps + (at)) * length + i)
#define NAMED(x) \
    const real x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3], x4 = x[4], x5 = x[5], x6 = x[6], x7 = x[7];

#if !IS_BACKWARD
KERNEL(recurrent_step, READ(0, of_input), READ(1, of_carry), READ(2, input_bias), READ(3, carry_bias), READ(4, first),
       WRITE(5, gates), WRITE(6, carries), VALUE(7, ulong, length), VALUE(8, uint, features), VALUE(9, ulong, step),
       VALUE(10, ulong, steps)) {
    CONSTANTS
    OF_ALL(i, length) {
        const ulong before = i / features, sequence = step * (length / features) + before;
        const uint column = (uint)(i % features);
        real x[INPUTS] = {};
        UNROLL for (uint gate = 0; gate < GATES; ++gate) {
            if (gate >= FROM_INPUT) {
                x[gate] += LOAD(of_input, OF_GATE(gate, FROM_INPUT, GATES - FROM_INPUT));
                if (HAS_INPUT_BIAS) x[gate] += LOAD(input_bias, (gate - FROM_INPUT) * features + column);
            }
            if (gate < FROM_CARRY) {
                x[gate] += LOAD(of_carry, (before * FROM_CARRY + gate) * features + column);
                if (HAS_CARRY_BIAS) x[gate] += LOAD(carry_bias, gate * features + column);
            }
        }
        UNROLL for (uint state = 0; state < STATES; ++state) {
            x[GATES + state] = step == 0 ? LOAD(first, state * length + i) : LOAD(carries, OF_STATE(state, step - 1));
        }
        NAMED(x)
        STATEMENTS
        const real values[] = {RESULTS};
        UNROLL for (uint gate = 0; gate < GATES; ++gate) STORE(gates, OF_GATE(gate, 0, GATES), values[gate]);
        UNROLL for (uint state = 0; state < STATES; ++state) STORE(carries, OF_STATE(state, step), values[GATES + state]);
    }
}

#else

// The gradients of the pre-activations, of those with a product with the input and of those with one with the carry; and of the
// carry, in `dcarry`, which is that of the step behind before. HAS_PRODUCT: the output's gradient through that step is in `products`.
// Bit `state` of HAS_ALL: the gradients of this tensor of the carry behind each step.
KERNEL(recurrent_step_backward, READ(0, gates), READ(1, carries), READ(2, first), READ(3, products), READ(4, all0), READ(5, all1),
       WRITE(6, dcarry), WRITE(7, dinput), WRITE(8, dstep), VALUE(9, ulong, length), VALUE(10, uint, features),
       VALUE(11, ulong, step), VALUE(12, ulong, steps)) {
    CONSTANTS
    OF_ALL(i, length) {
        const ulong before = i / features, sequence = step * (length / features) + before;
        const uint column = (uint)(i % features);
        real x[INPUTS] = {};
        UNROLL for (uint gate = 0; gate < GATES; ++gate) x[gate] = LOAD(gates, OF_GATE(gate, 0, GATES));
        UNROLL for (uint state = 0; state < STATES; ++state) {
            x[GATES + state] = step == 0 ? LOAD(first, state * length + i) : LOAD(carries, OF_STATE(state, step - 1));
            real d = LOAD(dcarry, state * length + i);
            if (HAS_PRODUCT && state == STATES - 1) d += LOAD(products, i);
            if (HAS_ALL >> state & 1) d += state == 0 ? LOAD(all0, step * length + i) : LOAD(all1, step * length + i);
            x[GATES + STATES + state] = d;
        }
        NAMED(x)
        STATEMENTS
        const real values[] = {RESULTS};
        UNROLL for (uint gate = 0; gate < GATES; ++gate) {
            if (gate >= FROM_INPUT) STORE(dinput, OF_GATE(gate, FROM_INPUT, GATES - FROM_INPUT), values[gate]);
            if (gate < FROM_CARRY) STORE(dstep, OF_GATE(gate, 0, FROM_CARRY), values[gate]);
        }
        UNROLL for (uint state = 0; state < STATES; ++state) STORE(dcarry, state * length + i, values[GATES + state]);
    }
}
#endif
