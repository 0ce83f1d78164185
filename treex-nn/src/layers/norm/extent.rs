//! How a normalized tensor is stored: as rows or as columns of its statistics.

use candle_core::Tensor;

use crate::axes::sizes;
use crate::ops::norm::Extent;

/// How `x` lies in memory if statistics are over `reduced`, and scale and bias have `axes`: as rows, or not.
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

/// How `x` lies in memory if the features on `axes` have their statistics over all axes between those and the
/// first `samples`: as columns, or not.
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

/// Whether these are the last axes.
fn is_last(axes: &[usize], x: &Tensor) -> bool {
    !axes.is_empty() && axes.iter().copied().eq(x.rank().saturating_sub(axes.len())..x.rank())
}
