//! Padding: the values around the input where a window reaches over its edge.

use candle_core::{DType, Device, Tensor};
use treex_core::constants::constant;
use treex_core::size::check_size;
use treex_core::{Error, Result};

use crate::spatial::sizes::LARGEST;

/// Padding of the spatial dimensions, by Flax's names.
///
/// Below, `k` is the extent of the kernel, dilation included, and `n` the size of the input.
///
/// ```
/// use treex_nn::{Conv, Padding};
///
/// let valid = Conv::new(1, 8, [3, 3]).padding(Padding::Valid);
/// let one_all_around = Conv::new(1, 8, [3, 3]).padding(1);
/// let two_at_the_sides = Conv::new(1, 8, [3, 3]).padding([0, 2]);
/// let below_and_right = Conv::new(1, 8, [3, 3]).padding([(0, 1), (0, 1)]);
/// # let _ = (valid, one_all_around, two_at_the_sides, below_and_right);
/// ```
///
/// Negative numbers crop:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::max_pool;
///
/// let sequence = Tensor::ones((6, 1), DType::F32, &Device::Cpu)?;
/// assert_eq!(max_pool(&sequence, [2], 1, [(-1, -2)])?.dims(), [2, 1]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zeros, so that the output has `n / stride` elements, rounded up; an odd zero goes to the end.
    #[default]
    Same,
    /// None: only positions where the kernel fits.
    Valid,
    /// The input repeated periodically, `(k - 1) / 2` elements before and `k / 2` after.
    Circular,
    /// The input reflected without its edge, `(k - 1) / 2` elements before and `k / 2` after.
    Reflect,
    /// `k - 1` zeros before and none after, so that no output sees later inputs. One dimension only.
    Causal,
    /// This many zeros before and after, in every dimension.
    Each(isize),
    /// Zeros before and after, for each dimension.
    Explicit(Vec<(isize, isize)>),
}

impl From<isize> for Padding {
    fn from(zeros: isize) -> Self {
        Self::Each(zeros)
    }
}

impl<const N: usize> From<[(isize, isize); N]> for Padding {
    fn from(zeros: [(isize, isize); N]) -> Self {
        Self::Explicit(zeros.to_vec())
    }
}

impl<const N: usize> From<[isize; N]> for Padding {
    fn from(zeros: [isize; N]) -> Self {
        Self::Explicit(zeros.map(|zeros| (zeros, zeros)).to_vec())
    }
}

impl From<Vec<(isize, isize)>> for Padding {
    fn from(zeros: Vec<(isize, isize)>) -> Self {
        Self::Explicit(zeros)
    }
}

/// By how many elements each dimension of an input grows, before and after, by its own values; negative
/// numbers crop.
pub(crate) type Margins = Vec<(isize, isize)>;

/// The padding of an input: its margins, and the zeros around those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedPadding {
    pub(crate) margins: Margins,
    pub(crate) zeros: Vec<(usize, usize)>,
}

impl Padding {
    /// The padding of an input of spatial sizes `n` with input dilation `dilation`, for a kernel of extent
    /// `covered` that moves by `strides`.
    pub(crate) fn resolve(
        &self,
        layer: &str,
        n: &[usize],
        dilation: &[usize],
        covered: &[usize],
        strides: &[usize],
    ) -> Result<ResolvedPadding> {
        let rank = n.len();
        let mut resolved = ResolvedPadding { margins: vec![(0, 0); rank], zeros: vec![(0, 0); rank] };
        match self {
            Self::Valid => {}
            // An empty input cannot be repeated.
            Self::Circular | Self::Reflect => {
                let margin = |(&n, &k): (&usize, &usize)| {
                    if n == 0 { (0, 0) } else { ((k as isize - 1) / 2, k as isize / 2) }
                };
                resolved.margins = n.iter().zip(covered).map(margin).collect();
            }
            Self::Same => {
                let zeros = n.iter().zip(covered).zip(strides).map(|((&n, &covered), &stride)| {
                    let places = n.div_ceil(stride);
                    let total = (places.saturating_sub(1) * stride + covered).saturating_sub(n);
                    // Without output positions, no padding is needed.
                    if places == 0 { (0, 0) } else { (total / 2, total - total / 2) }
                });
                resolved.zeros = zeros.collect();
            }
            Self::Causal if rank == 1 => resolved.zeros = vec![(covered[0] - 1, 0)],
            Self::Causal => {
                return Err(Error::argument(format!(
                    "`{layer}` has causal padding, which is for one dimension"
                ))
                .expected("1 spatial dimension")
                .found(rank)
                .remedy("give pairs: `.padding([(before, after), ..])`"));
            }
            Self::Each(_) | Self::Explicit(_) => {
                let sizes = n.iter().zip(dilation).zip(self.numbers(layer, rank)?);
                let crop: Option<Vec<_>> = sizes.map(|((&n, &step), zeros)| crop(n, step, zeros)).collect();
                let Some(crop) = crop else {
                    return Err(Error::argument(format!(
                        "`{layer}` has a padding that crops more than its input has"
                    ))
                    .expected(format!("at most the elements of {n:?}"))
                    .found(format!("`Padding::{self:?}`")));
                };
                (resolved.margins, resolved.zeros) = crop.into_iter().unzip();
            }
        }
        Ok(resolved)
    }

    /// The zeros before and after each dimension, where they are given as numbers.
    fn numbers(&self, layer: &str, rank: usize) -> Result<Vec<(isize, isize)>> {
        let numbers = match self {
            Self::Each(zeros) => vec![(*zeros, *zeros); rank],
            Self::Explicit(zeros) => zeros.clone(),
            _ => vec![(0, 0); rank],
        };
        if numbers.len() != rank {
            return Err(Error::argument(format!("`{layer}` has the wrong number of paddings"))
                .expected(format!("a pair for each of {rank} spatial dimensions"))
                .found(format!("{numbers:?}")));
        }
        match numbers.iter().flat_map(|&(before, after)| [before, after]).find(|n| n.unsigned_abs() > LARGEST)
        {
            None => Ok(numbers),
            Some(largest) => Err(Error::argument(format!("`{layer}` has a padding that is too large"))
                .expected(format!("at most {LARGEST} zeros"))
                .found(largest)),
        }
    }

    /// `x`, `[batch.., *spatial, channels]`, extended by its own values or cropped, by `margins`.
    pub(crate) fn extended(&self, x: &Tensor, margins: &[(isize, isize)]) -> Result<Tensor> {
        let source: fn(isize, isize) -> isize = match self {
            Self::Reflect => |at, n| {
                let period = (2 * (n - 1)).max(1);
                let at = at.rem_euclid(period);
                at.min(period - at)
            },
            _ => |at, n| at.rem_euclid(n),
        };
        let mut x = x.clone();
        let batch_rank = x.rank().saturating_sub(margins.len() + 1);
        for (axis, &(before, after)) in (batch_rank..).zip(margins) {
            let n = x.dim(axis)? as isize;
            if before < 0 || after < 0 {
                x = x
                    .narrow(axis, before.unsigned_abs(), (n + before + after).unsigned_abs())?
                    .contiguous()?;
            } else if before + after > 0 {
                let mut dims = x.dims().to_vec();
                dims[axis] = (n + before + after).unsigned_abs();
                check_size(&dims[axis].into(), DType::U32)?;
                check_size(&dims.into(), x.dtype())?;
                let index: Vec<u32> = (-before..n + after).map(|at| source(at, n) as u32).collect();
                let index = constant(&Tensor::new(index, &Device::Cpu)?, x.device())?;
                x = x.contiguous()?.index_select(&index, axis)?;
            }
        }
        Ok(x)
    }
}

/// The margins and the zeros of a dimension of size `n`, with `step - 1` zeros between its elements, for
/// numbers of zeros of which some are negative: these crop the dilated input. `None` if they crop more than
/// it has.
fn crop(n: usize, step: usize, (before, after): (isize, isize)) -> Option<((isize, isize), (usize, usize))> {
    let side = |zeros: isize| {
        let elements = zeros.min(0).unsigned_abs().div_ceil(step);
        (elements, (zeros + (elements * step) as isize).unsigned_abs())
    };
    let ((first, zeros_before), (last, zeros_after)) = (side(before), side(after));
    if first + last < n || first + last == 0 {
        return Some(((-(first as isize), -(last as isize)), (zeros_before, zeros_after)));
    }
    // All elements are cropped; zeros may be left.
    let places = n.checked_sub(1).map_or(0, |gaps| gaps * step + 1) as isize;
    Some(((0, -(n as isize)), (usize::try_from(places + before + after).ok()?, 0)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The padded sequence 0, 1, .., n-1.
    fn padded(padding: &Padding, n: usize, covered: usize) -> Vec<f32> {
        let x = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape((1, n, 1)).unwrap();
        let resolved = padding.resolve("Conv", &[n], &[1], &[covered], &[1]).unwrap();
        padding.extended(&x, &resolved.margins).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// By `numpy.pad`, modes `wrap` and `reflect`.
    #[test]
    fn circular_and_reflect_padding() {
        assert_eq!(padded(&Padding::Circular, 4, 4), [3., 0., 1., 2., 3., 0., 1.]);
        assert_eq!(padded(&Padding::Circular, 2, 6), [0., 1., 0., 1., 0., 1., 0.]);
        assert_eq!(padded(&Padding::Reflect, 4, 4), [1., 0., 1., 2., 3., 2., 1.]);
        assert_eq!(padded(&Padding::Reflect, 3, 8), [1., 2., 1., 0., 1., 2., 1., 0., 1., 2.]);
        assert_eq!(padded(&Padding::Reflect, 1, 3), [0., 0., 0.]);
        assert_eq!(padded(&Padding::Same, 2, 3), [0., 1.]);
    }

    #[test]
    fn zeros() {
        let resolved = |padding: Padding, n: &[usize], covered: &[usize], stride: usize| {
            let each = |size| vec![size; n.len()];
            padding.resolve("Conv", n, &each(1), covered, &each(stride))
        };
        let same = |n, covered, stride| resolved(Padding::Same, &[n], &[covered], stride).unwrap().zeros[0];
        assert_eq!(same(5, 3, 1), (1, 1));
        assert_eq!(same(6, 3, 2), (0, 1));
        assert_eq!(same(7, 2, 3), (0, 1));
        assert_eq!(same(5, 1, 4), (0, 0));
        assert_eq!(same(0, 3, 1), (0, 0));
        assert_eq!(resolved(Padding::Causal, &[5], &[5], 1).unwrap().zeros, [(4, 0)]);
        let error = resolved(Padding::Causal, &[5, 5], &[3, 3], 1).unwrap_err().to_string();
        assert!(error.starts_with("`Conv` has causal padding"), "{error}");
        for zeros in [isize::MAX, isize::MIN] {
            let error = resolved(zeros.into(), &[5], &[3], 1).unwrap_err().to_string();
            assert!(error.contains("too large"), "{error}");
        }
        let error = resolved([(1, 1)].into(), &[5, 5], &[3, 3], 1).unwrap_err().to_string();
        assert!(
            error.ends_with("expected a pair for each of 2 spatial dimensions, found [(1, 1)]"),
            "{error}"
        );
    }
    /// The elements 0, 1, .. with two zeros between neighbours: `0 . . 1 . . 2`.
    #[test]
    fn negative_padding() {
        for (n, step, zeros, expected) in [
            (3, 3, (-1, 2), ((-1, 0), (2, 2))),
            (3, 3, (-3, -3), ((-1, -1), (0, 0))),
            (3, 3, (-4, 0), ((-2, 0), (2, 0))),
            (2, 3, (-1, -1), ((0, -2), (2, 0))),
            (3, 1, (-5, 9), ((0, -3), (7, 0))),
            (3, 1, (4, -5), ((0, -3), (2, 0))),
            (3, 1, (-3, 0), ((0, -3), (0, 0))),
            (0, 2, (-1, 3), ((0, 0), (2, 0))),
        ] {
            assert_eq!(crop(n, step, zeros), Some(expected));
        }
        assert_eq!(crop(3, 1, (-2, -2)), None);
    }
}
