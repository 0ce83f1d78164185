//! Normalization: `y = (x - mean) * inv_std * scale + bias`, with `inv_std = 1 / sqrt(var + epsilon)`.
//!
//! The input is row-major `[outer, rows, groups, size]`, with one mean and variance for each of `[outer, groups]`;
//! scale and bias are `[groups, size]`. With one row and one group these are the layer and RMS norm
//! ([`layer_norm`]), otherwise the batch, group and instance norm ([`group_norm`]).
//!
//! The input is read twice forward and twice backward, the second time from the cache where a row, or a piece of
//! rows, fits into it. Sums are accumulated in the type to compute in over at most some thousand elements, and
//! from there on in `f64`. Half types are computed in `f32` and rounded once.

pub mod group_norm;
pub mod layer_norm;

use crate::error::{Error, Result};
use crate::math::Real;

/// What device kernels save of a variance, with `epsilon` as a parameter: behind [`ROWS`](crate::dialect::ROWS).
pub const STATISTICS: &str = include_str!("statistics.h");

/// The sizes of an input, `[outer, rows, groups, size]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Indices whose statistics are their own, such as the examples of a batch.
    pub outer: usize,
    /// Rows that share statistics, such as the positions of an image.
    pub rows: usize,
    /// Groups of columns.
    pub groups: usize,
    /// Columns of a group, which share statistics.
    pub size: usize,
}

impl Extent {
    /// The length of a row, of scale, and of bias; `usize::MAX` where that overflows, which no kernel accepts.
    #[must_use]
    pub fn columns(self) -> usize {
        self.groups.saturating_mul(self.size)
    }

    /// Whether each row has statistics of its own.
    #[must_use]
    pub fn is_rows(self) -> bool {
        self.rows == 1 && self.groups == 1
    }

    /// How many elements share statistics.
    fn count(self) -> f64 {
        (self.rows * self.size) as f64
    }

    /// Checks the number of elements, of columns, and of statistics, where they are given.
    fn check(self, elements: &[usize], columns: &[usize], statistics: Option<usize>) -> Result<()> {
        let Self { outer, rows, groups, size } = self;
        let len = [rows, groups, size].iter().try_fold(outer, |len, &size| len.checked_mul(size));
        let fits = len.is_some_and(|len| len > 0 && elements.iter().all(|&found| found == len))
            && columns.iter().all(|&found| found == groups * size)
            && statistics.is_none_or(|found| found == outer * groups);
        if fits {
            return Ok(());
        }
        let expected = format!(
            "{outer} * {rows} * {groups} * {size} elements, at least one, of {groups} * {size} columns, and \
             {outer} * {groups} statistics"
        );
        let found = format!("{elements:?} elements, {columns:?} columns, {statistics:?} statistics");
        Err(Error::shape("the sizes of a normalization do not match", expected, found))
    }
}

/// A mean in the type `W`, infinite where the sum in this type is. Of equal elements it is exact.
#[inline(always)]
fn mean<W: Real>(sum: f64, count: f64) -> W {
    let (sum, mean) = (W::of(sum), W::of(sum / count));
    if sum.to_f64().is_finite() { mean } else { sum }
}

/// The mean, and `mean(x²) - mean(x)²`, from the sums of `x` and of `x²` in the type `W`.
///
/// The difference is computed in that type, as in Flax: the variance of equal elements is 0, since both terms are rounded
/// alike, and one whose terms overflow is NaN.
#[inline(always)]
fn fast_moments<W: Real>([sum, squares]: [f64; 2], count: f64) -> [f64; 2] {
    let (center, square) = (mean::<W>(sum, count), mean::<W>(squares, count));
    [center.to_f64(), (square - center * center).to_f64()]
}

/// The statistics of one group, in the form in which they are applied.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<W> {
    mean: W,
    /// `1 / sqrt(max(var, 0) + epsilon)`.
    inv_std: W,
    /// The derivative of `max(var, 0)`: 1, at 0 it is 1/2, and below 0.
    clip_derivative: W,
}

impl<W: Real> Statistics<W> {
    #[inline(always)]
    fn of([mean, var]: [f64; 2], epsilon: f64) -> Self {
        let derivative = if var > 0. { 1. } else { 0.5 };
        let (derivative, var) = if var < 0. { (0., 0.) } else { (derivative, var) };
        Self {
            mean: W::of(mean),
            inv_std: W::of(1. / (var + epsilon).sqrt()),
            clip_derivative: W::of(derivative),
        }
    }
}

/// The gradients of a normalization.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// That of the input, where it was asked for.
    pub x: Option<Vec<T>>,
    /// That of scale, one number a column.
    pub scale: Vec<f64>,
    /// That of bias, one number a column.
    pub bias: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that repeat late, between -1 and 1.
    pub(super) fn numbers(seed: usize, len: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 10_007) as f64 / 5000. - 1.).collect()
    }

    /// Asserts differences below `tolerance` of the largest element, or of 1.
    pub(super) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
        let largest = expected.iter().fold(1f64, |largest, x| largest.max(x.abs()));
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= tolerance * largest, "{index}: {found}, not {expected}");
        }
    }

    /// The formula, one element after another.
    pub(super) struct Reference {
        pub(super) means: Vec<f64>,
        pub(super) vars: Vec<f64>,
        /// Whether mean and variance are functions of the input.
        differentiates: [bool; 2],
    }

    /// The group and the column of each element.
    fn positions(extent: Extent) -> impl Iterator<Item = (usize, usize)> {
        let columns = extent.columns();
        (0..extent.outer * extent.rows * columns).map(move |index| {
            let outer = index / (extent.rows * columns);
            (outer * extent.groups + index % columns / extent.size, index % columns)
        })
    }

    impl Reference {
        /// The mean of `f` of index, group and column over each group.
        fn means(extent: Extent, f: impl Fn(usize, usize, usize) -> f64) -> Vec<f64> {
            let mut means = vec![0.; extent.outer * extent.groups];
            for (index, (group, column)) in positions(extent).enumerate() {
                means[group] += f(index, group, column) / extent.count();
            }
            means
        }

        pub(super) fn of_input(x: &[f64], extent: Extent) -> Self {
            let means = Self::means(extent, |index, _, _| x[index]);
            let vars = Self::means(extent, |index, group, _| (x[index] - means[group]).powi(2));
            Self { means, vars, differentiates: [true; 2] }
        }

        pub(super) fn uncentered(x: &[f64], extent: Extent) -> Self {
            let vars = Self::means(extent, |index, _, _| x[index] * x[index]);
            Self { means: vec![0.; vars.len()], vars, differentiates: [false, true] }
        }

        pub(super) fn constant(means: Vec<f64>, vars: Vec<f64>) -> Self {
            Self { means, vars, differentiates: [false; 2] }
        }

        /// Compares an output and its gradients with the formula.
        pub(super) fn check(
            &self,
            extent: Extent,
            [x, dy, scale, bias]: [&[f64]; 4],
            epsilon: f64,
            y: &[f64],
            found: &Gradients<f64>,
        ) {
            let inv_std: Vec<f64> = self.vars.iter().map(|var| 1. / (var + epsilon).sqrt()).collect();
            let normalized: Vec<f64> = positions(extent)
                .zip(x)
                .map(|((group, _), x)| (x - self.means[group]) * inv_std[group])
                .collect();
            let [of_mean, of_var] =
                self.differentiates.map(|differentiates| f64::from(u8::from(differentiates)));
            let dmean = Self::means(extent, |index, _, column| of_mean * dy[index] * scale[column]);
            let dvar = Self::means(extent, |index, _, column| {
                of_var * dy[index] * scale[column] * normalized[index]
            });
            let (mut expected_y, mut dx) = (Vec::new(), Vec::new());
            let (mut dscale, mut dbias) = (vec![0.; extent.columns()], vec![0.; extent.columns()]);
            for (index, (group, column)) in positions(extent).enumerate() {
                expected_y.push(normalized[index] * scale[column] + bias[column]);
                let through = dmean[group] + normalized[index] * dvar[group];
                dx.push((dy[index] * scale[column] - through) * inv_std[group]);
                dscale[column] += dy[index] * normalized[index];
                dbias[column] += dy[index];
            }
            assert_close(y, &expected_y, 1e-11);
            assert_close(found.x.as_deref().unwrap_or_default(), &dx, 1e-11);
            assert_close(&found.scale, &dscale, 1e-11);
            assert_close(&found.bias, &dbias, 1e-11);
        }
    }
}
