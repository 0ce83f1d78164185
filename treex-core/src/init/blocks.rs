//! Initialization of stacked blocks, the parameters of a scan over layers, block by block.

use super::module_key::ModuleKey;
use super::{Source, fill_at};
use candle_core::DType;

use crate::error::Result;
use crate::init::initializer::Initializer;
use crate::size::check_size;
use crate::transform::stack::stack;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::{walk, walk_mut};

/// A stack of `length` uninitialized blocks like `block`: each leaf declares its shape, if known, with the new
/// leading axis. A module fills it in its `module_init` by [`fill_blocks`].
#[must_use]
pub fn declare_blocks<T: TreeObject + Clone>(block: &T, length: usize) -> T {
    let mut stacked = block.clone();
    walk_mut(&mut stacked, |_, _, leaf| {
        if leaf.is_nothing() {
            return;
        }
        let mut declared = Initializer::never();
        if let Some(shape) = leaf.shape() {
            declared = declared.with_shape([&[length], shape.dims()].concat());
        }
        if let Some(dtype) = leaf.dtype() {
            declared = declared.with_dtype(dtype);
        }
        leaf.replace(Handle::uninitialized(declared));
    });
    stacked
}

/// Fills the uninitialized leaves of `stacked`, made by [`declare_blocks`], from `length` blocks like `block`,
/// each initialized with its own keys.
///
/// Under `init_linen` the keys are those of Flax's `nn.scan` with `variable_axes={"params": 0}` and
/// `split_rngs={"params": True}`: the root key of a block is one of `split(root, length)`, and the counter of a
/// module starts after the number of its parameters, since Flax runs the first block twice.
///
/// # Errors
/// The error of an initializer.
pub fn fill_blocks<T: TreeObject + Clone>(
    key: &ModuleKey,
    stacked: &mut T,
    block: &T,
    length: usize,
) -> Result<()> {
    // A key of two words for each.
    check_size(&(length, 2).into(), DType::U32)?;
    let roots = key.root.split(length);
    let filled = |(index, root)| {
        let mut block = block.clone();
        let source = match &key.rngs {
            Some(rngs) => Source::Scanned(rngs.map(|root| root.split(length)[index])),
            None => Source::Chain(root),
        };
        fill_at(&mut block, source, key.path.clone())?;
        Ok(block)
    };
    let blocks = roots.into_iter().enumerate().map(filled).collect::<Result<Vec<_>>>()?;
    let made = stack(&blocks)?;
    let mut leaves = Vec::new();
    walk(&made, |_, _, leaf| leaves.push(leaf));
    let mut leaves = leaves.into_iter();
    walk_mut(stacked, |_, _, leaf| {
        if let Some(made) = leaves.next()
            && leaf.initializer().is_some()
        {
            leaf.replace(made.clone());
        }
    });
    Ok(())
}
