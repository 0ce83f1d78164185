//! Axes of a tensor, as options of layers.

use std::fmt;

use treex_core::{Error, Result};

/// One axis or several: what `axis(-1)` and `reduction_axes([-2, -1])` take. Negative ones count from the
/// end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Axes(Vec<isize>);

impl From<isize> for Axes {
    fn from(axis: isize) -> Self {
        Self(vec![axis])
    }
}

impl<const N: usize> From<[isize; N]> for Axes {
    fn from(axes: [isize; N]) -> Self {
        Self(axes.to_vec())
    }
}

impl From<Vec<isize>> for Axes {
    fn from(axes: Vec<isize>) -> Self {
        Self(axes)
    }
}

impl Axes {
    /// The axes of a tensor of shape `dims`, each once and in ascending order.
    pub(crate) fn of(&self, layer: &str, what: &str, dims: &[usize]) -> Result<Vec<usize>> {
        let rank = dims.len();
        let axes = self.0.iter().map(|&axis| position(axis, rank));
        let Some(mut axes) = axes.collect::<Option<Vec<_>>>() else {
            return Err(Error::shape(format!("`{layer}` got a tensor without one of its `{what}`"))
                .expected(self)
                .found(format!("{dims:?}")));
        };
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }
}

/// The sizes on `axes`.
pub(crate) fn sizes(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|&axis| dims[axis]).collect()
}

/// The index of an axis of a tensor of rank `rank`; a negative axis counts from the end. `None` if it is out
/// of range.
pub(crate) fn position(axis: isize, rank: usize) -> Option<usize> {
    let place = if axis < 0 { rank.checked_add_signed(axis) } else { usize::try_from(axis).ok() };
    place.filter(|&place| place < rank)
}

/// Prints `axis -1` or `axes [-2, -1]`.
impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [axis] => write!(f, "axis {axis}"),
            axes => write!(f, "axes {axes:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tensor() {
        let of = |axes: Axes| axes.of("LayerNorm", "feature_axes", &[2, 3, 4]);
        assert_eq!(of((-1).into()).unwrap(), [2]);
        assert_eq!(of([2, -3, -1].into()).unwrap(), [0, 2]);
        assert_eq!(of(vec![].into()).unwrap(), [0usize; 0]);
        let error = of([0, -4].into()).unwrap_err().to_string();
        let text = "`LayerNorm` got a tensor without one of its `feature_axes`: expected axes [0, -4]";
        assert_eq!(error, format!("{text}, found [2, 3, 4]"));
        assert!(of(3.into()).is_err());
    }
}
