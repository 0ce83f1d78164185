//! Poolings: averages, maxima and minima of the windows of an array, over all axes at once.
//!
//! `[batch, *spatial, channels]` becomes `[batch, *positions, channels]`. A window without dilation covers a
//! range of elements along each axis. The innermost loop goes over channels, which are neighbours in memory.
//! A maximum saves the tap at which it was found, in row-major order the first of equals, so that backward
//! reads nothing but that and the gradient. A row of output positions is a piece of work forward, an item
//! backward.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::fill::filled;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::memory::{collected, product, with_capacity};
use crate::parallel::{pieces, pieces2};
use crate::window::{self, Axis};

/// How the elements of a window become one number. Each propagates NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Average {
        /// Whether padding counts as elements, which are 0.
        counts_padding: bool,
    },
    /// The largest one; the gradient goes to the first of equals. In a window with NaN it goes where XLA sends it: an
    /// element is passed over unless it is at least the next, from the first to the last.
    Max,
    /// The smallest one; the gradient as for `Max`.
    Min,
}

impl Reduction {
    /// The identity element: what it reduces no elements to.
    #[must_use]
    pub fn identity(self) -> f64 {
        match self {
            Self::Average { .. } => 0.,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
        }
    }
}

/// For each output, the tap at which its maximum or minimum was found; in bytes if the window has up to 256.
#[derive(Clone, Debug)]
pub struct Taps {
    indices: Indices,
    /// What the plan of the pooling was made from.
    of: Arguments,
}

#[derive(Clone, Debug)]
enum Indices {
    None,
    U8(Vec<u8>),
    U32(Vec<u32>),
}

entry_points! {
    /// Poolings of arrays of floats.
    pub trait Pooling: Real for [f32, f64] {
        /// The reduction of each window of `x`, `[batch, *spatial, channels]`, as
        /// `[batch, *positions, channels]`; and what backward needs, if `saves_taps`.
        ///
        /// # Errors
        /// If `x` has another number of elements than the plan, or memory cannot be allocated.
        fn pool(plan: &Plan, x: &[Self], saves_taps: bool) -> Result<(Vec<Self>, Taps)> = pool;

        /// The gradient of `x` from that of the output. A maximum or minimum needs the taps that
        /// [`Pooling::pool`] saved.
        ///
        /// # Errors
        /// If `dy` has another number of elements than the plan, `taps` are of another pooling or missing, or
        /// memory cannot be allocated.
        fn pool_backward(plan: &Plan, dy: &[Self], taps: &Taps) -> Result<Vec<Self>> = pool_backward;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 16;

/// How windows move over an item, `[*spatial, channels]`. Products of its sizes do not overflow.
#[derive(Clone, Debug)]
pub struct Plan {
    arguments: Arguments,
    /// Elements of an item.
    item: usize,
    /// For each output position along all axes but the last, the rows that its window covers.
    rows: Vec<Vec<Row>>,
    /// For each output position along the last axis, the elements that its window covers.
    spans: Vec<Span>,
    /// The taps of a window.
    taps: usize,
    /// Whether windows do not overlap.
    is_disjoint: bool,
}

/// What a plan is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arguments {
    batch: usize,
    spatial: Vec<usize>,
    channels: usize,
    window: Vec<Axis>,
    reduction: Reduction,
}

/// A row that a window covers: the first tap of the window's row, and the first element of the item's row.
#[derive(Clone, Copy, Debug)]
struct Row {
    tap: usize,
    start: usize,
}

/// The elements of a row that a window covers, and the first tap that covers one, counted from that of the
/// row.
#[derive(Clone, Debug)]
struct Span {
    elements: Range<usize>,
    tap: usize,
}

impl Span {
    fn new(axis: &Axis, n: usize, position: usize) -> Self {
        let elements = axis.elements(n, position);
        Self { tap: (elements.start + axis.padding.0).saturating_sub(position * axis.stride), elements }
    }
}

impl Plan {
    /// For `[batch, *spatial, channels]`, and a window with an axis for each spatial size.
    ///
    /// # Errors
    /// If `window` and `spatial` have different lengths or are empty, an axis is refused by [`Axis::check`], a dilation
    /// is not 1, a product of sizes overflows, the taps of a maximum or minimum cannot be counted in 32 bits, or memory
    /// cannot be allocated.
    pub fn new(
        batch: usize,
        spatial: &[usize],
        channels: usize,
        window: &[Axis],
        reduction: Reduction,
    ) -> Result<Self> {
        window::check(window, spatial)?;
        let is_dense = |axis: &Axis| axis.window_dilation == 1 && axis.input_dilation == 1;
        if !window.iter().all(is_dense) {
            let found = format_args!("{window:?}");
            return Err(Error::shape("a pooling has no dilation", "dilations of 1", found));
        }
        let Some((last, outer)) = window.split_last() else {
            return Err(Error::shape("a pooling has a window", "at least one axis", 0));
        };
        let arguments =
            Arguments { batch, spatial: spatial.to_vec(), channels, window: window.to_vec(), reduction };
        let positions = window.iter().zip(spatial).map(|(axis, &n)| axis.positions(n));
        let x = product([batch, channels].into_iter().chain(spatial.iter().copied()));
        let y = product([batch, channels].into_iter().chain(positions));
        let Some(taps) = product(window.iter().map(|axis| axis.size)).filter(|_| x.and(y).is_some()) else {
            let found = format_args!("{arguments:?}");
            return Err(Error::shape("a pooling is too large", "at most `usize::MAX` elements", found));
        };
        let is_average = matches!(reduction, Reduction::Average { .. });
        if !is_average && u32::try_from(taps - 1).is_err() {
            return Err(Error::shape("a window has too many taps", "at most 2^32", taps));
        }

        let item: Vec<usize> = spatial.iter().copied().chain([channels]).collect();
        let spans = |axis: &Axis, n: usize| {
            let positions = axis.positions(n);
            collected(positions, (0..positions).map(|position| Span::new(axis, n, position)))
        };
        let mut rows = vec![vec![Row { tap: 0, start: 0 }]];
        for (d, axis) in outer.iter().enumerate() {
            let step: usize = item[d + 1..].iter().product();
            let spans = spans(axis, item[d])?;
            let mut inner = with_capacity(rows.len() * spans.len())?;
            for (outer, span) in rows.iter().flat_map(|outer| spans.iter().map(move |span| (outer, span))) {
                let row = |outer: &Row, (at, element): (usize, usize)| Row {
                    tap: outer.tap * axis.size + span.tap + at,
                    start: outer.start + element * step,
                };
                let elements = || span.elements.clone().enumerate();
                let covered =
                    outer.iter().flat_map(|outer| elements().map(move |element| row(outer, element)));
                inner.push(collected(outer.len() * span.elements.len(), covered)?);
            }
            rows = inner;
        }
        rows.iter_mut().flatten().for_each(|row| row.tap *= last.size);
        Ok(Self {
            arguments,
            item: item.iter().product(),
            rows,
            spans: spans(last, item[outer.len()])?,
            taps,
            is_disjoint: window.iter().all(|axis| axis.stride >= axis.size),
        })
    }

    /// Elements of the output for a row of output positions, and for an item.
    fn output_sizes(&self) -> (usize, usize) {
        let row = self.spans.len() * self.arguments.channels;
        (row, row * self.rows.len())
    }

    /// The divisor of an average.
    fn count(&self, rows: &[Row], span: &Span) -> f64 {
        match self.arguments.reduction {
            Reduction::Average { counts_padding: false } => (rows.len() * span.elements.len()) as f64,
            _ => self.taps as f64,
        }
    }
}

fn check_len(message: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(message, format!("{expected} elements"), found))
}

fn pool<T: Real>(plan: &Plan, x: &[T], saves_taps: bool) -> Result<(Vec<T>, Taps)> {
    let saves_taps = saves_taps && !matches!(plan.arguments.reduction, Reduction::Average { .. });
    let (y, taps) = match (saves_taps, plan.taps <= 1 << u8::BITS) {
        (false, _) => (pool_with::<T, u8>(plan, x, false)?.0, Indices::None),
        (true, true) => {
            let (y, taps) = pool_with(plan, x, true)?;
            (y, Indices::U8(taps))
        }
        (true, false) => {
            let (y, taps) = pool_with(plan, x, true)?;
            (y, Indices::U32(taps))
        }
    };
    Ok((y, Taps { indices: taps, of: plan.arguments.clone() }))
}

fn pool_with<T: Real, I: Tap>(plan: &Plan, x: &[T], saves_taps: bool) -> Result<(Vec<T>, Vec<I>)> {
    check_len(
        "the input of a pooling has another size than planned",
        x.len(),
        plan.arguments.batch * plan.item,
    )?;
    let (row, item) = plan.output_sizes();
    let len = plan.arguments.batch * item;
    let taps_len = if saves_taps { len } else { 0 };
    let mut taps = with_capacity(taps_len)?;
    let taps_memory = &mut taps.spare_capacity_mut()[..taps_len];
    let run = |index: usize, y: &mut [MaybeUninit<T>], taps: &mut [MaybeUninit<I>]| {
        let (item, at) = (index / plan.rows.len(), index % plan.rows.len());
        let x = &x[item * plan.item..][..plan.item];
        let y = initialized(y, T::of(plan.arguments.reduction.identity()));
        let taps = initialized(taps, I::default());
        dispatch(Pool { plan, rows: &plan.rows[at], x, y, taps });
    };
    let parallel = x.len() >= PARALLEL;
    // SAFETY: the pieces make up the buffer, and each is initialized as a whole.
    let y = unsafe {
        filled(len, |y| {
            if saves_taps {
                pieces2((y, row), (taps_memory, row), parallel, run);
            } else {
                pieces(y, row, parallel, |index, y| run(index, y, &mut []));
            }
        })?
    };
    // SAFETY: there is memory for so many; the pieces, as many as those of `y`, make it up, and each is
    // initialized.
    unsafe { taps.set_len(taps_len) };
    Ok((y, taps))
}

fn pool_backward<T: Real>(plan: &Plan, dy: &[T], taps: &Taps) -> Result<Vec<T>> {
    if taps.of != plan.arguments {
        let (expected, found) = (format_args!("{:?}", plan.arguments), format_args!("{:?}", taps.of));
        return Err(Error::shape("the taps are of another pooling", expected, found));
    }
    match &taps.indices {
        Indices::None => pool_backward_with::<T, u8>(plan, dy, &[]),
        Indices::U8(taps) => pool_backward_with(plan, dy, taps),
        Indices::U32(taps) => pool_backward_with(plan, dy, taps),
    }
}

fn pool_backward_with<T: Real, I: Tap>(plan: &Plan, dy: &[T], taps: &[I]) -> Result<Vec<T>> {
    let (_, size) = plan.output_sizes();
    let outputs = plan.arguments.batch * size;
    check_len("the gradient of a pooling has another size than its output", dy.len(), outputs)?;
    let is_average = matches!(plan.arguments.reduction, Reduction::Average { .. });
    check_len(
        "the taps of a pooling do not fit its output",
        taps.len(),
        if is_average { 0 } else { outputs },
    )?;
    let len = plan.arguments.batch * plan.item;
    let run = |item: usize, dx: &mut [MaybeUninit<T>]| {
        let dx = initialized(dx, T::of(0.));
        let taps = taps.get(item * size..(item + 1) * size).unwrap_or_default();
        dispatch(PoolBackward { plan, dx, dy: &dy[item * size..][..size], taps });
    };
    // SAFETY: the pieces make up the buffer, and each is initialized as a whole.
    unsafe { filled(len, |dx| pieces(dx, plan.item, len >= PARALLEL, run)) }
}

/// `memory`, with `value` everywhere.
fn initialized<T: Copy>(memory: &mut [MaybeUninit<T>], value: T) -> &mut [T] {
    for element in &mut *memory {
        element.write(value);
    }
    // SAFETY: every element has been written, and both types have one layout.
    unsafe { &mut *(std::ptr::from_mut(memory) as *mut [T]) }
}

/// The index of a tap in its window.
trait Tap: Copy + Default + PartialEq + Send + Sync {
    fn of(tap: usize) -> Self;
}

impl Tap for u8 {
    #[inline(always)]
    fn of(tap: usize) -> Self {
        tap as Self
    }
}

impl Tap for u32 {
    #[inline(always)]
    fn of(tap: usize) -> Self {
        tap as Self
    }
}

/// A row of output positions. `y` contains the identity element.
struct Pool<'a, T, I> {
    plan: &'a Plan,
    rows: &'a [Row],
    x: &'a [T],
    y: &'a mut [T],
    /// Where each result is found; empty if not needed.
    taps: &'a mut [I],
}

impl<T: Real, I: Tap> Kernel for Pool<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.plan.arguments.reduction {
            Reduction::Average { .. } => self.average(),
            Reduction::Max => self.best(|best, x| best >= x),
            Reduction::Min => self.best(|best, x| best <= x),
        }
    }
}

impl<T: Real, I: Tap> Pool<'_, T, I> {
    #[inline(always)]
    fn average(self) {
        let channels = self.plan.arguments.channels;
        for (y, span) in self.y.chunks_exact_mut(channels).zip(&self.plan.spans) {
            for row in self.rows {
                let start = row.start + span.elements.start * channels;
                for x in self.x[start..][..span.elements.len() * channels].chunks_exact(channels) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = *y + *x);
                }
            }
            let count = T::of(self.plan.count(self.rows, span));
            y.iter_mut().for_each(|y| *y = *y / count);
        }
    }

    #[inline(always)]
    fn best(self, stays: impl Fn(T, T) -> bool) {
        let channels = self.plan.arguments.channels;
        let saves_taps = !self.taps.is_empty();
        // The element at the tap: the result, unless that is NaN.
        let mut selected = vec![T::of(0.); if saves_taps { channels } else { 0 }];
        // NaN is taken, and stays.
        let taken = |y: T, x: T| if stays(y, x) | is_nan(y) { y } else { x };
        for (at, span) in self.plan.spans.iter().enumerate() {
            let y = &mut self.y[at * channels..][..channels];
            let mut is_first = true;
            for row in self.rows {
                let start = row.start + span.elements.start * channels;
                let neighbours = self.x[start..][..span.elements.len() * channels].chunks_exact(channels);
                for (tap, x) in (row.tap + span.tap..).zip(neighbours) {
                    if !saves_taps {
                        y.iter_mut().zip(x).for_each(|(y, &x)| *y = taken(*y, x));
                        continue;
                    }
                    let tap = I::of(tap);
                    let taps = &mut self.taps[at * channels..][..channels];
                    if is_first {
                        y.copy_from_slice(x);
                        selected.copy_from_slice(x);
                        taps.fill(tap);
                        is_first = false;
                        continue;
                    }
                    let outputs = y.iter_mut().zip(&mut selected).zip(taps);
                    for (((y, selected), best), &x) in outputs.zip(x) {
                        let stays = stays(*selected, x);
                        *y = taken(*y, x);
                        *selected = if stays { *selected } else { x };
                        *best = if stays { *best } else { tap };
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

/// The gradient of an item. `dx` contains zeros.
struct PoolBackward<'a, T, I> {
    plan: &'a Plan,
    dx: &'a mut [T],
    dy: &'a [T],
    /// Empty for an average.
    taps: &'a [I],
}

impl<T: Real, I: Tap> Kernel for PoolBackward<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { plan, dx, dy, taps } = self;
        let channels = plan.arguments.channels;
        let zero = T::of(0.);
        let mut shared = vec![zero; channels];
        let positions = plan.rows.iter().flat_map(|rows| plan.spans.iter().map(move |span| (rows, span)));
        for (at, (rows, span)) in positions.enumerate() {
            let dy = &dy[at * channels..][..channels];
            let taps = taps.get(at * channels..(at + 1) * channels);
            if taps.is_none() {
                let count = T::of(plan.count(rows, span));
                shared.iter_mut().zip(dy).for_each(|(shared, dy)| *shared = *dy / count);
            }
            for row in rows {
                let start = row.start + span.elements.start * channels;
                let neighbours = dx[start..][..span.elements.len() * channels].chunks_exact_mut(channels);
                for (tap, dx) in (row.tap + span.tap..).zip(neighbours) {
                    let Some(taps) = taps else {
                        dx.iter_mut().zip(&shared).for_each(|(dx, shared)| *dx = *dx + *shared);
                        continue;
                    };
                    let tap = I::of(tap);
                    let all = dx.iter_mut().zip(taps).zip(dy);
                    if plan.is_disjoint {
                        all.for_each(|((dx, best), dy)| *dx = if *best == tap { *dy } else { zero });
                    } else {
                        all.for_each(|((dx, best), dy)| *dx = *dx + if *best == tap { *dy } else { zero });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::testing::{Draw, sources};

    const REDUCTIONS: [Reduction; 4] = [
        Reduction::Average { counts_padding: true },
        Reduction::Average { counts_padding: false },
        Reduction::Max,
        Reduction::Min,
    ];

    /// The result, and the gradient for `dy`, by a loop over windows.
    fn expected(
        [batch, channels]: [usize; 2],
        (window, spatial): (&[Axis], &[usize]),
        reduction: Reduction,
        x: &[f64],
        dy: impl Fn(usize) -> f64,
    ) -> (Vec<f64>, Vec<f64>) {
        let item = spatial.iter().product::<usize>();
        let (mut y, mut dx) = (Vec::new(), vec![0.; x.len()]);
        for n in 0..batch {
            for sources in sources(window, spatial) {
                for c in 0..channels {
                    let index = |source: usize| (n * item + source) * channels + c;
                    let covered: Vec<usize> = sources.iter().flatten().map(|&source| index(source)).collect();
                    let dy = dy(y.len());
                    let best = |is_better: fn(f64, f64) -> bool| {
                        covered.iter().copied().reduce(|a, b| if is_better(x[b], x[a]) { b } else { a })
                    };
                    let best = match reduction {
                        Reduction::Average { counts_padding } => {
                            let count = if counts_padding { sources.len() } else { covered.len() } as f64;
                            covered.iter().for_each(|&at| dx[at] += dy / count);
                            y.push(covered.iter().map(|&at| x[at]).sum::<f64>() / count);
                            continue;
                        }
                        Reduction::Max => best(|x, best| x > best),
                        Reduction::Min => best(|x, best| x < best),
                    };
                    y.push(best.map_or(reduction.identity(), |at| x[at]));
                    best.into_iter().for_each(|at| dx[at] += dy);
                }
            }
        }
        (y, dx)
    }

    fn assert_close(found: &[impl Into<f64> + Copy], expected: &[f64], tolerance: f64, what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().map(|&found| found.into()).zip(expected) {
            let is_same = found == *expected || found.is_nan() && expected.is_nan();
            assert!(is_same || (found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
        }
    }

    fn check(draw: &mut Draw, sizes: [usize; 2], window: &[Axis], spatial: &[usize]) -> Result<()> {
        let [batch, channels] = sizes;
        let x = draw.numbers(batch * channels * spatial.iter().product::<usize>());
        let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        for reduction in REDUCTIONS {
            let what = format!("{sizes:?} {window:?} {spatial:?} {reduction:?}");
            let plan = Plan::new(batch, spatial, channels, window, reduction)?;
            let dy = |at: usize| (at % 7) as f64 - 2.;
            let (y, dx) = expected(sizes, (window, spatial), reduction, &x, dy);
            let (found, taps) = f64::pool(&plan, &x, true)?;
            assert_close(&found, &y, 1e-13, &what);
            assert_close(&f64::pool(&plan, &x, false)?.0, &y, 1e-13, &what);
            let dy: Vec<f64> = (0..y.len()).map(dy).collect();
            assert_close(&f64::pool_backward(&plan, &dy, &taps)?, &dx, 1e-12, &what);

            let (found, taps) = f32::pool(&plan, &narrow, true)?;
            assert_close(&found, &y, 2e-6, &what);
            let dy: Vec<f32> = dy.iter().map(|&dy| dy as f32).collect();
            assert_close(&f32::pool_backward(&plan, &dy, &taps)?, &dx, 1e-4, &what);
        }
        Ok(())
    }

    #[test]
    fn windows_of_every_kind() -> Result<()> {
        let mut draw = Draw(2);
        for _ in 0..120 {
            let (mut window, spatial) = draw.window();
            window.iter_mut().for_each(|axis| (axis.window_dilation, axis.input_dilation) = (1, 1));
            let sizes = [draw.of(&[1, 3]), draw.of(&[1, 3, 17])];
            check(&mut draw, sizes, &window, &spatial)?;
        }
        Ok(())
    }

    /// Large enough for all cores, with taps that fit into a byte and taps that do not.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis =
            |size, stride| Axis { size, stride, padding: (1, 2), window_dilation: 1, input_dilation: 1 };
        for window in [[axis(3, 2), axis(3, 2)], [axis(17, 16), axis(16, 16)]] {
            check(&mut Draw(3), [7, 9], &window, &[40, 41])?;
        }
        Ok(())
    }

    /// By JAX 0.10.2: `jax.vjp` of Flax's `max_pool`, and of the minimum by `flax.linen.pool`, with the cotangents 1, 2, ..
    /// Only of the last window in the third row, which is NaN and padding, JAX gives the gradient to the padding.
    #[test]
    fn nan_and_infinities() -> Result<()> {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let pair = Axis { size: 2, stride: 2, padding: (0, 1), window_dilation: 1, input_dilation: 1 };
        let pairs = |reduction, x: &[f32]| {
            let plan = Plan::new(1, &[7], 1, &[pair], reduction)?;
            let (y, taps) = f32::pool(&plan, x, true)?;
            let (untracked, _) = f32::pool(&plan, x, false)?;
            assert!(y.iter().zip(&untracked).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
            Ok::<_, Error>((y, f32::pool_backward(&plan, &[1., 2., 3., 4.], &taps)?))
        };
        for (x, max, of_max, min, of_min) in [
            (
                [nan, 1., 2., nan, -inf, -inf, inf],
                [nan, nan, -inf, inf],
                [0., 1., 0., 2., 3., 0., 4.],
                [nan, nan, -inf, inf],
                [0., 1., 0., 2., 3., 0., 4.],
            ),
            (
                [nan, nan, 1., inf, inf, inf, 3.],
                [nan, inf, inf, 3.],
                [0., 1., 0., 2., 3., 0., 4.],
                [nan, 1., inf, 3.],
                [0., 1., 2., 0., 3., 0., 4.],
            ),
            (
                [nan, inf, inf, nan, -inf, nan, nan],
                [nan; 4],
                [0., 1., 0., 2., 0., 3., 4.],
                [nan; 4],
                [0., 1., 0., 2., 0., 3., 4.],
            ),
        ] {
            for (reduction, wanted, dx) in [(Reduction::Max, max, of_max), (Reduction::Min, min, of_min)] {
                let (y, found) = pairs(reduction, &x)?;
                let same =
                    y.iter().zip(wanted).all(|(y, wanted)| *y == wanted || y.is_nan() && wanted.is_nan());
                assert!(same && found == dx, "{reduction:?} {x:?}: {y:?} {found:?}");
            }
        }
        let square = Axis { stride: 1, padding: (0, 0), ..pair };
        let plan = Plan::new(1, &[3, 3], 1, &[square, square], Reduction::Max)?;
        let (y, taps) = f32::pool(&plan, &[1., nan, 3., 2., 2., 2., nan, 5., 5.], true)?;
        assert!(y[..3].iter().all(|y| y.is_nan()) && y[3] == 5.);
        let dx = f32::pool_backward(&plan, &[1., 2., 3., 4.], &taps)?;
        assert_eq!(dx, [0., 0., 2., 1., 0., 0., 0., 7., 0.]);
        Ok(())
    }

    #[test]
    fn other_sizes_are_refused() -> Result<()> {
        let axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
        let plan = Plan::new(1, &[3], 1, &[axis], Reduction::Max)?;
        assert!(f32::pool(&plan, &[0.; 4], true).is_err());
        let (y, taps) = f32::pool(&plan, &[0., 2., 1.], true)?;
        assert_eq!((y.len(), f32::pool_backward(&plan, &[1., 1.], &taps)?), (2, vec![0., 2., 0.]));
        assert!(f32::pool_backward(&plan, &[1.], &taps).is_err());
        let (_, no_taps) = f32::pool(&plan, &[0., 2., 1.], false)?;
        assert!(f32::pool_backward(&plan, &[1., 1.], &no_taps).is_err());
        // As many outputs, of a window with other taps.
        let other = Plan::new(1, &[4], 1, &[Axis { size: 3, ..axis }], Reduction::Max)?;
        assert!(f32::pool_backward(&other, &[1., 1.], &taps).is_err());
        Ok(())
    }
}
