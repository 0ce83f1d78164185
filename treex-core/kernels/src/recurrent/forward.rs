//! All steps, from the first to the last.

use std::array::from_fn;

use super::cell::Cell;
use super::operands::{Operands, Sizes};
use super::packing::Packed;
use super::run::{Forward, LANES, Saved, add_to, concatenate, padded};
use crate::error::Result;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::matmul::{MatMul, Matrix};
use crate::microkernel::{PANEL, Product, ROWS, multiply as multiply_tile};
use crate::number::Lane;
use crate::output::Output;
use crate::parallel::pieces;

/// The run of operands that fit the cell and the sizes. Carries are saved only with `save`.
pub(super) fn forward<R: MatMul, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    sizes: &Sizes,
    operands: &Operands<&[R]>,
    save: bool,
) -> Result<Forward<R>> {
    let (rows, features) = (sizes.rows(), sizes.features);
    let gates = Output::new(rows * G * features)?;
    let mut bias = vec![R::of(0.); G * features];
    let x = Matrix::new(operands.x, rows, sizes.inputs)?;
    for (gate, layer) in (C::FROM_INPUT..).zip(&operands.of_input) {
        let len = rows * G * features;
        let at = len.min(gate * features);
        // SAFETY: no other reference to the memory exists yet.
        let to = unsafe { gates.row(at, len - at) };
        let kernel = Matrix::new(layer.kernel, sizes.inputs, features)?;
        R::matmul_into(to, G * features, x, kernel, None, true)?;
    }
    for (first, layers) in [(C::FROM_INPUT, &operands.of_input), (0, &operands.of_carry)] {
        for (gate, layer) in (first..).zip(layers) {
            if let Some(of_gate) = layer.bias {
                add_to(&mut bias[sizes.part(gate)], of_gate);
            }
        }
    }
    let carries = Output::new(if save { rows * S * features } else { 0 })?;
    let kernels = Packed::concatenated(&operands.of_carry, features);
    let first = operands.carry.iter().map(|carry| Some(*carry)).collect::<Vec<_>>();
    let (mut last, group) = (concatenate(&first, features), sizes.group(G));
    let run = Run { cell, sizes, bias, kernels, gates, carries, y: Output::new(rows * features)?, save };
    pieces(&mut last, group * S * features, true, |index, last| run.steps(index * group, last));
    let Run { gates, carries, y, .. } = run;
    // SAFETY: each row belongs to one step of one sequence, and all steps of all sequences have written theirs.
    let (y, saved) = unsafe { (y.finish(), Saved { gates: gates.finish(), carries: carries.finish() }) };
    let carry = (0..S).map(|state| sizes.state::<R, S>(&last, state)).collect();
    Ok(Forward { y, carry, saved })
}

/// What all steps share.
struct Run<'a, R, C> {
    cell: C,
    sizes: &'a Sizes,
    bias: Vec<R>,
    kernels: Packed<R>,
    /// Before a step the products with the input, after it what is saved of the gates.
    gates: Output<R>,
    carries: Output<R>,
    y: Output<R>,
    save: bool,
}

impl<R: Real, C> Run<'_, R, C> {
    /// All steps of some sequences, from the sequence `first` on; `last` is at first their first carry, and then their
    /// last.
    fn steps<const G: usize, const S: usize>(&self, first: usize, last: &mut [R])
    where
        C: Cell<G, S>,
    {
        let (features, state) = (self.sizes.features, S * self.sizes.features);
        let rows = (last.len() / state).next_multiple_of(ROWS);
        let Packed { elements, inner, columns } = &self.kernels;
        let (mut carry, mut products) = (vec![R::of(0.); rows * state], vec![R::of(0.); rows * columns]);
        carry[..last.len()].copy_from_slice(last);
        for step in 0..self.sizes.order.time {
            multiply_tile(Product {
                c: &mut products,
                c_row: *columns,
                a: &carry[state - features..],
                a_strides: [state, 1],
                b: elements,
                b_strides: [PANEL, inner * PANEL],
                sizes: [rows, *inner, *columns],
                accumulate: false,
            });
            let (carry, products) = (&mut carry[..], &products[..]);
            dispatch(Step::<_, _, G, S> { run: self, step, first, carry, products, last });
        }
    }
}

/// One step of some sequences.
struct Step<'a, R, C, const G: usize, const S: usize> {
    run: &'a Run<'a, R, C>,
    step: usize,
    first: usize,
    carry: &'a mut [R],
    products: &'a [R],
    last: &'a mut [R],
}

impl<R: Real, C: Cell<G, S>, const G: usize, const S: usize> Kernel for Step<'_, R, C, G, S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Step { run, step, first, carry, products, last } = self;
        let (order, features) = (&run.sizes.order, run.sizes.features);
        let state = S * features;
        let sequences = carry.chunks_exact_mut(state).zip(products.chunks_exact(run.kernels.columns));
        for (item, (last, (carry, products))) in (first..).zip(last.chunks_exact_mut(state).zip(sequences)) {
            let (input, output) = (order.input(item, step), order.output(item, step));
            // SAFETY: no other step, and no other sequence, has these rows: `Order::check` passed.
            let (gates, y) = unsafe {
                (run.gates.row(input * G * features, G * features), run.y.row(output * features, features))
            };
            if run.save {
                // SAFETY: as above.
                unsafe { run.carries.row(input * state, state) }.write_copy_of_slice(carry);
            }
            for column in (0..features).step_by(LANES) {
                let len = LANES.min(features - column);
                let at = |part: usize| part * features + column..part * features + column + len;
                let mut saved: [[R; LANES]; G] = from_fn(|gate| {
                    let mut lanes = padded(&run.bias[at(gate)]);
                    if gate >= C::FROM_INPUT {
                        // SAFETY: the products with the input were written before the first step, as there is a layer
                        // for each of these gates.
                        add_to(&mut lanes, unsafe { gates[at(gate)].assume_init_ref() });
                    }
                    if gate < C::FROM_CARRY {
                        add_to(&mut lanes, &products[at(gate)]);
                    }
                    lanes
                });
                let mut states: [[R; LANES]; S] = from_fn(|state| padded(&carry[at(state)]));
                for lane in 0..LANES {
                    let (of_gates, of_carry) = run.cell.forward(
                        from_fn(|gate| Lane(saved[gate][lane])),
                        from_fn(|state| Lane(states[state][lane])),
                    );
                    (0..G).for_each(|gate| saved[gate][lane] = of_gates[gate].0);
                    (0..S).for_each(|state| states[state][lane] = of_carry[state].0);
                }
                for (gate, saved) in saved.iter().enumerate() {
                    gates[at(gate)].write_copy_of_slice(&saved[..len]);
                }
                for (state, states) in states.iter().enumerate() {
                    carry[at(state)].copy_from_slice(&states[..len]);
                }
                y[at(0)].write_copy_of_slice(&states[S - 1][..len]);
            }
            if step + 1 == order.length(item) {
                last.copy_from_slice(carry);
            }
        }
    }
}
