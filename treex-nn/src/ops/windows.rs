//! Reductions over windows, all axes at once: what a pooling is made of.
//!
//! A window without gaps is a range of indices along each axis. The innermost loop goes over channels, which
//! are neighbours in memory. A maximum notes at which place of its window it was, so that backward reads nothing
//! but that and the gradient; in row-major order, the first of equals.
//!
//! Candle's backward passes of its own poolings are wrong where windows overlap or do not fill the input, and
//! its maximum's by a factor everywhere; these have their own.

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::{pieces, pieces2};

use crate::ops::patches::Axis;

/// How what a window sees becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// The sum, by the number of elements, among which the zeros of the padding may count.
    Average { counts_padding: bool },
    /// The gradient goes to the first of equals.
    Max,
    /// The gradient goes to the first of equals.
    Min,
}

impl Reduction {
    /// What changes nothing.
    fn identity(self) -> f64 {
        match self {
            Self::Average { .. } => 0.,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
        }
    }

    /// Of two tensors, element by element; an average is a sum at first.
    fn of(self, a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
        let better = match self {
            Self::Average { .. } => return a + b,
            Self::Max => b.gt(a)?,
            Self::Min => b.lt(a)?,
        };
        // What is not a number is taken, and stays.
        (better + b.ne(b)?)?.where_cond(b, a)
    }
}

/// What the window at `position` sees of `n` elements. It has neither gaps nor dilation.
fn window(axis: &Axis, n: usize, position: usize) -> Range<usize> {
    let index = |at: usize| at.saturating_sub(axis.zeros.0).min(n);
    index(position * axis.stride)..index(position * axis.stride + axis.size)
}

/// `x`, `[batch.., *spatial, channels]`, as `[batch.., *positions, channels]`; in `F32` and `F64`.
pub(crate) fn reduce_windows(x: &Tensor, axes: &[Axis], reduction: Reduction) -> Result<Tensor> {
    let has_kernel = x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    let windows = Windows::new(x, axes, reduction);
    let is_empty = x.elem_count() == 0 || windows.dims.contains(&0);
    if is_reference() || !has_kernel || is_empty || axes.is_empty() {
        return Ok(plain(x, axes, reduction)?);
    }
    let values = x.detach().contiguous()?;
    let is_small = windows.places <= 1 << u8::BITS;
    match (x.dtype(), is_small) {
        (DType::F64, true) => windows.call::<f64, u8>(x, &values),
        (DType::F64, false) => windows.call::<f64, u32>(x, &values),
        (_, true) => windows.call::<f32, u8>(x, &values),
        (_, false) => windows.call::<f32, u32>(x, &values),
    }
}

fn plain(x: &Tensor, axes: &[Axis], reduction: Reduction) -> candle_core::Result<Tensor> {
    let first = x.rank() - 1 - axes.len();
    let mut reduced = x.clone();
    // The last axis first, so that the first of equals is the first in row-major order.
    for (dim, axis) in (first..first + axes.len()).zip(axes).rev() {
        let n = reduced.dims()[dim];
        reduced = fold_windows(&reduced, dim, axis, reduction.identity(), |a, b| reduction.of(a, b))?;
        match reduction {
            Reduction::Average { counts_padding: true } => reduced = (reduced / axis.size as f64)?,
            Reduction::Average { counts_padding: false } => {
                let counts = (0..reduced.dims()[dim]).map(|position| window(axis, n, position).len() as f64);
                let mut dims = vec![1; x.rank()];
                dims[dim] = counts.len();
                let counts = Tensor::from_vec(counts.collect(), dims, &Device::Cpu)?;
                reduced = reduced.broadcast_div(&counts.to_dtype(x.dtype())?.to_device(x.device())?)?;
            }
            Reduction::Max | Reduction::Min => {}
        }
    }
    Ok(reduced)
}

/// The reduction of `x` along `dim` by any function of two tensors, for which `identity` changes nothing.
pub(crate) fn fold_windows(
    x: &Tensor,
    dim: usize,
    axis: &Axis,
    identity: f64,
    f: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let n = x.dims()[dim];
    let mut edge = x.dims().to_vec();
    edge[dim] = 1;
    // Index `n` is beyond the edge.
    let edge = (Tensor::zeros(edge, x.dtype(), x.device())? + identity)?;
    let padded = Tensor::cat(&[x, &edge], dim)?.contiguous()?;
    let seen = |place: usize| -> candle_core::Result<Tensor> {
        let at = |position: usize| (position * axis.stride + place).checked_sub(axis.zeros.0);
        let index = (0..axis.positions(n)).map(|position| at(position).map_or(n, |at| at.min(n)) as u32);
        padded.index_select(&Tensor::new(index.collect::<Vec<_>>(), x.device())?, dim)
    };
    (1..axis.size).try_fold(seen(0)?, |folded, place| f(&folded, &seen(place)?))
}

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// How windows move over an item, `[*spatial, channels]`.
#[derive(Clone, Debug)]
struct Windows {
    reduction: Reduction,
    channels: usize,
    /// Elements of the item.
    item: usize,
    /// For each position along all axes but the last, the rows of the window that lie in the item.
    rows: Vec<Vec<Row>>,
    /// For each position along the last axis, what it sees there.
    ranges: Vec<Seen>,
    /// The places of a window.
    places: usize,
    /// Whether no two windows see the same element.
    is_disjoint: bool,
    /// The shape of the result.
    dims: Vec<usize>,
}

/// A row of a window: its first place, and where in the item the row of elements begins that it lies in.
#[derive(Clone, Copy, Debug)]
struct Row {
    place: usize,
    start: usize,
}

/// What a row of a window sees, and at which place of the row this begins.
#[derive(Clone, Debug)]
struct Seen {
    elements: Range<usize>,
    place: usize,
}

impl Seen {
    fn new(axis: &Axis, n: usize, position: usize) -> Self {
        let elements = window(axis, n, position);
        Self { place: (elements.start + axis.zeros.0).saturating_sub(position * axis.stride), elements }
    }
}

impl Windows {
    fn new(x: &Tensor, axes: &[Axis], reduction: Reduction) -> Self {
        let (batch, item) = x.dims().split_at(x.rank() - 1 - axes.len());
        let channels = item[axes.len()];
        let positions: Vec<usize> = axes.iter().zip(item).map(|(axis, &n)| axis.positions(n)).collect();
        let outer = axes.len().saturating_sub(1);
        let mut rows = vec![vec![Row { place: 0, start: 0 }]];
        for (d, axis) in axes[..outer].iter().enumerate() {
            let step: usize = item[d + 1..].iter().product();
            let seen: Vec<_> = (0..positions[d]).map(|position| Seen::new(axis, item[d], position)).collect();
            let inner = |outer: &Vec<Row>, seen: &Seen| -> Vec<Row> {
                let row = |outer: &Row, (at, element): (usize, usize)| Row {
                    place: outer.place * axis.size + seen.place + at,
                    start: outer.start + element * step,
                };
                let elements = || seen.elements.clone().enumerate();
                outer.iter().flat_map(|outer| elements().map(move |element| row(outer, element))).collect()
            };
            rows = rows.iter().flat_map(|outer| seen.iter().map(move |seen| inner(outer, seen))).collect();
        }
        let last = axes.last().map_or(1, |axis| axis.size);
        rows.iter_mut().flatten().for_each(|row| row.place *= last);
        let ranges = axes.last().map(|axis| {
            (0..positions[outer]).map(|position| Seen::new(axis, item[outer], position)).collect()
        });
        Self {
            reduction,
            channels,
            item: item.iter().product(),
            rows,
            ranges: ranges.unwrap_or_default(),
            places: axes.iter().map(|axis| axis.size).product(),
            is_disjoint: axes.iter().all(|axis| axis.stride >= axis.size),
            dims: [batch, &positions, &[channels]].concat(),
        }
    }

    /// Elements of a result's row of positions, and of the results of an item.
    fn sizes(&self) -> (usize, usize) {
        let row = self.ranges.len() * self.channels;
        (row, row * self.rows.len())
    }

    /// How many elements an average is of.
    fn count(&self, rows: &[Row], seen: &Seen) -> f64 {
        match self.reduction {
            Reduction::Average { counts_padding: false } => (rows.len() * seen.elements.len()) as f64,
            _ => self.places as f64,
        }
    }

    fn call<T: Element<Wide = T> + Real, I: Place>(self, x: &Tensor, values: &Tensor) -> Result<Tensor> {
        let elements = elements::<T>(values)?;
        let len = self.dims.iter().product::<usize>();
        let notes_places = x.track_op() && !matches!(self.reduction, Reduction::Average { .. });
        let (mut y, mut places) =
            (Vec::with_capacity(len), Vec::with_capacity(if notes_places { len } else { 0 }));
        let (row, _) = self.sizes();
        let one = |index: usize, y: &mut [MaybeUninit<T>], places: &mut [MaybeUninit<I>]| {
            let (item, at) = (index / self.rows.len(), index % self.rows.len());
            let x = &elements[item * self.item..][..self.item];
            let y = filled(y, T::of(self.reduction.identity()));
            let places = filled(places, I::default());
            dispatch(Reduce { windows: &self, rows: &self.rows[at], x, y, places });
        };
        let y_room = &mut y.spare_capacity_mut()[..len];
        let places_room = places.spare_capacity_mut();
        let parallel = values.elem_count() >= PARALLEL;
        if notes_places {
            pieces2((y_room, row), (&mut places_room[..len], row), parallel, one);
        } else {
            pieces(y_room, row, parallel, |index, y| one(index, y, &mut []));
        }
        // SAFETY: there is room for so many, and each row has been filled.
        unsafe {
            y.set_len(len);
            places.set_len(if notes_places { len } else { 0 });
        }
        let output = OwnedStorage::new(y, self.dims.clone())?;
        let shape = x.dims().to_vec();
        attach(Pooled::<I> { windows: self, places, shape }, &[x], output)
    }
}

/// `room`, with `value` everywhere.
fn filled<T: Copy>(room: &mut [MaybeUninit<T>], value: T) -> &mut [T] {
    for element in &mut *room {
        element.write(value);
    }
    // SAFETY: every element has a value now, and both have one layout.
    unsafe { &mut *(std::ptr::from_mut(room) as *mut [T]) }
}

/// The number of a place in its window.
trait Place: Copy + Default + PartialEq + Send + Sync + 'static {
    fn of(place: usize) -> Self;
}

impl Place for u8 {
    #[inline(always)]
    fn of(place: usize) -> Self {
        place as Self
    }
}

impl Place for u32 {
    #[inline(always)]
    fn of(place: usize) -> Self {
        place as Self
    }
}

/// One row of positions, forward.
struct Reduce<'a, T, I> {
    windows: &'a Windows,
    rows: &'a [Row],
    x: &'a [T],
    y: &'a mut [T],
    /// Where each result was seen; empty if nobody asks.
    places: &'a mut [I],
}

impl<T: Real, I: Place> Kernel for Reduce<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.windows.reduction {
            Reduction::Average { .. } => self.average(),
            Reduction::Max => self.best(|x, best| x > best),
            Reduction::Min => self.best(|x, best| x < best),
        }
    }
}

impl<T: Real, I: Place> Reduce<'_, T, I> {
    #[inline(always)]
    fn average(self) {
        let channels = self.windows.channels;
        for (y, seen) in self.y.chunks_exact_mut(channels).zip(&self.windows.ranges) {
            for row in self.rows {
                let start = row.start + seen.elements.start * channels;
                for x in self.x[start..][..seen.elements.len() * channels].chunks_exact(channels) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = *y + *x);
                }
            }
            let count = T::of(self.windows.count(self.rows, seen));
            y.iter_mut().for_each(|y| *y = *y / count);
        }
    }

    #[inline(always)]
    fn best(self, is_better: impl Fn(T, T) -> bool) {
        let channels = self.windows.channels;
        let notes = !self.places.is_empty();
        for (at, seen) in self.windows.ranges.iter().enumerate() {
            let y = &mut self.y[at * channels..][..channels];
            let mut is_first = true;
            for row in self.rows {
                let start = row.start + seen.elements.start * channels;
                let neighbours = self.x[start..][..seen.elements.len() * channels].chunks_exact(channels);
                for (place, x) in (row.place + seen.place..).zip(neighbours) {
                    if !notes {
                        y.iter_mut()
                            .zip(x)
                            .for_each(|(y, &x)| *y = if is_better(x, *y) | is_nan(x) { x } else { *y });
                        continue;
                    }
                    let place = I::of(place);
                    let places = &mut self.places[at * channels..][..channels];
                    if is_first {
                        y.copy_from_slice(x);
                        places.fill(place);
                        is_first = false;
                        continue;
                    }
                    // What is not a number is taken, and stays.
                    for ((y, noted), &x) in y.iter_mut().zip(places).zip(x) {
                        let taken = is_better(x, *y) | is_nan(x);
                        *y = if taken { x } else { *y };
                        *noted = if taken { place } else { *noted };
                    }
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::eq_op, reason = "the comparison that is one instruction, of vectors too")]
fn is_nan<T: Real>(x: T) -> bool {
    x != x
}

/// What backward needs: where each result was seen, unless it is an average.
struct Pooled<I> {
    windows: Windows,
    places: Vec<I>,
    shape: Vec<usize>,
}

impl<I: Place> Pooled<I> {
    fn gradient<T: Element<Wide = T> + Real>(&self, dy: &Tensor) -> Result<Tensor> {
        let dy = elements::<T>(dy)?;
        let len = self.shape.iter().product();
        let mut dx = Vec::with_capacity(len);
        let (_, size) = self.windows.sizes();
        let one = |item: usize, dx: &mut [MaybeUninit<T>]| {
            let dx = filled(dx, T::of(0.));
            let places = self.places.get(item * size..(item + 1) * size).unwrap_or_default();
            dispatch(GiveBack { windows: &self.windows, dx, dy: &dy[item * size..][..size], places });
        };
        pieces(&mut dx.spare_capacity_mut()[..len], self.windows.item, len >= PARALLEL, one);
        // SAFETY: there is room for so many, and each item has been filled.
        unsafe { dx.set_len(len) };
        Ok(OwnedStorage::new(dx, self.shape.clone())?.into_tensor())
    }
}

impl<I: Place> Operation for Pooled<I> {
    fn name(&self) -> &'static str {
        "pooling"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = match dy.dtype() {
            DType::F64 => self.gradient::<f64>(&dy)?,
            _ => self.gradient::<f32>(&dy)?,
        };
        Ok(vec![Some(dx)])
    }
}

/// One item, backward, into zeros.
struct GiveBack<'a, T, I> {
    windows: &'a Windows,
    dx: &'a mut [T],
    dy: &'a [T],
    places: &'a [I],
}

impl<T: Real, I: Place> Kernel for GiveBack<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { windows, dx, dy, places } = self;
        let channels = windows.channels;
        let zero = T::of(0.);
        let mut shared = vec![zero; channels];
        let positions =
            windows.rows.iter().flat_map(|rows| windows.ranges.iter().map(move |seen| (rows, seen)));
        for (at, (rows, seen)) in positions.enumerate() {
            let dy = &dy[at * channels..][..channels];
            let places = places.get(at * channels..(at + 1) * channels);
            if places.is_none() {
                let count = T::of(windows.count(rows, seen));
                shared.iter_mut().zip(dy).for_each(|(shared, dy)| *shared = *dy / count);
            }
            for row in rows {
                let start = row.start + seen.elements.start * channels;
                let neighbours = dx[start..][..seen.elements.len() * channels].chunks_exact_mut(channels);
                for (place, dx) in (row.place + seen.place..).zip(neighbours) {
                    let Some(places) = places else {
                        dx.iter_mut().zip(&shared).for_each(|(dx, shared)| *dx = *dx + *shared);
                        continue;
                    };
                    let place = I::of(place);
                    let all = dx.iter_mut().zip(places).zip(dy);
                    if windows.is_disjoint {
                        all.for_each(|((dx, noted), dy)| *dx = if *noted == place { *dy } else { zero });
                    } else {
                        all.for_each(|((dx, noted), dy)| {
                            *dx = *dx + if *noted == place { *dy } else { zero }
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    const REDUCTIONS: [Reduction; 4] = [
        Reduction::Average { counts_padding: true },
        Reduction::Average { counts_padding: false },
        Reduction::Max,
        Reduction::Min,
    ];

    /// The value, and the gradient of the sum of its squares.
    fn value_and_gradient(x: &Var, axes: &[Axis], reduction: Reduction) -> Result<Vec<Vec<f64>>> {
        let y = reduce_windows(x, axes, reduction)?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let dx = grads.get(x).cloned().map_or_else(|| x.zeros_like(), Ok)?;
        let flat = |x: &Tensor| -> Result<Vec<f64>> { Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
        Ok(vec![flat(&y)?, flat(&dx)?])
    }

    fn assert_equal(x: &Var, axes: &[Axis], reduction: Reduction, tolerance: f64) -> Result<()> {
        let found = value_and_gradient(x, axes, reduction)?;
        let wanted = with_reference(|| value_and_gradient(x, axes, reduction))?;
        let untracked = reduce_windows(&x.as_detached_tensor(), axes, reduction)?;
        let untracked: Vec<f64> = untracked.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found[0]), bits(&untracked));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(wanted) {
                let close = (found - wanted).abs() <= tolerance * wanted.abs().max(1.);
                let same = found == wanted || found.is_nan() && wanted.is_nan();
                assert!(close || same, "{:?} {axes:?} {reduction:?}: {found} {wanted}", x.dims());
            }
        }
        Ok(())
    }

    /// Windows of every kind over one to three axes, drawn with a fixed key; some see padding alone, some values
    /// are equal.
    #[test]
    fn agree_with_the_plain_composition() -> Result<()> {
        let draw = |case: u32, slot: u32, choices: &[usize]| {
            let bits = Key::from(7).fold_in(case).fold_in(slot).words()[0] as usize;
            choices[bits % choices.len()]
        };
        for case in 0..120 {
            let rank = 1 + case % 3;
            let axis = |d: u32| Axis {
                size: draw(case, 10 * d, &[1, 2, 3, 4]),
                stride: draw(case, 10 * d + 1, &[1, 2, 3, 5]),
                zeros: (draw(case, 10 * d + 2, &[0, 0, 1, 3]), draw(case, 10 * d + 3, &[0, 0, 1, 3])),
                window_dilation: 1,
                input_dilation: 1,
            };
            let axes: Vec<_> = (0..rank).map(axis).collect();
            let spatial = (0..rank).map(|d| draw(case, 10 * d + 6, &[1, 2, 3, 5, 8]));
            let mut dims: Vec<_> = spatial.chain([draw(case, 100, &[1, 3, 17])]).collect();
            dims.splice(0..0, [&[][..], &[3], &[2, 2]][case as usize % 3].iter().copied());
            for dtype in [DType::F32, DType::F64] {
                let x = Key::from(case).randint(dims.clone(), -9, 9, DType::I64)?.to_dtype(dtype)?;
                for reduction in REDUCTIONS {
                    assert_equal(&Var::from_tensor(&x)?, &axes, reduction, 1e-5)?;
                }
            }
        }
        Ok(())
    }

    /// Large enough for all cores, with places that fit into a byte and places that do not.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis = |size, stride| Axis { size, stride, zeros: (1, 2), window_dilation: 1, input_dilation: 1 };
        let x = Var::from_tensor(&Key::from(0).normal((7, 40, 41, 9), DType::F32)?)?;
        for axes in [[axis(3, 2), axis(3, 2)], [axis(2, 2), axis(2, 3)], [axis(17, 16), axis(16, 16)]] {
            for reduction in REDUCTIONS {
                assert_equal(&x, &axes, reduction, 1e-4)?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_not_a_number() -> Result<()> {
        let axis = Axis { size: 2, stride: 2, zeros: (0, 1), window_dilation: 1, input_dilation: 1 };
        for (reduction, beyond) in [(Reduction::Max, f32::INFINITY), (Reduction::Min, f32::NEG_INFINITY)] {
            let x = Var::new(&[f32::NAN, 1., 2., f32::NAN, -beyond, -beyond, beyond], &Device::Cpu)?;
            let check = || -> Result<()> {
                let y = reduce_windows(&x.unsqueeze(1)?, &[axis], reduction)?.flatten_all()?;
                let values = y.to_vec1::<f32>()?;
                assert!(values[0].is_nan() && values[1].is_nan(), "{values:?}");
                assert_eq!(values[2..], [-beyond, beyond]);
                let dx = y.sum_all()?.backward()?.get(&x).map(Tensor::to_vec1::<f32>).transpose()?;
                assert_eq!(dx.map(|dx| dx[4..].to_vec()), Some(vec![1., 0., 1.]));
                Ok(())
            };
            check()?;
            with_reference(check)?;
        }
        Ok(())
    }
}
