//! The memory layout of a normalization: rows or columns that share statistics.

use candle_core::Tensor;

use crate::axes::sizes;
use crate::ops::norm::Extent;

/// The layout of `x` as rows, with statistics over `reduced`, and scale and bias on `axes`; `None` if it is
/// another.
pub(super) fn as_rows(
    x: &Tensor,
    reduced: &[usize],
    axes: &[usize],
    features: &[Option<Tensor>; 2],
) -> Option<Extent> {
    let is_one = features.iter().all(Option::is_none) || reduced == axes;
    let size = sizes(x.dims(), reduced).iter().product::<usize>();
    (is_one && size > 0 && is_last(reduced, x)).then(|| Extent {
        outer: x.elem_count() / size,
        rows: 1,
        groups: 1,
        size,
    })
}

/// The layout of `x` as columns, where the features on `axes` have their statistics over all axes between
/// these and the first `samples`; `None` if it is another.
pub(super) fn as_columns(x: &Tensor, samples: usize, axes: &[usize]) -> Option<Extent> {
    let between = x.rank().checked_sub(axes.len()).filter(|&end| end >= samples && is_last(axes, x))?;
    let count = |dims: &[usize]| dims.iter().product();
    let dims = x.dims();
    Some(Extent {
        outer: count(&dims[..samples]),
        rows: count(&dims[samples..between]),
        groups: count(&dims[between..]),
        size: 1,
    })
}

/// Whether `axes` are the last axes of `x`.
fn is_last(axes: &[usize], x: &Tensor) -> bool {
    !axes.is_empty() && axes.iter().copied().eq(x.rank().saturating_sub(axes.len())..x.rank())
}
