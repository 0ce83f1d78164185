//! The gradients of all steps, from the last to the first, and then those of the operands.

use std::array::from_fn;
use std::cell::LazyCell;

use super::cell::Cell;
use super::operands::{Operands, Sizes};
use super::packing::Packed;
use super::run::{LANES, Saved, add_to, concatenate, padded};
use crate::error::{Error, Result};
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::matmul::{MatMul, Matrix};
use crate::microkernel::{PANEL, Product, ROWS, multiply as multiply_tile};
use crate::number::Lane;
use crate::output::Output;
use crate::parallel::pieces;
use crate::sum_axis0::SumAxis0;

/// The gradients of the wanted operands, in their order; all sizes fit the cell.
pub(super) fn backward<R: MatMul + SumAxis0, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    sizes: &Sizes,
    operands: &Operands<&[R]>,
    saved: &Saved<R>,
    cotangents: &[Option<&[R]>],
    wanted: &[bool],
) -> Result<Vec<Option<Vec<R>>>> {
    let (rows, features) = (sizes.rows(), sizes.features);
    let (dgates, dcarry) = steps(cell, sizes, operands, saved, cotangents)?;
    let of_gate = |gate: usize| sizes.columns::<R, G>(&dgates, gate);
    let of_biases = LazyCell::new(|| R::sum_axis0(&dgates, G * features));
    let mut gradients = Vec::new();
    let mut push = |compute: &dyn Fn() -> Result<Vec<R>>| -> Result<()> {
        gradients.push(wanted[gradients.len()].then(compute).transpose()?);
        Ok(())
    };
    push(&|| {
        let mut dx = vec![R::of(0.); rows * sizes.inputs];
        for (gate, layer) in (C::FROM_INPUT..).zip(&operands.of_input) {
            let kernel = Matrix::new(layer.kernel, sizes.inputs, features)?.t();
            R::matmul_add(&mut dx, sizes.inputs, of_gate(gate)?, kernel, R::of(1.), true)?;
        }
        Ok(dx)
    })?;
    for state in 0..S {
        push(&|| Ok(sizes.state::<R, S>(&dcarry, state)))?;
    }
    let x = Matrix::new(operands.x, rows, sizes.inputs)?;
    let carry = sizes.columns::<R, S>(&saved.carries, S - 1)?;
    for (input, first, layers) in [(x, C::FROM_INPUT, &operands.of_input), (carry, 0, &operands.of_carry)] {
        for (gate, layer) in (first..).zip(layers) {
            push(&|| R::matmul(input.t(), of_gate(gate)?, None, true))?;
            if layer.bias.is_some() {
                push(&|| Ok(of_biases.as_ref().map_err(Error::clone)?[sizes.part(gate)].to_vec()))?;
            }
        }
    }
    Ok(gradients)
}

/// The gradients of the pre-activations, `[rows, G, features]`, and of the first carry, `[items, S, features]`.
fn steps<R: Real, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    sizes: &Sizes,
    operands: &Operands<&[R]>,
    Saved { gates, carries }: &Saved<R>,
    cotangents: &[Option<&[R]>],
) -> Result<(Vec<R>, Vec<R>)> {
    let (state, group) = (S * sizes.features, sizes.group(G));
    let kernels = Packed::transposed(&operands.of_carry, sizes.features);
    let dlast = concatenate(&cotangents[1..], sizes.features);
    let dlast = (!dlast.is_empty()).then_some(&dlast[..]);
    let (dy, dgates) = (cotangents[0], Output::new(gates.len())?);
    let run = Run { cell, sizes, gates, carries, dy, dlast, kernels, dgates };
    let mut dfirst = vec![R::of(0.); sizes.order.items * state];
    pieces(&mut dfirst, group * state, true, |index, dcarry| run.steps(index * group, dcarry));
    // SAFETY: each row belongs to one step of one sequence, and all steps of all sequences have written theirs.
    Ok((unsafe { run.dgates.finish() }, dfirst))
}

/// What all steps share.
struct Run<'a, R, C> {
    cell: C,
    sizes: &'a Sizes,
    gates: &'a [R],
    carries: &'a [R],
    /// `[rows, features]`.
    dy: Option<&'a [R]>,
    /// The gradient of the last carry, `[items, S, features]`.
    dlast: Option<&'a [R]>,
    kernels: Packed<R>,
    dgates: Output<R>,
}

impl<R: Real, C> Run<'_, R, C> {
    /// All steps of some sequences, from the sequence `first` on; `dcarry` is at first zeros, and then the gradient of
    /// their first carry.
    fn steps<const G: usize, const S: usize>(&self, first: usize, dcarry: &mut [R])
    where
        C: Cell<G, S>,
    {
        let (features, state) = (self.sizes.features, S * self.sizes.features);
        let rows = (dcarry.len() / state).next_multiple_of(ROWS);
        let Packed { elements, inner, columns } = &self.kernels;
        let (mut dgates, mut products) = (vec![R::of(0.); rows * inner], vec![R::of(0.); rows * columns]);
        for step in (0..self.sizes.order.time).rev() {
            let (dcarry, products_now, dgates_now) = (&mut dcarry[..], &products[..], &mut dgates[..]);
            let step = Step::<_, _, G, S> {
                run: self,
                step,
                first,
                dcarry,
                products: products_now,
                dgates: dgates_now,
            };
            dispatch(step);
            multiply_tile(Product {
                c: &mut products,
                c_row: *columns,
                a: &dgates,
                a_strides: [*inner, 1],
                b: elements,
                b_strides: [PANEL, inner * PANEL],
                sizes: [rows, *inner, *columns],
                accumulate: false,
            });
        }
        let sequences = dcarry.chunks_exact_mut(state).zip(products.chunks_exact(*columns));
        for (item, (dcarry, product)) in (first..).zip(sequences) {
            add_to(&mut dcarry[state - features..], product);
            // The last carry of a sequence without steps is the first.
            if let (0, Some(dlast)) = (self.sizes.order.length(item), self.dlast) {
                add_to(dcarry, &dlast[item * state..]);
            }
        }
    }
}

/// One step of some sequences.
struct Step<'a, R, C, const G: usize, const S: usize> {
    run: &'a Run<'a, R, C>,
    step: usize,
    first: usize,
    dcarry: &'a mut [R],
    /// The gradient of the output through the pre-activations of the step after.
    products: &'a [R],
    dgates: &'a mut [R],
}

impl<R: Real, C: Cell<G, S>, const G: usize, const S: usize> Kernel for Step<'_, R, C, G, S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Step { run, step, first, dcarry, products, dgates } = self;
        let (order, features) = (&run.sizes.order, run.sizes.features);
        let state = S * features;
        let sequences =
            products.chunks_exact(run.kernels.columns).zip(dgates.chunks_exact_mut(run.kernels.inner));
        let sequences = dcarry.chunks_exact_mut(state).zip(sequences);
        for (item, (dcarry, (products, dgates))) in (first..).zip(sequences) {
            let (input, output) = (order.input(item, step), order.output(item, step));
            let row = input * G * features..(input + 1) * G * features;
            // SAFETY: no other step, and no other sequence, has this row: `Order::check` passed.
            let all_dgates = unsafe { run.dgates.row(row.start, row.len()) };
            let (gates, carry) = (&run.gates[row], &run.carries[input * state..][..state]);
            let dy = run.dy.map(|dy| &dy[output * features..][..features]);
            let dlast = run.dlast.filter(|_| step + 1 == order.length(item));
            let dlast = dlast.map(|dlast| &dlast[item * state..][..state]);
            for column in (0..features).step_by(LANES) {
                let len = LANES.min(features - column);
                let at = |part: usize| part * features + column..part * features + column + len;
                let mut gradients: [[R; LANES]; G] = from_fn(|gate| padded(&gates[at(gate)]));
                let states: [[R; LANES]; S] = from_fn(|state| padded(&carry[at(state)]));
                let mut dstates: [[R; LANES]; S] = from_fn(|state| padded(&dcarry[at(state)]));
                for more in [Some(products), dy].into_iter().flatten() {
                    add_to(&mut dstates[S - 1], &more[at(0)]);
                }
                if let Some(dlast) = dlast {
                    (0..S).for_each(|state| add_to(&mut dstates[state], &dlast[at(state)]));
                }
                for lane in 0..LANES {
                    let (of_gates, of_carry) = run.cell.backward(
                        from_fn(|gate| Lane(gradients[gate][lane])),
                        from_fn(|state| Lane(states[state][lane])),
                        from_fn(|state| Lane(dstates[state][lane])),
                    );
                    (0..G).for_each(|gate| gradients[gate][lane] = of_gates[gate].0);
                    (0..S).for_each(|state| dstates[state][lane] = of_carry[state].0);
                }
                for (gate, gradients) in gradients.iter().enumerate() {
                    all_dgates[at(gate)].write_copy_of_slice(&gradients[..len]);
                    if gate < C::FROM_CARRY {
                        dgates[at(gate)].copy_from_slice(&gradients[..len]);
                    }
                }
                for (state, dstates) in dstates.iter().enumerate() {
                    dcarry[at(state)].copy_from_slice(&dstates[..len]);
                }
            }
        }
    }
}
