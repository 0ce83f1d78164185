//! Which leaves a loss does not reach.

use candle_core::Tensor;

use crate::error::Result;
use crate::transform::differentiation::Differentiation;
use crate::tree::filter::Filter;
use crate::tree::object::TreeObject;
use crate::tree::path::Path;
use crate::tree::walk::{attach_path, walk};

/// The paths of the selected leaves that the value of `f` does not depend on. Their gradient is zero: as it should be for a
/// part of the model that `f` does not call, or because something on the way has no gradient: `detach`, `leaf.set(..)`, an
/// operation of integers, a custom operation without a backward pass.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, unreached};
///
/// let leaf = || Leaf::<Parameter>::new(Tensor::new(2f32, &Device::Cpu)?);
/// let tree = (leaf()?, leaf()?);
/// let paths = unreached(&tree, Parameter, |(a, b)| Ok((a.get()? * b.get()?.detach())?))?;
/// assert_eq!(paths.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The error of `f`; a filter that selects nothing differentiable; what the backward pass reports.
pub fn unreached<T>(
    tree: &T,
    filter: impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<Vec<Path>>
where
    T: TreeObject + Clone,
{
    let mut tracked = tree.clone();
    let differentiation = Differentiation::start(&mut tracked, &filter)?;
    let value = differentiation.forward(|| f(&mut tracked));
    let gradients = differentiation.scope.with_room(|| {
        let value = value.map_err(|error| attach_path(&tracked, error));
        drop(tracked);
        differentiation.backward(&value?.sum_all()?, None, true)
    })?;
    let (mut leaves, mut paths) = (differentiation.is_selected().zip(gradients.by_leaf), Vec::new());
    walk(tree, |path, _, _| {
        if let Some((true, None)) = leaves.next() {
            paths.push(Path::from(path));
        }
    });
    Ok(paths)
}
