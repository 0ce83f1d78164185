//! Statistics of each column, or group of columns.
//!
//! A piece is some rows. Where rows are short, several of them are taken as one long one, so that the loops
//! along it are worth starting: what belongs to columns is repeated along it.

use std::mem::MaybeUninit;

use treex_core::autograd::Element;
use treex_kernels::Result;
use treex_kernels::fill::filled;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces;

use super::{Extent, Gradients, Statistics};

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 15;

/// Elements of a piece, and the fewest rows, beside which its sums cost little.
const PIECE: usize = 1 << 13;
const ROWS: usize = 32;

/// Elements of a long row, at least.
const LONG: usize = 256;

/// How an extent is cut.
#[derive(Clone, Copy)]
struct Plan {
    extent: Extent,
    columns: usize,
    /// Rows of a piece.
    rows: usize,
    /// Pieces of one outer index.
    pieces: usize,
    /// Rows of a long row.
    repeat: usize,
    parallel: bool,
}

impl Plan {
    fn of(extent: Extent) -> Self {
        let columns = extent.columns();
        let rows = (PIECE / columns).max(ROWS).min(extent.rows);
        Self {
            extent,
            columns,
            rows,
            pieces: extent.rows.div_ceil(rows),
            repeat: LONG.div_ceil(columns).min(rows),
            parallel: extent.outer * extent.rows * columns >= PARALLEL,
        }
    }

    /// The elements of one outer index.
    fn outer<T>(self, x: &[T], index: usize) -> &[T] {
        let len = self.extent.rows * self.columns;
        &x[index * len..][..len]
    }

    /// The elements of a piece of these.
    fn piece<T>(self, x: &[T], index: usize) -> &[T] {
        let first = index * self.rows * self.columns;
        &x[first..x.len().min(first + self.rows * self.columns)]
    }

    /// A value for each column, along a long row.
    fn along<W: Copy>(self, value: impl Fn(usize) -> W) -> Vec<W> {
        (0..self.columns).map(value).collect::<Vec<_>>().repeat(self.repeat)
    }

    /// The group of a column, of one outer index.
    fn group<'w, W>(self, of: &'w [W], outer: usize) -> impl Fn(usize) -> &'w W {
        move |column| &of[outer * self.extent.groups + column / self.extent.size]
    }

    /// What `kernel` adds up for each column of each piece: `[outer, pieces, 2, columns]`. It gets the outer
    /// index, that of the piece, and two long rows of zeros.
    fn sums<W: Real>(self, kernel: impl Fn(usize, usize, [&mut [W]; 2], &mut [W]) + Sync) -> Vec<W> {
        let mut sums = vec![W::of(0.); self.extent.outer * self.pieces * 2 * self.columns];
        pieces(&mut sums, 2 * self.columns, self.parallel, |index, sums| {
            let mut long = vec![W::of(0.); 2 * self.columns * self.repeat];
            let (first, second) = long.split_at_mut(self.columns * self.repeat);
            kernel(index / self.pieces, index % self.pieces, [first, second], sums);
        });
        sums
    }

    /// A new buffer like the input, of which `kernel` writes all of a piece; it gets what `prepare` makes for
    /// the outer index, both indices, and the piece.
    fn map<T: Send, P: Sync>(
        self,
        prepare: impl Fn(usize) -> P + Sync,
        kernel: impl Fn(&P, usize, usize, &mut [MaybeUninit<T>]) + Sync,
    ) -> Result<Vec<T>> {
        let len = self.extent.rows * self.columns;
        // SAFETY: the kernel writes each piece.
        unsafe {
            filled(self.extent.outer * len, |y| {
                pieces(y, len, self.parallel, |outer, y| {
                    let prepared = prepare(outer);
                    pieces(y, self.rows * self.columns, self.parallel, |piece, y| {
                        kernel(&prepared, outer, piece, y);
                    });
                });
            })
        }
    }
}

/// Mean and variance of each group.
pub(super) fn moments<T: Element>(x: &[T], extent: Extent, use_fast_variance: bool) -> Vec<(f64, f64)> {
    let plan = Plan::of(extent);
    let sums = plan.sums(|outer, piece, [first, second], sums| {
        let x = plan.piece(plan.outer(x, outer), piece);
        dispatch(Moments { x, use_fast_variance, first, second, sums });
    });
    let mut moments = Vec::with_capacity(extent.outer * extent.groups);
    for sums in sums.chunks_exact(plan.pieces * 2 * plan.columns) {
        for group in 0..extent.groups {
            moments.push(joined(sums, plan, group, use_fast_variance));
        }
    }
    moments
}

/// The moments of the columns of a group, and of the pieces of one outer index. Sums of squares around means are
/// joined as of Chan, Golub and LeVeque, Updating Formulae, 1979.
fn joined<W: Real>(sums: &[W], plan: Plan, group: usize, use_fast_variance: bool) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0., 0., 0.);
    for (piece, sums) in sums.chunks_exact(2 * plan.columns).enumerate() {
        let rows = plan.rows.min(plan.extent.rows - piece * plan.rows) as f64;
        let (first, second) = sums.split_at(plan.columns);
        let columns = group * plan.extent.size..(group + 1) * plan.extent.size;
        for (first, second) in first[columns.clone()].iter().zip(&second[columns]) {
            let (first, second) = (first.to_f64(), second.to_f64());
            if !use_fast_variance && count > 0. {
                let distance = first / rows - sum / count;
                squares += distance * distance * count * rows / (count + rows);
            }
            count += rows;
            sum += first;
            squares += second;
        }
    }
    let mean = sum / count;
    (mean, if use_fast_variance { squares / count - mean * mean } else { squares / count })
}

/// The sum of each column, and the sum of its squares or of those around its mean.
struct Moments<'a, T: Element> {
    x: &'a [T],
    use_fast_variance: bool,
    first: &'a mut [T::Wide],
    second: &'a mut [T::Wide],
    sums: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Moments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (long, columns) = (self.first.len(), self.sums.len() / 2);
        let (sum, squares) = self.sums.split_at_mut(columns);
        if self.use_fast_variance {
            for x in self.x.chunks(long) {
                for ((&x, first), second) in x.iter().zip(&mut *self.first).zip(&mut *self.second) {
                    let x = x.widen();
                    *first = *first + x;
                    *second = x.mul_add(x, *second);
                }
            }
            collapse(self.first, sum);
        } else {
            for x in self.x.chunks(long) {
                for (&x, first) in x.iter().zip(&mut *self.first) {
                    *first = *first + x.widen();
                }
            }
            collapse(self.first, sum);
            let rows = T::Wide::of((self.x.len() / columns) as f64);
            for means in self.first.chunks_exact_mut(columns) {
                for (mean, &sum) in means.iter_mut().zip(&*sum) {
                    *mean = sum / rows;
                }
            }
            for x in self.x.chunks(long) {
                for ((&x, &mean), second) in x.iter().zip(&*self.first).zip(&mut *self.second) {
                    let x = x.widen() - mean;
                    *second = x.mul_add(x, *second);
                }
            }
        }
        collapse(self.second, squares);
    }
}

/// Adds the rows of a long row.
#[inline(always)]
fn collapse<W: Real>(long: &[W], sums: &mut [W]) {
    for row in long.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum = *sum + x;
        }
    }
}

/// `y`.
pub(super) fn apply<T: Element>(
    x: &[T],
    extent: Extent,
    scale: &[T::Wide],
    bias: &[T::Wide],
    statistics: &[Statistics<T::Wide>],
) -> Result<Vec<T>> {
    let plan = Plan::of(extent);
    let bias = plan.along(|column| bias[column]);
    let prepare = |outer| {
        let of = plan.group(statistics, outer);
        (plan.along(|column| of(column).mean), plan.along(|column| of(column).factor * scale[column]))
    };
    plan.map(prepare, |(mean, factor), outer, piece, y| {
        let x = plan.piece(plan.outer(x, outer), piece);
        dispatch(Apply { x, mean, factor, bias: &bias, y });
    })
}

/// `(x - mean) * factor + bias`.
struct Apply<'a, T: Element> {
    x: &'a [T],
    mean: &'a [T::Wide],
    factor: &'a [T::Wide],
    bias: &'a [T::Wide],
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let long = self.mean.len();
        for (x, y) in self.x.chunks(long).zip(self.y.chunks_mut(long)) {
            let columns = self.mean.iter().zip(self.factor).zip(self.bias);
            for ((&x, y), ((&mean, &factor), &bias)) in x.iter().zip(y).zip(columns) {
                y.write(T::narrow((x.widen() - mean).mul_add(factor, bias)));
            }
        }
    }
}

/// What a backward pass is to do.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// Whether the input's gradient is wanted.
    pub(super) x: bool,
    /// Whether the statistics are the input's.
    pub(super) passes_statistics: bool,
}

/// All gradients.
pub(super) fn backward<T: Element>(
    x: &[T],
    dy: &[T],
    extent: Extent,
    scale: &[T::Wide],
    statistics: &[Statistics<T::Wide>],
    parts: Parts,
) -> Result<Gradients<T>> {
    let plan = Plan::of(extent);
    let long_means = |outer| {
        let of = plan.group(statistics, outer);
        plan.along(move |column| of(column).mean)
    };
    let means: Vec<Vec<T::Wide>> = (0..extent.outer).map(long_means).collect();
    let sums = plan.sums(|outer, piece, [first, second], sums| {
        let (x, dy) = (plan.piece(plan.outer(x, outer), piece), plan.piece(plan.outer(dy, outer), piece));
        dispatch(Sums { x, dy, mean: &means[outer], first, second, sums });
    });

    let columns = plan.columns;
    let (mut dscale, mut dbias) = (vec![0.; columns], vec![0.; columns]);
    let mut terms = Vec::with_capacity(statistics.len());
    let mut totals = vec![0.; 2 * columns];
    for (outer, sums) in sums.chunks_exact(plan.pieces * 2 * columns).enumerate() {
        totals.fill(0.);
        for sums in sums.chunks_exact(2 * columns) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum.to_f64();
            }
        }
        for group in 0..extent.groups {
            let Statistics { factor, share, .. } = statistics[outer * extent.groups + group];
            let (factor, share) = (factor.to_f64(), share.to_f64());
            let (mut through_mean, mut through_var) = (0., 0.);
            for column in group * extent.size..(group + 1) * extent.size {
                dbias[column] += totals[column];
                dscale[column] += totals[columns + column] * factor;
                through_mean += scale[column].to_f64() * totals[column];
                through_var += scale[column].to_f64() * totals[columns + column];
            }
            let each = if parts.passes_statistics { 1. / extent.count() } else { 0. };
            let slope = through_var * each * factor * factor * factor * share;
            terms.push([through_mean * each, slope].map(T::Wide::of));
        }
    }
    if !parts.x {
        return Ok(Gradients { x: None, scale: dscale, bias: dbias });
    }

    let scale = plan.along(|column| scale[column]);
    let prepare = |outer| {
        let (of, terms) = (plan.group(statistics, outer), plan.group(&terms, outer));
        [
            plan.along(|column| of(column).factor),
            plan.along(|column| terms(column)[0]),
            plan.along(|column| terms(column)[1]),
        ]
    };
    let dx = plan.map(prepare, |[factor, centre, slope], outer, piece, dx| {
        let (x, dy) = (plan.piece(plan.outer(x, outer), piece), plan.piece(plan.outer(dy, outer), piece));
        dispatch(Gradient { x, dy, mean: &means[outer], scale: &scale, factor, centre, slope, dx });
    })?;
    Ok(Gradients { x: Some(dx), scale: dscale, bias: dbias })
}

/// The sum of the gradient for each column, and of its product with `x - mean`.
struct Sums<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T::Wide],
    first: &'a mut [T::Wide],
    second: &'a mut [T::Wide],
    sums: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let long = self.mean.len();
        for (x, dy) in self.x.chunks(long).zip(self.dy.chunks(long)) {
            let sums = self.first.iter_mut().zip(&mut *self.second);
            for (((&x, &dy), &mean), (first, second)) in x.iter().zip(dy).zip(self.mean).zip(sums) {
                let dy = dy.widen();
                *first = *first + dy;
                *second = dy.mul_add(x.widen() - mean, *second);
            }
        }
        let (first, second) = self.sums.split_at_mut(self.sums.len() / 2);
        collapse(self.first, first);
        collapse(self.second, second);
    }
}

/// `(dy * scale - centre) * factor - (x - mean) * slope`. The difference comes first: of a single row it is exact.
struct Gradient<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T::Wide],
    scale: &'a [T::Wide],
    factor: &'a [T::Wide],
    centre: &'a [T::Wide],
    slope: &'a [T::Wide],
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let long = self.mean.len();
        for ((x, dy), dx) in self.x.chunks(long).zip(self.dy.chunks(long)).zip(self.dx.chunks_mut(long)) {
            let columns = self.mean.iter().zip(self.scale).zip(self.factor).zip(self.centre).zip(self.slope);
            let elements = x.iter().zip(dy).zip(dx).zip(columns);
            for (((&x, &dy), dx), ((((&mean, &scale), &factor), &centre), &slope)) in elements {
                let through_statistics = (x.widen() - mean) * slope;
                dx.write(T::narrow((dy.widen() * scale - centre).mul_add(factor, -through_statistics)));
            }
        }
    }
}
