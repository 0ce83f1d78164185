//! Batch, group and instance norm: the statistics of each group of columns.
//!
//! A batch norm is `[1, rows, columns, 1]`, a group norm `[batch, positions, groups, size]`, an instance norm
//! `[batch, positions, columns, 1]`.
//!
//! A thread takes a piece of rows. Short rows are processed several at a time as one long row, so that the loops
//! along it are long enough to vectorize; the values of columns are repeated along it. The sums of pieces are added
//! in order, so that a result does not depend on the number of threads.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use super::{Extent, Gradients, Statistics, fast_moments, mean};
use crate::error::Result;
use crate::fill::filled;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::parallel::pieces;

/// The output, and the statistics of each group, which the backward pass needs.
pub type Normalized<T> = (Vec<T>, Vec<Statistics<<T as Float>::Wide>>);

/// What a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackwardOptions {
    /// Whether the input's gradient is computed.
    pub needs_dx: bool,
    /// Whether the moments are functions of the input, otherwise they are constants.
    pub differentiates_moments: bool,
}

/// The kernels for devices that pass over all elements, of [columns](crate::dialect::COLUMNS), with `IS_OF_ROWS`, `IS_CENTERED`,
/// `HAS_SCALE`, `HAS_BIAS` and `HAS_TERMS` defined.
pub const DIALECT: &str = include_str!("group_norm.h");

/// The kernels for devices between these passes, of [rows](crate::dialect::ROWS) behind [`STATISTICS`](super::STATISTICS), with `IS_CENTERED` and
/// `HAS_SCALE` defined.
pub const TOTALS: &str = include_str!("group_totals.h");

entry_points! {
    /// Batch, group and instance norm.
    pub trait GroupNorm: Float for [f32, f64, bf16, f16] {
        /// Mean and variance of each group, `[outer, groups]`. The variance is `mean(x²) - mean(x)²` if
        /// `use_fast_variance`, which may round to less than 0, otherwise `mean((x - mean(x))²)`.
        ///
        /// # Errors
        /// If `x` is empty or not as large as `extent`.
        fn group_moments(x: &[Self], extent: Extent, use_fast_variance: bool) -> Result<Vec<(f64, f64)>> =
            group_moments;

        /// `(x - mean) / sqrt(max(var, 0) + epsilon) * scale + bias`, from mean and variance of each group,
        /// `[outer, groups]`.
        ///
        /// # Errors
        /// If `x` is empty, the sizes are not those of `extent`, or memory cannot be allocated.
        fn group_norm(
            x: &[Self],
            extent: Extent,
            scale: &[Self::Wide],
            bias: &[Self::Wide],
            moments: &[(f64, f64)],
            epsilon: f64,
        ) -> Result<Normalized<Self>> = group_norm;

        /// The gradients of [`group_norm`](Self::group_norm), from that of its output.
        ///
        /// # Errors
        /// If `x` is empty, the sizes are not those of `extent`, or memory cannot be allocated.
        fn group_norm_backward(
            x: &[Self],
            dy: &[Self],
            extent: Extent,
            scale: &[Self::Wide],
            statistics: &[Statistics<Self::Wide>],
            options: BackwardOptions,
        ) -> Result<Gradients<Self>> = group_norm_backward;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 15;

/// Elements of a piece.
const PIECE: usize = 1 << 13;

/// Fewest rows of a piece, so that its sums cost little beside them.
const MIN_ROWS: usize = 32;

/// Fewest elements of a long row.
const LONG: usize = 256;

/// How an extent is divided into pieces.
#[derive(Clone, Copy)]
struct Plan {
    extent: Extent,
    columns: usize,
    /// Rows of a piece.
    rows: usize,
    /// Pieces of one outer index.
    pieces: usize,
    /// How many rows one long row is made of.
    repeat: usize,
    parallel: bool,
}

impl Plan {
    fn of(extent: Extent) -> Self {
        let columns = extent.columns();
        let rows = (PIECE / columns).max(MIN_ROWS).min(extent.rows);
        Self {
            extent,
            columns,
            rows,
            pieces: extent.rows.div_ceil(rows),
            repeat: LONG.div_ceil(columns).min(rows),
            parallel: extent.outer * extent.rows * columns >= PARALLEL,
        }
    }

    /// The elements at an outer index.
    fn outer<T>(self, x: &[T], index: usize) -> &[T] {
        let len = self.extent.rows * self.columns;
        &x[index * len..][..len]
    }

    /// The piece `index` of these.
    fn piece<T>(self, x: &[T], index: usize) -> &[T] {
        let first = index * self.rows * self.columns;
        &x[first..x.len().min(first + self.rows * self.columns)]
    }

    /// The value of each column, repeated along a long row.
    fn long_row<W: Copy>(self, value: impl Fn(usize) -> W) -> Vec<W> {
        (0..self.columns).map(value).collect::<Vec<_>>().repeat(self.repeat)
    }

    /// For each column, the element of `values`, `[outer, groups]`, that belongs to its group.
    fn group<'w, W>(self, values: &'w [W], outer: usize) -> impl Fn(usize) -> &'w W {
        move |column| &values[outer * self.extent.groups + column / self.extent.size]
    }

    /// The two sums that `kernel` computes for each column of each piece: `[outer, pieces, 2, columns]`. Its
    /// arguments are the outer index, that of the piece, two long rows of zeros, and the sums.
    fn sums<W: Real>(self, kernel: impl Fn(usize, usize, [&mut [W]; 2], &mut [f64]) + Sync) -> Vec<f64> {
        let mut sums = vec![0.; self.extent.outer * self.pieces * 2 * self.columns];
        pieces(&mut sums, 2 * self.columns, self.parallel, |index, sums| {
            let mut long = vec![W::of(0.); 2 * self.columns * self.repeat];
            let (first, second) = long.split_at_mut(self.columns * self.repeat);
            kernel(index / self.pieces, index % self.pieces, [first, second], sums);
        });
        sums
    }

    /// A new buffer of the input's size, written piece by piece by
    /// `kernel(prepare(outer), outer, index, piece)`.
    ///
    /// # Safety
    /// `kernel` writes each element of its piece.
    unsafe fn map<T: Send, P: Sync>(
        self,
        prepare: impl Fn(usize) -> P + Sync,
        kernel: impl Fn(&P, usize, usize, &mut [MaybeUninit<T>]) + Sync,
    ) -> Result<Vec<T>> {
        let len = self.extent.rows * self.columns;
        // SAFETY: the kernel writes each piece, as the caller ensures.
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

fn group_moments<T: Float>(x: &[T], extent: Extent, use_fast_variance: bool) -> Result<Vec<(f64, f64)>> {
    extent.check(&[x.len()], &[], None)?;
    let plan = Plan::of(extent);
    let sums = plan.sums(|outer, piece, [first, second], sums| {
        let x = plan.piece(plan.outer(x, outer), piece);
        dispatch(ColumnMoments { x, use_fast_variance, first, second, sums });
    });
    let mut moments = Vec::with_capacity(extent.outer * extent.groups);
    for sums in sums.chunks_exact(plan.pieces * 2 * plan.columns) {
        for group in 0..extent.groups {
            moments.push(merged::<T::Wide>(sums, plan, group, use_fast_variance));
        }
    }
    Ok(moments)
}

/// The moments of a group, from the sums of its columns and of the pieces of one outer index. Sums of squared
/// deviations are merged by Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
/// Variances, 1979.
fn merged<W: Real>(sums: &[f64], plan: Plan, group: usize, use_fast_variance: bool) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0., 0., 0.);
    for (piece, sums) in sums.chunks_exact(2 * plan.columns).enumerate() {
        let rows = plan.rows.min(plan.extent.rows - piece * plan.rows) as f64;
        let (first, second) = sums.split_at(plan.columns);
        let columns = group * plan.extent.size..(group + 1) * plan.extent.size;
        for (&first, &second) in first[columns.clone()].iter().zip(&second[columns]) {
            if !use_fast_variance && count > 0. {
                let distance = first / rows - sum / count;
                squares += distance * distance * count * rows / (count + rows);
            }
            count += rows;
            sum += first;
            squares += second;
        }
    }
    let [mean, var] = if use_fast_variance {
        fast_moments::<W>([sum, squares], count)
    } else {
        [mean::<W>(sum, count), mean(squares, count)].map(Real::to_f64)
    };
    (mean, var)
}

/// The sum of each column, and the sum of its squares or of its squared deviations from its mean.
struct ColumnMoments<'a, T: Float> {
    x: &'a [T],
    use_fast_variance: bool,
    first: &'a mut [T::Wide],
    second: &'a mut [T::Wide],
    sums: &'a mut [f64],
}

impl<T: Float> Kernel for ColumnMoments<'_, T> {
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
            let rows = (self.x.len() / columns) as f64;
            for means in self.first.chunks_exact_mut(columns) {
                for (mean, &sum) in means.iter_mut().zip(&*sum) {
                    *mean = T::Wide::of(sum / rows);
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

/// Adds the rows of a long row to `sums`.
#[inline(always)]
fn collapse<W: Real>(long: &[W], sums: &mut [f64]) {
    for row in long.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x.to_f64();
        }
    }
}

fn group_norm<T: Float>(
    x: &[T],
    extent: Extent,
    scale: &[T::Wide],
    bias: &[T::Wide],
    moments: &[(f64, f64)],
    epsilon: f64,
) -> Result<Normalized<T>> {
    extent.check(&[x.len()], &[scale.len(), bias.len()], Some(moments.len()))?;
    let statistics: Vec<_> =
        moments.iter().map(|&(mean, var)| Statistics::of([mean, var], epsilon)).collect();
    let plan = Plan::of(extent);
    let bias = plan.long_row(|column| bias[column]);
    let prepare = |outer| {
        let of = plan.group(&statistics, outer);
        (plan.long_row(|column| of(column).mean), plan.long_row(|column| of(column).inv_std * scale[column]))
    };
    // SAFETY: the kernel writes each element of the piece: `x` has as many, as checked above, and so have the long
    // rows together.
    let y = unsafe {
        plan.map(prepare, |(mean, factor), outer, piece, y| {
            let x = plan.piece(plan.outer(x, outer), piece);
            dispatch(Apply { x, mean, factor, bias: &bias, y });
        })?
    };
    Ok((y, statistics))
}

/// `(x - mean) * factor + bias`.
struct Apply<'a, T: Float> {
    x: &'a [T],
    mean: &'a [T::Wide],
    factor: &'a [T::Wide],
    bias: &'a [T::Wide],
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for Apply<'_, T> {
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

fn group_norm_backward<T: Float>(
    x: &[T],
    dy: &[T],
    extent: Extent,
    scale: &[T::Wide],
    statistics: &[Statistics<T::Wide>],
    options: BackwardOptions,
) -> Result<Gradients<T>> {
    extent.check(&[x.len(), dy.len()], &[scale.len()], Some(statistics.len()))?;
    let plan = Plan::of(extent);
    let long_means = |outer| {
        let of = plan.group(statistics, outer);
        plan.long_row(move |column| of(column).mean)
    };
    let means: Vec<Vec<T::Wide>> = (0..extent.outer).map(long_means).collect();
    let sums = plan.sums(|outer, piece, [first, second], sums| {
        let (x, dy) = (plan.piece(plan.outer(x, outer), piece), plan.piece(plan.outer(dy, outer), piece));
        dispatch(ColumnSums { x, dy, mean: &means[outer], first, second, sums });
    });

    let columns = plan.columns;
    let (mut dscale, mut dbias) = (vec![0.; columns], vec![0.; columns]);
    let mut terms = Vec::with_capacity(statistics.len());
    let mut totals = vec![0.; 2 * columns];
    for (outer, sums) in sums.chunks_exact(plan.pieces * 2 * columns).enumerate() {
        totals.fill(0.);
        for sums in sums.chunks_exact(2 * columns) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        for group in 0..extent.groups {
            let Statistics { inv_std, clip_derivative, .. } = statistics[outer * extent.groups + group];
            let (inv_std, clip_derivative) = (inv_std.to_f64(), clip_derivative.to_f64());
            let (mut sum, mut sum_deviation) = (0., 0.);
            for column in group * extent.size..(group + 1) * extent.size {
                dbias[column] += totals[column];
                dscale[column] += totals[columns + column] * inv_std;
                sum += scale[column].to_f64() * totals[column];
                sum_deviation += scale[column].to_f64() * totals[columns + column];
            }
            let each = if options.differentiates_moments { 1. / extent.count() } else { 0. };
            let slope = sum_deviation * each * inv_std * inv_std * inv_std * clip_derivative;
            terms.push([sum * each, slope].map(T::Wide::of));
        }
    }
    if !options.needs_dx {
        return Ok(Gradients { x: None, scale: dscale, bias: dbias });
    }

    let scale = plan.long_row(|column| scale[column]);
    let prepare = |outer| {
        let (of, terms) = (plan.group(statistics, outer), plan.group(&terms, outer));
        [
            plan.long_row(|column| of(column).inv_std),
            plan.long_row(|column| terms(column)[0]),
            plan.long_row(|column| terms(column)[1]),
        ]
    };
    // SAFETY: the kernel writes each element of the piece: `x` and `dy` have as many, as checked above, and so have
    // the long rows together.
    let dx = unsafe {
        plan.map(prepare, |[inv_std, center, slope], outer, piece, dx| {
            let (x, dy) = (plan.piece(plan.outer(x, outer), piece), plan.piece(plan.outer(dy, outer), piece));
            dispatch(Gradient { x, dy, mean: &means[outer], scale: &scale, inv_std, center, slope, dx });
        })?
    };
    Ok(Gradients { x: Some(dx), scale: dscale, bias: dbias })
}

/// The sum of the gradient `dy` of each column, and of its product with `x - mean`.
struct ColumnSums<'a, T: Float> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T::Wide],
    first: &'a mut [T::Wide],
    second: &'a mut [T::Wide],
    sums: &'a mut [f64],
}

impl<T: Float> Kernel for ColumnSums<'_, T> {
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

/// `(dy * scale - center) * inv_std - (x - mean) * slope`. The difference comes first: for a single row it is exact.
struct Gradient<'a, T: Float> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T::Wide],
    scale: &'a [T::Wide],
    inv_std: &'a [T::Wide],
    center: &'a [T::Wide],
    slope: &'a [T::Wide],
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let long = self.mean.len();
        for ((x, dy), dx) in self.x.chunks(long).zip(self.dy.chunks(long)).zip(self.dx.chunks_mut(long)) {
            let columns = self.mean.iter().zip(self.scale).zip(self.inv_std).zip(self.center).zip(self.slope);
            let elements = x.iter().zip(dy).zip(dx).zip(columns);
            for (((&x, &dy), dx), ((((&mean, &scale), &inv_std), &center), &slope)) in elements {
                let through_variance = (x.widen() - mean) * slope;
                dx.write(T::narrow((dy.widen() * scale - center).mul_add(inv_std, -through_variance)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Reference, assert_close, numbers};
    use super::*;

    /// Batch, group and instance norms, with extents just below and above a piece, a long row, and the parallel
    /// threshold.
    const EXTENTS: [[usize; 4]; 8] = [
        [1, 2, 1, 1],
        [1, 41, 3, 1],
        [2, 5, 3, 2],
        [3, 1, 2, 3],
        [2, 33, 300, 1],
        [1, 9000, 5, 1],
        [4, 1, 1, 7],
        [2, 40, 3, 200],
    ];

    fn extents() -> [Extent; 8] {
        EXTENTS.map(|[outer, rows, groups, size]| Extent { outer, rows, groups, size })
    }

    #[test]
    fn groups_equal_the_formula() -> Result<()> {
        for extent in extents() {
            let len = extent.outer * extent.rows * extent.columns();
            let [x, dy] = [1, 2].map(|seed| numbers(seed, len));
            let [scale, bias] = [3, 4].map(|seed| numbers(seed, extent.columns()));
            let reference = Reference::of_input(&x, extent);
            for use_fast_variance in [true, false] {
                let moments = f64::group_moments(&x, extent, use_fast_variance)?;
                let (means, vars): (Vec<_>, Vec<_>) = moments.iter().copied().unzip();
                assert_close(&means, &reference.means, 1e-12);
                assert_close(&vars, &reference.vars, 1e-12);
                let (y, statistics) = f64::group_norm(&x, extent, &scale, &bias, &moments, 1e-3)?;
                let options = BackwardOptions { needs_dx: true, differentiates_moments: true };
                let found = f64::group_norm_backward(&x, &dy, extent, &scale, &statistics, options)?;
                reference.check(extent, [&x, &dy, &scale, &bias], 1e-3, &y, &found);

                let options = BackwardOptions { needs_dx: false, ..options };
                let others = f64::group_norm_backward(&x, &dy, extent, &scale, &statistics, options)?;
                assert!(others.x.is_none() && others.scale == found.scale && others.bias == found.bias);
            }
        }
        Ok(())
    }

    #[test]
    fn constant_moments() -> Result<()> {
        for extent in extents() {
            let len = extent.outer * extent.rows * extent.columns();
            let [x, dy] = [1, 2].map(|seed| numbers(seed, len));
            let [scale, bias] = [3, 4].map(|seed| numbers(seed, extent.columns()));
            let means = numbers(5, extent.outer * extent.groups);
            let vars: Vec<f64> = numbers(6, means.len()).into_iter().map(|var| var * var).collect();
            let moments: Vec<_> = means.iter().copied().zip(vars.iter().copied()).collect();
            let (y, statistics) = f64::group_norm(&x, extent, &scale, &bias, &moments, 1e-3)?;
            let options = BackwardOptions { needs_dx: true, differentiates_moments: false };
            let found = f64::group_norm_backward(&x, &dy, extent, &scale, &statistics, options)?;
            let reference = Reference::constant(means, vars);
            reference.check(extent, [&x, &dy, &scale, &bias], 1e-3, &y, &found);
        }
        Ok(())
    }

    /// Half types are summed in `f32`.
    #[test]
    fn moments_of_half_types() -> Result<()> {
        let extent = Extent { outer: 1, rows: 600, groups: 2, size: 1 };
        let x: Vec<bf16> = numbers(1, 1200).into_iter().map(|x| bf16::narrow(x as f32 + 3.)).collect();
        let wide: Vec<f64> = x.iter().map(|x| x.widen().into()).collect();
        for use_fast_variance in [true, false] {
            let found = bf16::group_moments(&x, extent, use_fast_variance)?;
            let expected = f64::group_moments(&wide, extent, use_fast_variance)?;
            for (found, expected) in found.iter().zip(expected) {
                assert_close(&[found.0, found.1], &[expected.0, expected.1], 1e-5);
            }
        }
        Ok(())
    }

    /// By Flax 0.12.8: mean and variance of `BatchNorm`, before they are added to the running ones.
    #[test]
    fn moments_of_constant_overflowing_and_nan_columns() -> Result<()> {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let wide = |x: f32| f64::from(x);
        let columns: [(&[f32], bool, [f64; 2]); 9] = [
            (&[10000.5; 6], true, [10000.5, 0.]),
            (&[0.1; 4], true, [wide(0.1), 0.]),
            (&[1e20; 7], true, [wide(1e20), nan]),
            (&[1e20; 7], false, [wide(1e20), 0.]),
            (&[1e20, -1e20, 1e20, 2e20], true, [wide(7.5e19), nan]),
            (&[1e20, -1e20, 1e20, 2e20], false, [wide(7.5e19), inf]),
            (&[3e38; 4], true, [inf, nan]),
            (&[1., f32::NAN, 2.], true, [nan, nan]),
            (&[1., f32::INFINITY, 2.], true, [inf, nan]),
        ];
        for (x, use_fast_variance, wanted) in columns {
            let extent = Extent { outer: 1, rows: x.len(), groups: 1, size: 1 };
            let (mean, var) = f32::group_moments(x, extent, use_fast_variance)?[0];
            let same = [mean, var].iter().zip(wanted).all(|(x, y)| *x == y || x.is_nan() && y.is_nan());
            assert!(same, "{x:?} {use_fast_variance}: {mean} {var}");
        }
        Ok(())
    }

    #[test]
    fn wrong_sizes() -> Result<()> {
        let extent = Extent { outer: 2, rows: 3, groups: 2, size: 1 };
        let moments = f32::group_moments(&[1.; 12], extent, true)?;
        assert!(f32::group_moments(&[1.; 11], extent, true).is_err());
        assert!(f32::group_moments(&[], Extent { rows: 0, ..extent }, true).is_err());
        assert!(f32::group_moments(&[], Extent { rows: usize::MAX, ..extent }, true).is_err());
        assert!(f32::group_norm(&[1.; 12], extent, &[1.; 2], &[1.; 1], &moments, 1e-3).is_err());
        assert!(f32::group_norm(&[1.; 12], extent, &[1.; 3], &[1.; 2], &moments, 1e-3).is_err());
        assert!(f32::group_norm(&[1.; 12], extent, &[1.; 2], &[1.; 2], &moments[1..], 1e-3).is_err());
        let (_, statistics) = f32::group_norm(&[1.; 12], extent, &[1.; 2], &[1.; 2], &moments, 1e-3)?;
        let options = BackwardOptions { needs_dx: true, differentiates_moments: true };
        let backward = |dy: &[f32], scale: &[f32]| {
            f32::group_norm_backward(&[1.; 12], dy, extent, scale, &statistics, options)
        };
        assert!(backward(&[1.; 11], &[1.; 2]).is_err() && backward(&[1.; 12], &[1.; 3]).is_err());
        assert!(backward(&[1.; 12], &[1.; 2]).is_ok());
        Ok(())
    }
}
