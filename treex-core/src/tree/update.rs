//! Updates: the leaves of one tree replace those of another.

use super::flat::Layout;
use super::object::TreeObject;
use super::walk::{walk, walk_mut};
use crate::error::Result;

/// See [`Tree::update`](crate::Tree::update).
pub(crate) fn update<T: TreeObject>(tree: &mut T, other: &T) -> Result<()> {
    Layout::of(other).check(tree, "the tree to update")?;
    let mut leaves = Vec::new();
    walk(other, |_, _, leaf| leaves.push(leaf));
    let mut leaves = leaves.into_iter();
    walk_mut(tree, |_, _, leaf| match leaves.next() {
        Some(new) if !new.is_nothing() => leaf.replace(new.clone()),
        _ => {}
    });
    Ok(())
}
