//! Gradients of each example of a batch.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::transform::grad::in_place;
use crate::transform::stack::stack;
use crate::tree::filter::Filter;
use crate::tree::object::TreeObject;

/// The loss and the gradient of each example of `batch`: losses `[n]`, and a tree in which each selected leaf has the shape
/// `[n, leaf..]`. As `jax.vmap(jax.value_and_grad(f), (None, 0))`, but as a loop.
///
/// `f` gets a scratch copy of `tree` and a batch of one: the slices of the tensors, whose leading axis stays, of length 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, per_example_grads};
///
/// let w = Leaf::<Parameter>::new(Tensor::new(2f32, &Device::Cpu)?)?;
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?;
/// let (losses, grads) = per_example_grads(&w, Parameter, &[x], |w, x| {
///     Ok(x[0].broadcast_mul(&w.get()?)?.sqr()?.sum_all()?)
/// })?;
/// assert_eq!(losses.to_vec1::<f32>()?, [4., 36.]);
/// assert_eq!(grads.get()?.to_vec1::<f32>()?, [4., 36.]); // 2 w x²
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`value_and_grad`](crate::value_and_grad), for the first example with an error; no example, or tensors of different
/// lengths.
pub fn per_example_grads<T>(
    tree: &T,
    filter: impl Filter,
    batch: &[Tensor],
    f: impl Fn(&mut T, &[Tensor]) -> Result<Tensor>,
) -> Result<(Tensor, T)>
where
    T: TreeObject + Clone,
{
    let lengths: Vec<_> = batch.iter().map(|x| x.dims().first().copied().unwrap_or(0)).collect();
    let length = lengths.first().copied().unwrap_or(0);
    if length == 0 || lengths.iter().any(|other| *other != length) {
        return Err(Error::shape("a batch needs tensors with a leading axis of the same length, at least 1")
            .expected("equal lengths of at least 1")
            .found(format!("{lengths:?}")));
    }
    let (mut losses, mut gradients) = (Vec::with_capacity(length), Vec::with_capacity(length));
    for index in 0..length {
        let example = batch.iter().map(|x| x.narrow(0, index, 1));
        let example = example.collect::<candle_core::Result<Vec<_>>>()?;
        let ((loss, ()), gradient) =
            in_place(&mut tree.clone(), &filter, |tree| Ok((f(tree, &example)?, ())))?;
        losses.push(loss);
        gradients.push(gradient);
    }
    Ok((Tensor::stack(&losses, 0)?, stack(&gradients)?))
}
