//! Layer and RMS norm: each row has statistics of its own.
//!
//! A thread normalizes whole rows. Backward, the sums for scale and bias are accumulated for each piece of rows, and
//! the pieces are added in order, so that a result does not depend on the number of threads.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use super::{Extent, Gradients, Statistics, fast_moments, mean};
use crate::error::{Error, Result};
use crate::fill::filled;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::parallel::pieces2;
use crate::reduce::{sums_f64, sums3};

/// The moments that rows are normalized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// Mean and variance, as in a layer norm.
    Centered {
        /// Whether the variance is `max(mean(x²) - mean(x)², 0)`, otherwise `mean((x - mean(x))²)`.
        use_fast_variance: bool,
    },
    /// `mean(x²)` in place of the variance and 0 in place of the mean, as in an RMS norm.
    Uncentered,
}

/// The output, and the statistics of each row, which the backward pass needs.
pub type Normalized<T> = (Vec<T>, Vec<Statistics<<T as Float>::Wide>>);

/// The kernels for devices, of [rows](crate::dialect::ROWS) behind [`STATISTICS`](super::STATISTICS), with `IS_CENTERED`, `IS_FAST`, `HAS_SCALE` and
/// `HAS_BIAS` defined.
pub const DIALECT: &str = include_str!("layer_norm.h");

entry_points! {
    /// Layer and RMS norm of rows, whose length is that of `scale`.
    pub trait LayerNorm: Float for [f32, f64, bf16, f16] {
        /// `(x - mean) / sqrt(var + epsilon) * scale + bias` of each row.
        ///
        /// # Errors
        /// If `x` is not at least one row, `bias` has another length than `scale`, or memory cannot be allocated.
        fn layer_norm(
            x: &[Self],
            scale: &[Self::Wide],
            bias: &[Self::Wide],
            moments: Moments,
            epsilon: f64,
        ) -> Result<Normalized<Self>> = layer_norm;

        /// The gradients of [`layer_norm`](Self::layer_norm) from that of its output. The input's is always computed.
        ///
        /// # Errors
        /// If `x` and `dy` are not one row for each of `statistics`, or memory cannot be allocated.
        fn layer_norm_backward(
            x: &[Self],
            dy: &[Self],
            scale: &[Self::Wide],
            statistics: &[Statistics<Self::Wide>],
            moments: Moments,
        ) -> Result<Gradients<Self>> = layer_norm_backward;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 15;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// Most pieces that have sums over rows of their own, so that these cost little beside the rows.
const MAX_SUMS: usize = 64;

/// The extent of `len` elements in rows of `columns`.
fn extent(len: usize, columns: usize) -> Result<Extent> {
    let rows = len.checked_div(columns).ok_or_else(|| {
        Error::shape("rows of no elements cannot be normalized", "at least one column", "an empty scale")
    })?;
    Ok(Extent { outer: rows, rows: 1, groups: 1, size: columns })
}

fn layer_norm<T: Float>(
    x: &[T],
    scale: &[T::Wide],
    bias: &[T::Wide],
    moments: Moments,
    epsilon: f64,
) -> Result<Normalized<T>> {
    let columns = scale.len();
    let extent = extent(x.len(), columns)?;
    extent.check(&[x.len()], &[bias.len()], None)?;
    let piece_rows = (PIECE / columns).max(1);
    let mut statistics = vec![Statistics::of([0., 0.], 1.); extent.outer];
    // SAFETY: the length is a multiple of the row's, as checked above, and the kernel writes each row of each piece.
    let y = unsafe {
        filled(x.len(), |y| {
            let (y, statistics) = ((y, piece_rows * columns), (statistics.as_mut_slice(), piece_rows));
            pieces2(y, statistics, x.len() >= PARALLEL, |index, y, statistics| {
                let x = &x[index * piece_rows * columns..][..y.len()];
                dispatch(Forward { x, scale, bias, moments, epsilon, y, statistics });
            });
        })?
    };
    Ok((y, statistics))
}

struct Forward<'a, T: Float> {
    x: &'a [T],
    scale: &'a [T::Wide],
    bias: &'a [T::Wide],
    moments: Moments,
    epsilon: f64,
    y: &'a mut [MaybeUninit<T>],
    statistics: &'a mut [Statistics<T::Wide>],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.scale.len();
        let rows = self.x.chunks_exact(columns).zip(self.y.chunks_exact_mut(columns));
        for ((x, y), row_statistics) in rows.zip(self.statistics) {
            let statistics = Statistics::of(mean_and_variance(x, self.moments), self.epsilon);
            *row_statistics = statistics;
            let Statistics { mean, inv_std, .. } = statistics;
            for (((y, &x), &scale), &bias) in y.iter_mut().zip(x).zip(self.scale).zip(self.bias) {
                y.write(T::narrow((x.widen() - mean).mul_add(inv_std * scale, bias)));
            }
        }
    }
}

/// Mean and variance of a row.
#[inline(always)]
fn mean_and_variance<T: Float>(x: &[T], moments: Moments) -> [f64; 2] {
    let count = x.len() as f64;
    let use_fast_variance = match moments {
        Moments::Centered { use_fast_variance } => use_fast_variance,
        Moments::Uncentered => {
            let [squares] = sums_f64(x, |x| [x.widen() * x.widen()]);
            return [0., mean::<T::Wide>(squares, count).to_f64()];
        }
    };
    if use_fast_variance {
        fast_moments::<T::Wide>(sums_f64(x, |x| [x.widen(), x.widen() * x.widen()]), count)
    } else {
        let [sum] = sums_f64(x, |x| [x.widen()]);
        let center = mean::<T::Wide>(sum, count);
        let [squares] = sums_f64(x, |x| [(x.widen() - center) * (x.widen() - center)]);
        [center.to_f64(), mean::<T::Wide>(squares, count).to_f64()]
    }
}

fn layer_norm_backward<T: Float>(
    x: &[T],
    dy: &[T],
    scale: &[T::Wide],
    statistics: &[Statistics<T::Wide>],
    moments: Moments,
) -> Result<Gradients<T>> {
    let (columns, rows) = (scale.len(), statistics.len());
    extent(x.len(), columns)?.check(&[x.len(), dy.len()], &[], Some(rows))?;
    let is_centered = matches!(moments, Moments::Centered { .. });
    let piece_rows = (PIECE / columns).max(1).max(rows.div_ceil(MAX_SUMS));
    let mut sums = vec![T::Wide::of(0.); rows.div_ceil(piece_rows) * 2 * columns];
    // SAFETY: the length is a multiple of the row's, as checked above, and the kernel writes each row of each piece.
    let dx = unsafe {
        filled(x.len(), |dx| {
            let (dx, sums) = ((dx, piece_rows * columns), (sums.as_mut_slice(), 2 * columns));
            pieces2(dx, sums, x.len() >= PARALLEL, |index, dx, sums| {
                let range = index * piece_rows * columns..index * piece_rows * columns + dx.len();
                let statistics = &statistics[index * piece_rows..];
                let (dscale, dbias) = sums.split_at_mut(columns);
                let (x, dy) = (&x[range.clone()], &dy[range]);
                dispatch(Backward { x, dy, scale, statistics, is_centered, dx, dscale, dbias });
            });
        })?
    };
    let mut totals = vec![0.; 2 * columns];
    for sums in sums.chunks_exact(2 * columns) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += sum.to_f64();
        }
    }
    let bias = totals.split_off(columns);
    Ok(Gradients { x: Some(dx), scale: totals, bias })
}

struct Backward<'a, T: Float> {
    x: &'a [T],
    dy: &'a [T],
    scale: &'a [T::Wide],
    statistics: &'a [Statistics<T::Wide>],
    is_centered: bool,
    dx: &'a mut [MaybeUninit<T>],
    dscale: &'a mut [T::Wide],
    dbias: &'a mut [T::Wide],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.scale.len();
        let each = T::Wide::of(1. / columns as f64);
        let rows = self.x.chunks_exact(columns).zip(self.dy.chunks_exact(columns));
        for (((x, dy), dx), statistics) in rows.zip(self.dx.chunks_exact_mut(columns)).zip(self.statistics) {
            let &Statistics { mean, inv_std, clip_derivative } = statistics;
            let [sum, sum_deviation] = sums3(x, dy, self.scale, |x, dy, scale| {
                let gradient = dy.widen() * scale;
                [gradient, gradient * (x.widen() - mean)]
            });
            let center = if self.is_centered { sum * each } else { T::Wide::of(0.) };
            let slope = sum_deviation * each * inv_std * inv_std * inv_std * clip_derivative;
            let sums = self.dscale.iter_mut().zip(&mut *self.dbias);
            let elements = dx.iter_mut().zip(x).zip(dy).zip(self.scale).zip(sums);
            for ((((dx, &x), &dy), &scale), (dscale, dbias)) in elements {
                let (x, dy) = (x.widen() - mean, dy.widen());
                dx.write(T::narrow((dy * scale - center).mul_add(inv_std, -(x * slope))));
                *dscale = dy.mul_add(x * inv_std, *dscale);
                *dbias = *dbias + dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Reference, assert_close, numbers};
    use super::*;

    const ALL: [Moments; 3] = [
        Moments::Centered { use_fast_variance: true },
        Moments::Centered { use_fast_variance: false },
        Moments::Uncentered,
    ];

    /// In shapes around those of lanes and pieces, and above that from which threads share the work.
    #[test]
    fn rows_equal_the_formula() -> Result<()> {
        for (rows, columns) in [(1, 2), (3, 5), (2, 65), (700, 33), (3, 20_000)] {
            let [x, dy] = [1, 2].map(|seed| numbers(seed, rows * columns));
            let [scale, bias] = [3, 4].map(|seed| numbers(seed, columns));
            let extent = Extent { outer: rows, rows: 1, groups: 1, size: columns };
            for moments in ALL {
                let (y, statistics) = f64::layer_norm(&x, &scale, &bias, moments, 1e-3)?;
                let found = f64::layer_norm_backward(&x, &dy, &scale, &statistics, moments)?;
                let reference = match moments {
                    Moments::Centered { .. } => Reference::of_input(&x, extent),
                    Moments::Uncentered => Reference::uncentered(&x, extent),
                };
                reference.check(extent, [&x, &dy, &scale, &bias], 1e-3, &y, &found);
            }
        }
        Ok(())
    }

    /// Half types are computed in `f32` and rounded once.
    #[test]
    fn element_types() -> Result<()> {
        fn check<T: LayerNorm<Wide = f32>>(tolerance: f64) -> Result<()> {
            let x: Vec<T> = numbers(1, 6 * 50).into_iter().map(|x| T::narrow(x as f32)).collect();
            let wide: Vec<f64> = x.iter().map(|x| x.widen().into()).collect();
            for moments in ALL {
                let (y, statistics) = T::layer_norm(&x, &[1.5; 50], &[0.5; 50], moments, 1e-3)?;
                let (expected, wide_statistics) =
                    f64::layer_norm(&wide, &[1.5; 50], &[0.5; 50], moments, 1e-3)?;
                assert_close(&y.iter().map(|y| y.widen().into()).collect::<Vec<_>>(), &expected, tolerance);
                let found = T::layer_norm_backward(&x, &x, &[1.5; 50], &statistics, moments)?;
                let expected = f64::layer_norm_backward(&wide, &wide, &[1.5; 50], &wide_statistics, moments)?;
                let dx = found.x.unwrap_or_default().iter().map(|dx| dx.widen().into()).collect::<Vec<_>>();
                assert_close(&dx, &expected.x.unwrap_or_default(), tolerance);
                assert_close(&found.scale, &expected.scale, 1e-5);
                assert_close(&found.bias, &expected.bias, 1e-5);
            }
            Ok(())
        }
        check::<f32>(1e-5)?;
        check::<f16>(2e-3)?;
        check::<bf16>(1e-2)
    }

    /// By Flax 0.12.8: `LayerNorm` of one row, with `x` as the row and 1, 2, .. as the cotangent. Equal elements have the
    /// variance 0, so that the gradient has the factor `1 / sqrt(1e-6)`; what overflows is NaN, as is NaN.
    #[test]
    fn constant_overflowing_and_nan_rows() -> Result<()> {
        let nan = f32::NAN;
        type Row<'r> = (&'r [f32], bool, [f32; 3], [f32; 3]);
        let rows: [Row<'_>; 11] = [
            (&[0.1; 7], true, [0.; 3], [-3000., -2000., -1000.]),
            (&[0.1; 7], false, [0.; 3], [-3000., -2000., -1000.]),
            (&[10000.5; 6], true, [0.; 3], [-2500., -1500., -500.]),
            (&[16_777_216.; 5], true, [0.; 3], [-2000., -1000., 0.]),
            (&[1e20; 7], true, [nan; 3], [nan; 3]),
            (&[1e20; 7], false, [0.; 3], [-3000., -2000., -1000.]),
            (&[1e20, -1e20, 1e20, 2e20], true, [nan; 3], [nan; 3]),
            (&[1e20, -1e20, 1e20, 2e20], false, [0.; 3], [0.; 3]),
            (&[3e38; 4], false, [nan; 3], [nan; 3]),
            (&[1., nan, 2.], true, [nan; 3], [nan; 3]),
            (&[1., f32::INFINITY, 2.], false, [nan; 3], [nan; 3]),
        ];
        let same = |found: &[f32], wanted: [f32; 3]| {
            found.iter().zip(wanted).all(|(x, y)| (x - y).abs() <= 1e-3 || x.is_nan() && y.is_nan())
        };
        for (x, use_fast_variance, y, dx) in rows {
            let moments = Moments::Centered { use_fast_variance };
            let (ones, zeros) = (vec![1f32; x.len()], vec![0f32; x.len()]);
            let dy: Vec<f32> = (1..=x.len()).map(|at| at as f32).collect();
            let (found, statistics) = f32::layer_norm(x, &ones, &zeros, moments, 1e-6)?;
            let gradients = f32::layer_norm_backward(x, &dy, &ones, &statistics, moments)?;
            let of_x = gradients.x.unwrap_or_default();
            assert!(same(&found, y) && same(&of_x, dx), "{x:?} {use_fast_variance}: {found:?} {of_x:?}");
        }
        // `RMSNorm` of the same, whose sum of squares overflows.
        let (y, _) = f32::layer_norm(&[1e20; 3], &[1.; 3], &[0.; 3], Moments::Uncentered, 1e-6)?;
        assert_eq!(y, [0.; 3]);
        let inf = [1., f32::INFINITY, 2.];
        let (y, _) = f32::layer_norm(&inf, &[1.; 3], &[0.; 3], Moments::Uncentered, 1e-6)?;
        assert!(y[0] == 0. && y[1].is_nan() && y[2] == 0.);
        Ok(())
    }

    #[test]
    fn wrong_sizes() -> Result<()> {
        let moments = Moments::Uncentered;
        for (x, scale, bias) in [(0, 2, 2), (3, 2, 2), (4, 2, 1), (4, 0, 0)] {
            let (x, scale, bias) = (vec![1f32; x], vec![1.; scale], vec![0.; bias]);
            assert!(f32::layer_norm(&x, &scale, &bias, moments, 1e-3).is_err());
        }
        let (_, statistics) = f32::layer_norm(&[1.; 4], &[1.; 2], &[0.; 2], moments, 1e-3)?;
        for (x, dy, scale) in [(4, 3, 2), (6, 6, 2), (4, 4, 1), (0, 0, 0)] {
            let (x, dy, scale) = (vec![1f32; x], vec![1.; dy], vec![1.; scale]);
            assert!(f32::layer_norm_backward(&x, &dy, &scale, &statistics, moments).is_err());
        }
        Ok(())
    }
}
