//! Statistics of each row.

use std::mem::MaybeUninit;

use treex_core::Result;
use treex_core::autograd::Element;
use treex_kernels::fill::filled;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces2;
use treex_kernels::reduce::{sums, sums3};

use super::{Gradients, Source, Statistics};

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 15;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// How many pieces have sums of their own at most: what sums of columns cost beside the rows.
const SUMS: usize = 64;

/// The statistics of each row.
type OfRows<T> = Vec<Statistics<<T as treex_kernels::float::Float>::Wide>>;

/// `y`, and the statistics of each row.
pub(super) fn forward<T: Element>(
    x: &[T],
    scale: &[T::Wide],
    bias: &[T::Wide],
    source: Source<'_>,
    epsilon: f64,
) -> Result<(Vec<T>, OfRows<T>)> {
    let columns = scale.len();
    let (rows, together) = (x.len() / columns, (PIECE / columns).max(1));
    let mut statistics = vec![Statistics::of([0., 0.], 1.); rows];
    // SAFETY: the kernel writes each row of each piece.
    let y = unsafe {
        filled(x.len(), |y| {
            let (y, statistics) = ((y, together * columns), (statistics.as_mut_slice(), together));
            pieces2(y, statistics, x.len() >= PARALLEL, |index, y, statistics| {
                let x = &x[index * together * columns..][..y.len()];
                dispatch(Forward { x, scale, bias, source, epsilon, y, statistics });
            });
        })?
    };
    Ok((y, statistics))
}

struct Forward<'a, T: Element> {
    x: &'a [T],
    scale: &'a [T::Wide],
    bias: &'a [T::Wide],
    source: Source<'a>,
    epsilon: f64,
    y: &'a mut [MaybeUninit<T>],
    statistics: &'a mut [Statistics<T::Wide>],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.scale.len();
        let rows = self.x.chunks_exact(columns).zip(self.y.chunks_exact_mut(columns));
        for ((x, y), place) in rows.zip(self.statistics) {
            let statistics = Statistics::of(moments(x, self.source), self.epsilon);
            *place = statistics;
            let Statistics { mean, factor, .. } = statistics;
            for (((y, &x), &scale), &bias) in y.iter_mut().zip(x).zip(self.scale).zip(self.bias) {
                y.write(T::narrow((x.widen() - mean).mul_add(factor * scale, bias)));
            }
        }
    }
}

/// Mean and variance of a row.
#[inline(always)]
fn moments<T: Element>(x: &[T], source: Source<'_>) -> [f64; 2] {
    let count = x.len() as f64;
    let use_fast_variance = match source {
        Source::Input { use_fast_variance } => use_fast_variance,
        _ => {
            let [squares] = sums(x, |x| [x.widen() * x.widen()]);
            return [0., squares.to_f64() / count];
        }
    };
    if use_fast_variance {
        let [sum, squares] = sums(x, |x| [x.widen(), x.widen() * x.widen()]);
        let mean = sum.to_f64() / count;
        [mean, squares.to_f64() / count - mean * mean]
    } else {
        let [sum] = sums(x, |x| [x.widen()]);
        let mean = sum.to_f64() / count;
        let centre = T::Wide::of(mean);
        let [squares] = sums(x, |x| [(x.widen() - centre) * (x.widen() - centre)]);
        [mean, squares.to_f64() / count]
    }
}

/// All gradients.
pub(super) fn backward<T: Element>(
    x: &[T],
    dy: &[T],
    scale: &[T::Wide],
    statistics: &[Statistics<T::Wide>],
    is_centred: bool,
) -> Result<Gradients<T>> {
    let (columns, rows) = (scale.len(), statistics.len());
    let together = (PIECE / columns).max(1).max(rows.div_ceil(SUMS));
    let mut parts = vec![T::Wide::of(0.); rows.div_ceil(together) * 2 * columns];
    // SAFETY: the kernel writes each row of each piece.
    let dx = unsafe {
        filled(x.len(), |dx| {
            let (dx, parts) = ((dx, together * columns), (parts.as_mut_slice(), 2 * columns));
            pieces2(dx, parts, x.len() >= PARALLEL, |index, dx, sums| {
                let range = index * together * columns..index * together * columns + dx.len();
                let statistics = &statistics[index * together..];
                let (dscale, dbias) = sums.split_at_mut(columns);
                let (x, dy) = (&x[range.clone()], &dy[range]);
                dispatch(Backward { x, dy, scale, statistics, is_centred, dx, dscale, dbias });
            });
        })?
    };
    let mut totals = vec![0.; 2 * columns];
    for part in parts.chunks_exact(2 * columns) {
        for (total, part) in totals.iter_mut().zip(part) {
            *total += part.to_f64();
        }
    }
    let bias = totals.split_off(columns);
    Ok(Gradients { x: Some(dx), scale: totals, bias })
}

struct Backward<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    scale: &'a [T::Wide],
    statistics: &'a [Statistics<T::Wide>],
    is_centred: bool,
    dx: &'a mut [MaybeUninit<T>],
    dscale: &'a mut [T::Wide],
    dbias: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.scale.len();
        let each = T::Wide::of(1. / columns as f64);
        let rows = self.x.chunks_exact(columns).zip(self.dy.chunks_exact(columns));
        for (((x, dy), dx), statistics) in rows.zip(self.dx.chunks_exact_mut(columns)).zip(self.statistics) {
            let &Statistics { mean, factor, share } = statistics;
            let [through_mean, through_var] = sums3(x, dy, self.scale, |x, dy, scale| {
                let gradient = dy.widen() * scale;
                [gradient, gradient * (x.widen() - mean)]
            });
            let centre = if self.is_centred { through_mean * each } else { T::Wide::of(0.) };
            let slope = through_var * each * factor * factor * factor * share;
            let sums = self.dscale.iter_mut().zip(&mut *self.dbias);
            let elements = dx.iter_mut().zip(x).zip(dy).zip(self.scale).zip(sums);
            for ((((dx, &x), &dy), &scale), (dscale, dbias)) in elements {
                let (x, dy) = (x.widen() - mean, dy.widen());
                dx.write(T::narrow((dy * scale - centre).mul_add(factor, -(x * slope))));
                *dscale = dy.mul_add(x * factor, *dscale);
                *dbias = *dbias + dy;
            }
        }
    }
}
