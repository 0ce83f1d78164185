//! All steps, from the first to the last.

use std::array::from_fn;

use treex_core::Result;
use treex_core::autograd::elements;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::matmul::{Matrix, multiply};
use treex_kernels::parallel::pieces;

use super::cell::Cell;
use super::panels::Panels;
use super::{Element, LANES, Operands, Sizes, add_to, padded};
use treex_kernels::microkernel::{PANEL, Product, ROWS, multiply as multiply_tile};
use treex_kernels::output::Output;

/// What the steps leave.
pub(super) struct Forward<R> {
    /// The outputs, `[rows, features]`.
    pub(super) y: Vec<R>,
    /// The carry of each sequence where it ends, `[items, S, features]`.
    pub(super) last: Vec<R>,
    /// What backward needs of the sums, in the order of the inputs, `[rows, G, features]`.
    pub(super) kept: Vec<R>,
    /// The carry before each step, in the order of the inputs, `[rows, S, features]`; empty unless asked for.
    pub(super) before: Vec<R>,
}

/// All steps from the carry `first`, `[items, S, features]`. What backward needs is there only if it is to be `kept`.
pub(super) fn forward<R: Element, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    sizes: &Sizes,
    operands: &Operands,
    first: Vec<R>,
    keep: bool,
) -> Result<Forward<R>> {
    let (rows, features) = (sizes.rows(), sizes.features);
    let sums = Output::new(rows * G * features)?;
    let mut bias = vec![R::of(0.); G * features];
    let x = elements::<R>(&operands.x)?;
    let x = Matrix::new(&x, rows, sizes.inputs)?;
    for (sum, affine) in (C::FROM_INPUT..).zip(&operands.of_input) {
        let len = rows * G * features;
        let at = len.min(sum * features);
        // SAFETY: nobody else has it yet.
        let to = unsafe { sums.row(at, len - at) };
        let kernel = elements::<R>(&affine.kernel)?;
        multiply(to, G * features, x, Matrix::new(&kernel, sizes.inputs, features)?, None, true)?;
    }
    for (first, affine) in [(C::FROM_INPUT, &operands.of_input), (0, &operands.of_carry)] {
        for (sum, affine) in (first..).zip(affine) {
            if let Some(of_sum) = &affine.bias {
                add_to(&mut bias[sizes.of_part(sum)], &elements::<R>(of_sum)?);
            }
        }
    }
    let before = Output::new(if keep { rows * S * features } else { 0 })?;
    let panels = Panels::beside(&operands.of_carry, features)?;
    let run = Run { cell, sizes, bias, panels, sums, before, y: Output::new(rows * features)?, keep };
    let (mut last, group) = (first, sizes.group(G));
    pieces(&mut last, group * S * features, true, |index, last| run.steps(index * group, last));
    // SAFETY: each row is that of one step of one sequence, and was written there.
    Ok(unsafe { Forward { y: run.y.finish(), last, kept: run.sums.finish(), before: run.before.finish() } })
}

/// What the steps have in common.
struct Run<'a, R, C> {
    cell: C,
    sizes: &'a Sizes,
    bias: Vec<R>,
    panels: Panels<R>,
    /// Before a step what the input gives to its sums, afterwards what is kept of them.
    sums: Output<R>,
    before: Output<R>,
    y: Output<R>,
    keep: bool,
}

impl<R: Real, C> Run<'_, R, C> {
    /// The steps of some sequences, from `first` on; `last` is the carry that they begin with, and then that they end with.
    fn steps<const G: usize, const S: usize>(&self, first: usize, last: &mut [R])
    where
        C: Cell<G, S>,
    {
        let (features, state) = (self.sizes.features, S * self.sizes.features);
        let rows = (last.len() / state).next_multiple_of(ROWS);
        let Panels { elements, inner, columns } = &self.panels;
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
        let sequences = carry.chunks_exact_mut(state).zip(products.chunks_exact(run.panels.columns));
        for (item, (last, (carry, products))) in (first..).zip(last.chunks_exact_mut(state).zip(sequences)) {
            let (input, output) = (order.input(item, step), order.output(item, step));
            // SAFETY: the rows of this step of this sequence, which nobody else has.
            let (sums, y) = unsafe {
                (run.sums.row(input * G * features, G * features), run.y.row(output * features, features))
            };
            if run.keep {
                // SAFETY: as above.
                unsafe { run.before.row(input * state, state) }.write_copy_of_slice(carry);
            }
            for column in (0..features).step_by(LANES) {
                let len = LANES.min(features - column);
                let at = |part: usize| part * features + column..part * features + column + len;
                let mut kept: [[R; LANES]; G] = from_fn(|sum| {
                    let mut lanes = padded(&run.bias[at(sum)]);
                    if sum >= C::FROM_INPUT {
                        // SAFETY: what the input gives is there.
                        add_to(&mut lanes, unsafe { sums[at(sum)].assume_init_ref() });
                    }
                    if sum < C::FROM_CARRY {
                        add_to(&mut lanes, &products[at(sum)]);
                    }
                    lanes
                });
                let mut states: [[R; LANES]; S] = from_fn(|state| padded(&carry[at(state)]));
                for lane in 0..LANES {
                    let (of_sums, of_carry) = run
                        .cell
                        .forward(from_fn(|sum| kept[sum][lane]), from_fn(|state| states[state][lane]));
                    (0..G).for_each(|sum| kept[sum][lane] = of_sums[sum]);
                    (0..S).for_each(|state| states[state][lane] = of_carry[state]);
                }
                for (sum, kept) in kept.iter().enumerate() {
                    sums[at(sum)].write_copy_of_slice(&kept[..len]);
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
