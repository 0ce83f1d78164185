//! Casts of the values of a tree.

use candle_core::{DType, Tensor};

use super::filter::{Filter, LeafRef};
use super::handle::Handle;
use super::object::TreeObject;
use super::walk::try_walk_mut;
use crate::error::{Error, Result};

/// Casts the floating values that `filter` selects, tracked ones in the graph. Returns whether it selects any leaf.
pub(crate) fn cast<T: TreeObject>(tree: &mut T, filter: &impl Filter, dtype: DType) -> Result<bool> {
    if !dtype.is_float() {
        return Err(Error::argument("floating values are cast to floating types")
            .expected("a floating type")
            .found(format!("`{}`", dtype.as_str()))
            .remedy("cast the tensor of one leaf with Candle's `to_dtype`"));
    }
    let mut selects = false;
    try_walk_mut(tree, |path, kind, leaf| {
        if !filter.selects(&LeafRef::new(path, kind, leaf)) {
            return Ok(());
        }
        selects = true;
        if let Some(value) = leaf.tracked_value().filter(|value| value.dtype().is_float()) {
            // Candle's kernels for other devices refuse tensors without elements.
            let cast = if value.elem_count() == 0 && !value.device().is_cpu() {
                Tensor::zeros(value.shape(), dtype, value.device())?
            } else {
                value.to_dtype(dtype)?
            };
            let cast = Handle::from_copy(&cast)?;
            leaf.replace(cast);
        }
        Ok(())
    })?;
    Ok(selects)
}
