//! Stacked trees: an ensemble as one tree whose leaves have a leading axis.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::tree::flat::Layout;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::update::update;
use crate::tree::walk::{try_walk_mut, walk, walk_mut};

/// Runs `f` once for each slice of `tree` along its leading axis, and stacks the results. State that `f` writes
/// into its slice (running statistics, keys) is stacked back into `tree`.
///
/// `jax.vmap` over a tree, but as a loop: no faster than calling each member. Gradients can be taken inside (one
/// for each member) and outside (one for all).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*, vmap};
///
/// let member = |value: f32| Leaf::<Parameter>::new(Tensor::new(&[value, 2. * value], &Device::Cpu)?);
/// let mut ensemble = Leaf::stack(&[member(1.)?, member(2.)?, member(3.)?])?;
/// assert_eq!(ensemble.get()?.dims(), [3, 2]);
/// let sums = vmap(&mut ensemble, |_, member| Ok(member.get()?.sum_all()?))?;
/// assert_eq!(sums.to_vec1::<f32>()?, [3., 6., 9.]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The error of `f`; leaves without a leading axis, or of different lengths; results that cannot be stacked.
/// `tree` is then unchanged.
pub fn vmap<T, O>(tree: &mut T, mut f: impl FnMut(usize, &mut T) -> Result<O>) -> Result<O>
where
    T: TreeObject + Clone,
    O: Stack,
{
    let before = unstack(tree)?;
    let mut after = before.clone();
    let outputs =
        after.iter_mut().enumerate().map(|(index, slice)| f(index, slice)).collect::<Result<Vec<_>>>()?;
    let outputs = O::stack_slices(outputs)?;
    write_back(tree, &before, &after)?;
    Ok(outputs)
}

/// Stacks the leaves that any slice has written.
pub(crate) fn write_back<T: TreeObject + Clone>(tree: &mut T, before: &[T], after: &[T]) -> Result<()> {
    let mut written = Vec::new();
    for (before, after) in before.iter().zip(after) {
        Layout::of(before).check(after, "a slice after the closure")?;
        let (mut cells, mut index) = (Vec::new(), 0);
        walk(before, |_, _, leaf| cells.push(leaf.cell()));
        written.resize(cells.len(), false);
        walk(after, |_, _, leaf| {
            written[index] |= leaf.cell() != cells[index];
            index += 1;
        });
    }
    let only_written = |slice: &T| {
        let (mut slice, mut written) = (slice.clone(), written.iter());
        walk_mut(&mut slice, |_, _, leaf| {
            if written.next() != Some(&true) {
                leaf.replace(Handle::nothing());
            }
        });
        slice
    };
    if written.contains(&true) {
        update(tree, &stack(&after.iter().map(only_written).collect::<Vec<_>>())?)?;
    }
    Ok(())
}

/// See [`Tree::stack`].
pub(crate) fn stack<T: TreeObject + Clone>(trees: &[T]) -> Result<T> {
    let Some(first) = trees.first() else {
        return Err(Error::argument("there are no trees to stack").expected("at least one"));
    };
    let layout = Layout::of(first);
    let mut columns: Vec<Vec<&Handle>> = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        layout.check(tree, &format!("tree {index} of the stack"))?;
        let mut column = 0;
        walk(tree, |_, _, leaf| {
            columns.resize_with(columns.len().max(column + 1), Vec::new);
            columns[column].push(leaf);
            column += 1;
        });
    }
    let (mut stacked, mut columns) = (first.clone(), columns.into_iter());
    try_walk_mut(&mut stacked, |_, kind, leaf| {
        let Some(column) = columns.next() else { return Ok(()) };
        if column.iter().any(|other| other.is_frozen() != leaf.is_frozen()) {
            return Err(Error::new(ErrorKind::Frozen, "a leaf is frozen in some of the trees to stack only")
                .remedy("call `freeze` or `unfreeze` on all of them alike"));
        }
        if column.iter().any(|leaf| !leaf.is_nothing()) {
            let values = column.iter().map(|leaf| leaf.get(kind)).collect::<Result<Vec<_>>>()?;
            leaf.replace(Handle::from_copy(&Tensor::stack(&values, 0)?)?);
        }
        Ok(())
    })?;
    Ok(stacked)
}

/// See [`Tree::unstack`].
pub(crate) fn unstack<T: TreeObject + Clone>(tree: &T) -> Result<Vec<T>> {
    let mut length = None;
    let mut whole = tree.clone();
    try_walk_mut(&mut whole, |_, kind, leaf| {
        if leaf.is_nothing() {
            return Ok(());
        }
        let value = leaf.get(kind)?;
        let found = value.dims().first().copied();
        if found.is_none() || *length.get_or_insert(found) != found {
            let expected = match length.flatten() {
                Some(length) => format!("a leading axis of length {length}"),
                None => "a leading axis".to_owned(),
            };
            return Err(Error::new(ErrorKind::Shape, "a leaf cannot be unstacked with the others")
                .expected(expected)
                .found(format!("shape {:?}", value.dims()))
                .remedy("stack trees with `Tree::stack(&trees)?`"));
        }
        Ok(())
    })?;
    let slice = |index: usize| {
        let mut slice = tree.clone();
        try_walk_mut(&mut slice, |_, kind, leaf| {
            if !leaf.is_nothing() {
                leaf.replace(Handle::from_copy(&leaf.get(kind)?.get(index)?)?);
            }
            Ok(())
        })?;
        Ok(slice)
    };
    (0..length.flatten().unwrap_or(0)).map(slice).collect()
}

/// Results that [`vmap`] can stack: a tensor, a tree, or a tensor with another such result.
pub trait Stack: Sized {
    /// Stacks `slices` along a new leading axis.
    ///
    /// # Errors
    /// If the slices differ in structure, shape or element type.
    fn stack_slices(slices: Vec<Self>) -> Result<Self>;
}

impl Stack for Tensor {
    fn stack_slices(slices: Vec<Self>) -> Result<Self> {
        Ok(Self::stack(&slices, 0)?)
    }
}

impl<T: TreeObject + Clone> Stack for T {
    fn stack_slices(slices: Vec<Self>) -> Result<Self> {
        stack(&slices)
    }
}

/// What `value_and_grad` returns.
impl<S: Stack> Stack for (Tensor, S) {
    fn stack_slices(slices: Vec<Self>) -> Result<Self> {
        let (tensors, rest): (Vec<_>, Vec<_>) = slices.into_iter().unzip();
        Ok((Tensor::stack_slices(tensors)?, S::stack_slices(rest)?))
    }
}

/// What `value_and_grad_aux` returns.
impl<A, S: Stack> Stack for ((Tensor, A), S)
where
    (Tensor, A): Stack,
{
    fn stack_slices(slices: Vec<Self>) -> Result<Self> {
        let (outputs, rest): (Vec<_>, Vec<_>) = slices.into_iter().unzip();
        Ok((<(Tensor, A)>::stack_slices(outputs)?, S::stack_slices(rest)?))
    }
}
