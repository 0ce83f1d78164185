//! What stands around the input where a window reaches over its edge.

use candle_core::Tensor;
use treex_core::{Error, Result};

use crate::sizes::LARGEST;

/// Padding of the spatial dimensions, by Flax's names.
///
/// Below, `k` is what the kernel covers, dilation included, and `n` the size of the input.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zeros, so that there are `n / stride` places, rounded up; the odd zero comes after.
    #[default]
    Same,
    /// None: only places where the kernel fits.
    Valid,
    /// What stands at the other end, `(k - 1) / 2` before and `k / 2` after.
    Circular,
    /// The mirror image without the edge itself, `(k - 1) / 2` before and `k / 2` after.
    Reflect,
    /// `k - 1` zeros before and none after, so that no place sees what comes later. One dimension only.
    Causal,
    /// This many zeros before and after, in every dimension.
    Each(usize),
    /// Zeros before and after, for each dimension.
    Explicit(Vec<(usize, usize)>),
}

/// What stands before and after each dimension.
pub(crate) type Margins = Vec<(usize, usize)>;

impl From<usize> for Padding {
    fn from(zeros: usize) -> Self {
        Self::Each(zeros)
    }
}

impl<const N: usize> From<[(usize, usize); N]> for Padding {
    fn from(zeros: [(usize, usize); N]) -> Self {
        Self::Explicit(zeros.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Padding {
    fn from(zeros: [usize; N]) -> Self {
        Self::Explicit(zeros.map(|zeros| (zeros, zeros)).to_vec())
    }
}

impl From<Vec<(usize, usize)>> for Padding {
    fn from(zeros: Vec<(usize, usize)>) -> Self {
        Self::Explicit(zeros)
    }
}

impl Padding {
    /// The zeros before and after each dimension of size `n` for a kernel that covers `covered` and moves by
    /// `strides`. `Circular` and `Reflect` need none: [`extended`](Self::extended) comes before.
    pub(crate) fn zeros(
        &self,
        layer: &str,
        n: &[usize],
        covered: &[usize],
        strides: &[usize],
    ) -> Result<Margins> {
        let rank = n.len();
        let largest = match self {
            Self::Each(zeros) => *zeros,
            Self::Explicit(zeros) => {
                zeros.iter().map(|(before, after)| *before.max(after)).max().unwrap_or(0)
            }
            _ => 0,
        };
        if largest > LARGEST {
            return Err(Error::argument(format!("`{layer}` has a padding that is too large"))
                .expected(format!("at most {LARGEST} zeros"))
                .found(largest));
        }
        match self {
            Self::Valid | Self::Circular | Self::Reflect => Ok(vec![(0, 0); rank]),
            Self::Each(zeros) => Ok(vec![(*zeros, *zeros); rank]),
            Self::Explicit(zeros) if zeros.len() == rank => Ok(zeros.clone()),
            Self::Explicit(zeros) => {
                Err(Error::argument(format!("`{layer}` has the wrong number of paddings"))
                    .expected(format!("a pair for each of {rank} spatial dimensions"))
                    .found(format!("{zeros:?}")))
            }
            Self::Causal if rank == 1 => Ok(vec![(covered[0] - 1, 0)]),
            Self::Causal => {
                Err(Error::argument(format!("`{layer}` has causal padding, which is for one dimension"))
                    .expected("1 spatial dimension")
                    .found(rank)
                    .remedy("give pairs: `.padding([(before, after), ..])`"))
            }
            Self::Same => {
                let zeros = n.iter().zip(covered).zip(strides).map(|((&n, &covered), &stride)| {
                    let places = n.div_ceil(stride);
                    let total = (places.saturating_sub(1) * stride + covered).saturating_sub(n);
                    // No place at all needs no padding.
                    if places == 0 { (0, 0) } else { (total / 2, total - total / 2) }
                });
                Ok(zeros.collect())
            }
        }
    }

    /// The values before and after a dimension of size `n` that are taken from the input itself.
    pub(crate) fn margin(&self, n: usize, covered: usize) -> (usize, usize) {
        match self {
            Self::Circular | Self::Reflect if n > 0 => ((covered - 1) / 2, covered / 2),
            _ => (0, 0),
        }
    }

    /// `x`, `[batch, *spatial, channels]`, extended by its own values as `margins` say.
    pub(crate) fn extended(&self, x: &Tensor, margins: &[(usize, usize)]) -> Result<Tensor> {
        let source: fn(isize, isize) -> isize = match self {
            Self::Reflect => |at, n| {
                let period = (2 * (n - 1)).max(1);
                let at = at.rem_euclid(period);
                at.min(period - at)
            },
            _ => |at, n| at.rem_euclid(n),
        };
        let mut x = x.clone();
        for (axis, &(before, after)) in margins.iter().enumerate() {
            if before + after > 0 {
                let (before, after, n) = (before as isize, after as isize, x.dim(1 + axis)? as isize);
                let index: Vec<u32> = (-before..n + after).map(|at| source(at, n) as u32).collect();
                x = x.contiguous()?.index_select(&Tensor::new(index, x.device())?, 1 + axis)?;
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The padded sequence 0, 1, .., n-1.
    fn padded(padding: &Padding, n: usize, covered: usize) -> Vec<f32> {
        let x = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap().reshape((1, n, 1)).unwrap();
        padding.extended(&x, &[padding.margin(n, covered)]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// By `numpy.pad`, modes `wrap` and `reflect`.
    #[test]
    fn beyond_the_edges() {
        assert_eq!(padded(&Padding::Circular, 4, 4), [3., 0., 1., 2., 3., 0., 1.]);
        assert_eq!(padded(&Padding::Circular, 2, 6), [0., 1., 0., 1., 0., 1., 0.]);
        assert_eq!(padded(&Padding::Reflect, 4, 4), [1., 0., 1., 2., 3., 2., 1.]);
        assert_eq!(padded(&Padding::Reflect, 3, 8), [1., 2., 1., 0., 1., 2., 1., 0., 1., 2.]);
        assert_eq!(padded(&Padding::Reflect, 1, 3), [0., 0., 0.]);
        assert_eq!(padded(&Padding::Same, 2, 3), [0., 1.]);
    }

    #[test]
    fn zeros() {
        let same = |n, covered, stride| Padding::Same.zeros("Conv", &[n], &[covered], &[stride]).unwrap()[0];
        assert_eq!(same(5, 3, 1), (1, 1));
        assert_eq!(same(6, 3, 2), (0, 1));
        assert_eq!(same(7, 2, 3), (0, 1));
        assert_eq!(same(5, 1, 4), (0, 0));
        assert_eq!(same(0, 3, 1), (0, 0));
        assert_eq!(Padding::Causal.zeros("Conv", &[5], &[5], &[1]).unwrap(), [(4, 0)]);
        let error = Padding::Causal.zeros("Conv", &[5, 5], &[3, 3], &[1, 1]).unwrap_err().to_string();
        assert!(error.starts_with("`Conv` has causal padding"), "{error}");
        let error = Padding::from(usize::MAX).zeros("Conv", &[5], &[3], &[1]).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
        let error = Padding::from([(1, 1)]).zeros("Conv", &[5, 5], &[3, 3], &[1, 1]).unwrap_err().to_string();
        assert!(
            error.ends_with("expected a pair for each of 2 spatial dimensions, found [(1, 1)]"),
            "{error}"
        );
    }
}
