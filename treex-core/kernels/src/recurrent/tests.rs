//! Each cell against its formulas in `f64`, and gradients against finite differences of those.

use super::operands::Affine;
use super::order::Order;
use super::*;
use crate::math::Real;

const CELLS: [AnyCell; 6] = [
    AnyCell::Lstm(Lstm),
    AnyCell::Gru(Gru),
    AnyCell::Mgu(Mgu),
    AnyCell::MguWithoutReset(MguWithoutReset),
    AnyCell::Simple(Simple { residual: false }),
    AnyCell::Simple(Simple { residual: true }),
];

fn sigmoid(x: f64) -> f64 {
    1. / (1. + (-x).exp())
}

/// The carry after a step of one feature.
fn step(cell: AnyCell, a: &[f64], carry: &[f64]) -> Vec<f64> {
    match cell {
        AnyCell::Lstm(_) => {
            let c = sigmoid(a[1]) * carry[0] + sigmoid(a[0]) * a[2].tanh();
            vec![c, sigmoid(a[3]) * c.tanh()]
        }
        AnyCell::Gru(_) => {
            let (r, z) = (sigmoid(a[1]), sigmoid(a[2]));
            vec![(1. - z) * (a[3] + r * a[0]).tanh() + z * carry[0]]
        }
        AnyCell::Mgu(_) => {
            let f = sigmoid(a[1]);
            vec![(1. - f) * (a[2] + f * a[0]).tanh() + f * carry[0]]
        }
        AnyCell::MguWithoutReset(_) => {
            let f = sigmoid(a[0]);
            vec![(1. - f) * a[1].tanh() + f * carry[0]]
        }
        AnyCell::Simple(Simple { residual }) => {
            vec![if residual { (a[0] + carry[0]).tanh() } else { a[0].tanh() }]
        }
    }
}

type Owned<T> = Operands<Vec<T>>;

/// The outputs, zeros in the padding, and the tensors of the last carry.
fn reference(cell: AnyCell, sizes: &Sizes, operands: &Owned<f64>) -> Vec<Vec<f64>> {
    let Sizes { order, inputs, features } = sizes;
    let (counts, [inputs, features]) = (cell.counts(), [*inputs, *features]);
    let mut y = vec![0.; order.time * order.items * features];
    let mut last = operands.carry.clone();
    for item in 0..order.items {
        let length = order.lengths.as_ref().map_or(order.time, |lengths| lengths[item]);
        let row = |at| if order.time_major { at * order.items + item } else { item * order.time + at };
        for step_at in 0..length {
            let there = if order.reverse { length - 1 - step_at } else { step_at };
            let (from, to) = (row(there), row(if order.keep_order { there } else { step_at }));
            let x = &operands.x[from * inputs..][..inputs];
            let before: Vec<_> =
                last.iter().map(|carry| carry[item * features..][..features].to_vec()).collect();
            let h = &before[counts.states - 1];
            for feature in 0..features {
                let mut a = vec![0.; counts.gates];
                let first = counts.gates - counts.of_input;
                let layers = (first..).zip(&operands.of_input).map(|(gate, layer)| (gate, layer, x));
                let of_carry = (0..).zip(&operands.of_carry).map(|(gate, layer)| (gate, layer, h.as_slice()));
                for (gate, Affine { kernel, bias }, input) in layers.chain(of_carry) {
                    let terms = input.iter().enumerate().map(|(row, x)| x * kernel[row * features + feature]);
                    a[gate] += terms.sum::<f64>() + bias.as_ref().map_or(0., |bias| bias[feature]);
                }
                let before: Vec<_> = before.iter().map(|carry| carry[feature]).collect();
                for (last, after) in last.iter_mut().zip(step(cell, &a, &before)) {
                    last[item * features + feature] = after;
                    // The last tensor of the carry is the output.
                    y[to * features + feature] = after;
                }
            }
        }
    }
    [y].into_iter().chain(last).collect()
}

/// Numbers from -1 to 1, different for each seed.
fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) as f64 * 0.61803).sin()).collect()
}

/// The operands of a run; each second layer has a bias.
fn operands(cell: AnyCell, sizes: &Sizes) -> Owned<f64> {
    let Sizes { order, inputs, features } = sizes;
    let layers = |count: usize, inputs: usize, seed: usize| {
        let layer = |index: usize| Affine {
            kernel: numbers(inputs * features, seed + 2 * index),
            bias: index.is_multiple_of(2).then(|| numbers(*features, seed + 2 * index + 1)),
        };
        (0..count).map(layer).collect()
    };
    let counts = cell.counts();
    Operands {
        x: numbers(order.time * order.items * inputs, 1),
        carry: (0..counts.states).map(|state| numbers(order.items * features, 2 + state)).collect(),
        of_input: layers(counts.of_input, *inputs, 10),
        of_carry: layers(counts.of_carry, *features, 20),
    }
}

fn cast<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().copied().map(T::of).collect()
}

/// Outputs and gradients of a kernel, in `f64`; the gradients of the outputs are the `weights`.
fn run<T: Recurrent>(
    cell: AnyCell,
    sizes: &Sizes,
    operands: &Owned<f64>,
    weights: &[Vec<f64>],
) -> Result<[Vec<Vec<f64>>; 2]> {
    let Ok(operands) = operands.try_map(|x| Ok::<_, std::convert::Infallible>(cast::<T>(x)));
    let operands = operands.as_slices();
    let Forward { y, carry, saved } = T::recurrent(cell, sizes, &operands, true)?;
    let unsaved = T::recurrent(cell, sizes, &operands, false)?;
    assert!(unsaved.y == y && unsaved.carry == carry && unsaved.saved.carries.is_empty());
    let weights: Vec<_> = weights.iter().map(|weights| cast::<T>(weights)).collect();
    let cotangents: Vec<_> = weights.iter().map(|weights| Some(weights.as_slice())).collect();
    let wanted = vec![true; operands.iter().count()];
    let gradients = T::recurrent_backward(cell, sizes, &operands, &saved, &cotangents, &wanted)?;
    let wide = |x: Vec<T>| x.into_iter().map(T::to_f64).collect::<Vec<_>>();
    let outputs = [y].into_iter().chain(carry).map(wide).collect();
    Ok([outputs, gradients.into_iter().flatten().map(wide).collect()])
}

/// Weights of the outputs, zeros in the padding.
fn weights(cell: AnyCell, sizes: &Sizes) -> Vec<Vec<f64>> {
    let Sizes { order, features, .. } = sizes;
    let mut y = numbers(order.time * order.items * features, 5);
    for (at, row) in y.chunks_exact_mut(*features).enumerate() {
        let (item, at) = if order.time_major {
            (at % order.items, at / order.items)
        } else {
            (at / order.time, at % order.time)
        };
        if order.lengths.as_ref().is_some_and(|lengths| at >= lengths[item]) {
            row.fill(0.);
        }
    }
    let carry = (0..cell.counts().states).map(|state| numbers(order.items * features, 6 + state));
    [y].into_iter().chain(carry).collect()
}

fn dot(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    x.iter().flatten().zip(y.iter().flatten()).map(|(x, y)| x * y).sum()
}

/// A copy of the operands with one element of one of them moved.
fn moved(operands: &Owned<f64>, operand: usize, at: usize, distance: f64) -> Owned<f64> {
    let index = std::cell::Cell::new(0);
    let Ok(moved) = operands.try_map(|x| {
        let mut x = x.clone();
        if index.replace(index.get() + 1) == operand {
            x[at] += distance;
        }
        Ok::<_, std::convert::Infallible>(x)
    });
    moved
}

/// Outputs and gradients in `f64` and in `f32`; of each operand, `elements` of the gradient.
fn compare(cell: AnyCell, sizes: &Sizes, elements: usize) -> Result<()> {
    let (operands, weights) = (operands(cell, sizes), weights(cell, sizes));
    let [outputs, gradients] = run::<f64>(cell, sizes, &operands, &weights)?;
    let expected = reference(cell, sizes, &operands);
    let is_used = weights[0].iter().map(|weight| *weight != 0.).chain(std::iter::repeat(true));
    let pairs = outputs.iter().flatten().zip(expected.iter().flatten()).zip(is_used);
    for ((found, expected), is_used) in pairs {
        assert!(!is_used || (found - expected).abs() < 1e-12, "{cell:?} {sizes:?}: {found} {expected}");
    }
    assert_eq!(gradients.len(), operands.iter().count());
    let distance = 1e-5;
    for (operand, gradient) in gradients.iter().enumerate() {
        for at in (0..gradient.len()).step_by(gradient.len().div_ceil(elements).max(1)) {
            let loss = |distance: f64| {
                dot(&reference(cell, sizes, &moved(&operands, operand, at, distance)), &weights)
            };
            let expected = (loss(distance) - loss(-distance)) / (2. * distance);
            let found = gradient[at];
            let tolerance = 1e-7 * expected.abs().max(1.);
            assert!((found - expected).abs() < tolerance, "{cell:?} {operand} {at}: {found} {expected}");
        }
    }
    let narrow = run::<f32>(cell, sizes, &operands, &weights)?;
    for (found, expected) in narrow.iter().flatten().zip(outputs.iter().chain(&gradients)) {
        let scale = expected.iter().fold(1f64, |scale, x| scale.max(x.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-5 * scale, "{cell:?} {sizes:?}: {found} {expected}");
        }
    }
    Ok(())
}

fn order(time: usize, items: usize) -> Order {
    Order { time, items, time_major: false, reverse: false, keep_order: false, lengths: None }
}

/// One sequence, one step, one feature, sizes that fill no panel and no lanes, and work for all cores.
#[test]
fn sizes_of_all_kinds() -> Result<()> {
    for cell in CELLS {
        for [items, time, inputs, features] in
            [[1, 3, 1, 1], [1, 1, 3, 2], [2, 4, 0, 5], [9, 3, 17, 33], [19, 3, 6, 70]]
        {
            compare(cell, &Sizes { order: order(time, items), inputs, features }, 3)?;
        }
    }
    Ok(())
}

/// All directions and layouts, with sequences of one length and of several, and one without steps.
#[test]
fn orders_of_all_kinds() -> Result<()> {
    for cell in CELLS {
        for flags in 0..8 {
            let [time_major, reverse, keep_order] = [1, 2, 4].map(|flag| flags & flag != 0);
            for lengths in [None, Some(vec![2, 0, 4])] {
                let order = Order { time_major, reverse, keep_order, lengths, ..order(4, 3) };
                compare(cell, &Sizes { order, inputs: 2, features: 3 }, 12)?;
            }
        }
    }
    Ok(())
}

#[test]
fn no_sequences_and_no_steps() -> Result<()> {
    for cell in CELLS {
        for [time, items] in [[2, 0], [0, 3]] {
            let sizes = Sizes { order: order(time, items), inputs: 2, features: 3 };
            let (operands, weights) = (operands(cell, &sizes), weights(cell, &sizes));
            let [outputs, gradients] = run::<f64>(cell, &sizes, &operands, &weights)?;
            assert!(outputs[0].is_empty() && outputs[1..] == operands.carry && gradients[0].is_empty());
            let states = operands.carry.len();
            assert!(gradients[1..=states] == weights[1..]);
            assert!(gradients[1 + states..].iter().flatten().all(|x| *x == 0.));
        }
    }
    Ok(())
}

/// The same bits on any number of threads.
#[test]
fn threads_do_not_change_results() -> Result<()> {
    let sizes = Sizes { order: order(3, 19), inputs: 6, features: 70 };
    for cell in CELLS {
        let (operands, weights) = (operands(cell, &sizes), weights(cell, &sizes));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| run::<f32>(cell, &sizes, &operands, &weights))
        };
        assert_eq!(on(1)?, on(3)?);
    }
    Ok(())
}

/// Cotangents that are `None` are zeros, and gradients that are not wanted are `None`.
#[test]
fn missing_cotangents_and_gradients() -> Result<()> {
    let sizes = Sizes { order: order(4, 3), inputs: 2, features: 3 };
    for cell in CELLS {
        let (operands, mut weights) = (operands(cell, &sizes), weights(cell, &sizes));
        weights[0].fill(0.);
        let last = weights.len() - 1;
        weights[last].fill(0.);
        let expected = run::<f64>(cell, &sizes, &operands, &weights)?[1].clone();
        let slices = operands.as_slices();
        let saved = f64::recurrent(cell, &sizes, &slices, true)?.saved;
        let mut cotangents: Vec<_> = weights.iter().map(|weights| Some(weights.as_slice())).collect();
        (cotangents[0], cotangents[last]) = (None, None);
        for only in 0..expected.len() {
            let wanted: Vec<_> = (0..expected.len()).map(|index| index == only).collect();
            let found = f64::recurrent_backward(cell, &sizes, &slices, &saved, &cotangents, &wanted)?;
            for (index, found) in found.into_iter().enumerate() {
                assert_eq!(found, (index == only).then(|| expected[index].clone()), "{cell:?} {index}");
            }
        }
    }
    Ok(())
}

#[test]
fn sizes_that_do_not_fit() -> Result<()> {
    let cell = AnyCell::Lstm(Lstm);
    let sizes = Sizes { order: order(4, 3), inputs: 2, features: 3 };
    let operands = operands(cell, &sizes);
    let saved = f64::recurrent(cell, &sizes, &operands.as_slices(), true)?.saved;
    let other = |change: &dyn Fn(&mut Sizes)| {
        let mut other = sizes.clone();
        change(&mut other);
        other
    };
    let refused = [
        other(&|sizes| sizes.features = 0),
        other(&|sizes| sizes.features = 4),
        other(&|sizes| sizes.inputs = 1),
        other(&|sizes| sizes.order.items = 4),
        other(&|sizes| sizes.order.time = usize::MAX / 2),
        other(&|sizes| sizes.order.lengths = Some(vec![1, 2, 5])),
    ];
    for sizes in &refused {
        assert!(f64::recurrent(cell, sizes, &operands.as_slices(), true).is_err(), "{sizes:?}");
    }
    // Operands of another cell, and carries that were not saved.
    assert!(f64::recurrent(AnyCell::Gru(Gru), &sizes, &operands.as_slices(), true).is_err());
    let slices = operands.as_slices();
    let backward = |saved: &Saved<f64>, cotangents: usize, wanted: usize| {
        let (cotangents, wanted) = (vec![None; cotangents], vec![true; wanted]);
        f64::recurrent_backward(cell, &sizes, &slices, saved, &cotangents, &wanted)
    };
    let all = slices.iter().count();
    assert!(backward(&saved, 3, all).is_ok());
    assert!(backward(&saved, 2, all).is_err() && backward(&saved, 3, all - 1).is_err());
    assert!(backward(&f64::recurrent(cell, &sizes, &slices, false)?.saved, 3, all).is_err());
    Ok(())
}
