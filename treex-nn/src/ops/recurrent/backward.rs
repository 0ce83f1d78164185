//! The gradients of all steps, from the last to the first.

use std::array::from_fn;

use treex_core::Result;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces;

use super::cell::Cell;
use super::panels::Panels;
use super::{Element, LANES, Operands, Sizes, add_to, padded};
use treex_kernels::microkernel::{PANEL, Product, ROWS, multiply as multiply_tile};
use treex_kernels::output::Output;

/// The gradients of the outputs.
pub(super) struct Cotangents<'a, R> {
    /// `[rows, features]`.
    pub(super) y: Option<&'a [R]>,
    /// `[items, S, features]`.
    pub(super) last: Option<&'a [R]>,
}

/// The gradients of the sums, in the order of the inputs, `[rows, G, features]`, and of the first carry,
/// `[items, S, features]`, from what forward kept of the sums and of the carry.
pub(super) fn backward<R: Element, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    sizes: &Sizes,
    operands: &Operands,
    [kept, before]: [&[R]; 2],
    cotangents: &Cotangents<'_, R>,
) -> Result<(Vec<R>, Vec<R>)> {
    let (state, group) = (S * sizes.features, sizes.group(G));
    let panels = Panels::transposed(&operands.of_carry, sizes.features)?;
    let run = Run { cell, sizes, kept, before, cotangents, panels, of_sums: Output::new(kept.len())? };
    let mut of_first = vec![R::of(0.); sizes.order.items * state];
    pieces(&mut of_first, group * state, true, |index, of_carry| run.steps(index * group, of_carry));
    // SAFETY: each row is that of one step of one sequence, and was written there.
    Ok((unsafe { run.of_sums.finish() }, of_first))
}

/// What the steps have in common.
struct Run<'a, R, C> {
    cell: C,
    sizes: &'a Sizes,
    kept: &'a [R],
    before: &'a [R],
    cotangents: &'a Cotangents<'a, R>,
    panels: Panels<R>,
    of_sums: Output<R>,
}

impl<R: Real, C> Run<'_, R, C> {
    /// The steps of some sequences, from `first` on; `of_carry` holds zeros, and then the gradient of the first carry.
    fn steps<const G: usize, const S: usize>(&self, first: usize, of_carry: &mut [R])
    where
        C: Cell<G, S>,
    {
        let (features, state) = (self.sizes.features, S * self.sizes.features);
        let rows = (of_carry.len() / state).next_multiple_of(ROWS);
        let Panels { elements, inner, columns } = &self.panels;
        let (mut sums, mut products) = (vec![R::of(0.); rows * inner], vec![R::of(0.); rows * columns]);
        for step in (0..self.sizes.order.time).rev() {
            let (of_carry, products_now, sums_now) = (&mut of_carry[..], &products[..], &mut sums[..]);
            let step = Step::<_, _, G, S> {
                run: self,
                step,
                first,
                of_carry,
                products: products_now,
                sums: sums_now,
            };
            dispatch(step);
            multiply_tile(Product {
                c: &mut products,
                c_row: *columns,
                a: &sums,
                a_strides: [*inner, 1],
                b: elements,
                b_strides: [PANEL, inner * PANEL],
                sizes: [rows, *inner, *columns],
                accumulate: false,
            });
        }
        let sequences = of_carry.chunks_exact_mut(state).zip(products.chunks_exact(*columns));
        for (item, (of_carry, product)) in (first..).zip(sequences) {
            add_to(&mut of_carry[state - features..], product);
            // A sequence without steps ends where it begins.
            if let (0, Some(last)) = (self.sizes.order.length(item), self.cotangents.last) {
                add_to(of_carry, &last[item * state..]);
            }
        }
    }
}

/// One step of some sequences.
struct Step<'a, R, C, const G: usize, const S: usize> {
    run: &'a Run<'a, R, C>,
    step: usize,
    first: usize,
    of_carry: &'a mut [R],
    products: &'a [R],
    sums: &'a mut [R],
}

impl<R: Real, C: Cell<G, S>, const G: usize, const S: usize> Kernel for Step<'_, R, C, G, S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Step { run, step, first, of_carry, products, sums } = self;
        let (order, features) = (&run.sizes.order, run.sizes.features);
        let state = S * features;
        let sequences =
            products.chunks_exact(run.panels.columns).zip(sums.chunks_exact_mut(run.panels.inner));
        let sequences = of_carry.chunks_exact_mut(state).zip(sequences);
        for (item, (of_carry, (products, sums))) in (first..).zip(sequences) {
            let (input, output) = (order.input(item, step), order.output(item, step));
            let row = input * G * features..(input + 1) * G * features;
            // SAFETY: the row of this step of this sequence, which nobody else has.
            let of_sums = unsafe { run.of_sums.row(row.start, row.len()) };
            let (kept, before) = (&run.kept[row], &run.before[input * state..][..state]);
            let of_y = run.cotangents.y.map(|y| &y[output * features..][..features]);
            let of_last = run.cotangents.last.filter(|_| step + 1 == order.length(item));
            let of_last = of_last.map(|last| &last[item * state..][..state]);
            for column in (0..features).step_by(LANES) {
                let len = LANES.min(features - column);
                let at = |part: usize| part * features + column..part * features + column + len;
                let mut gradients: [[R; LANES]; G] = from_fn(|sum| padded(&kept[at(sum)]));
                let states: [[R; LANES]; S] = from_fn(|state| padded(&before[at(state)]));
                let mut of_states: [[R; LANES]; S] = from_fn(|state| padded(&of_carry[at(state)]));
                for more in [Some(products), of_y].into_iter().flatten() {
                    add_to(&mut of_states[S - 1], &more[at(0)]);
                }
                if let Some(of_last) = of_last {
                    (0..S).for_each(|state| add_to(&mut of_states[state], &of_last[at(state)]));
                }
                for lane in 0..LANES {
                    let (sums, carry) = run.cell.backward(
                        from_fn(|sum| gradients[sum][lane]),
                        from_fn(|state| states[state][lane]),
                        from_fn(|state| of_states[state][lane]),
                    );
                    (0..G).for_each(|sum| gradients[sum][lane] = sums[sum]);
                    (0..S).for_each(|state| of_states[state][lane] = carry[state]);
                }
                for (sum, gradients) in gradients.iter().enumerate() {
                    of_sums[at(sum)].write_copy_of_slice(&gradients[..len]);
                    if sum < C::FROM_CARRY {
                        sums[at(sum)].copy_from_slice(&gradients[..len]);
                    }
                }
                for (state, of_states) in of_states.iter().enumerate() {
                    of_carry[at(state)].copy_from_slice(&of_states[..len]);
                }
            }
        }
    }
}
