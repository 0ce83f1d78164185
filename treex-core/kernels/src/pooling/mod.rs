//! Poolings: averages, maxima and minima of the windows of an array, over all axes at once.
//!
//! `[batch, *spatial, channels]` becomes `[batch, *positions, channels]`. A window without dilation covers a
//! range of elements along each axis. The innermost loop goes over channels, which are neighbours in memory.
//! A maximum saves the tap at which it was found, in row-major order the first of equals, so that backward
//! reads nothing but that and the gradient. A row of output positions is a piece of work forward, an item
//! backward.

mod plan;

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::fill::filled;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::memory::with_capacity;
use crate::parallel::{pieces, pieces2};

use plan::{Arguments, Row};
pub use plan::{Plan, Reduction};

/// The kernels for devices, of [all elements](crate::dialect::EACH) behind [`DIALECT`](crate::window::DIALECT) of windows, with
/// `REDUCTION` and `COUNTS_PADDING` defined.
pub const DIALECT: &str = include_str!("pooling.h");

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
mod tests;
