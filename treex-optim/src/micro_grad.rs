//! Gradients of single examples, one after the other.

use candle_core::Tensor;
use treex_core::{Filter, Result, Tree, TreeObject};

use crate::microbatch::{Accumulator, microbatch};

/// The loss of each example, `[n]`, and what `transform` makes of the gradient of each, combined: clipped gradients, or
/// their squares, in the memory of one. [`per_example_grads`](treex_core::per_example_grads) keeps all of them.
///
/// As there, `f` gets a scratch copy of `tree` and a batch of one. With [`Accumulator::Concat`] the results have the
/// examples on a first axis.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{Accumulator, micro_grad, mse};
///
/// let w = Leaf::<Parameter>::new(Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?)?;
/// let targets = Tensor::new(&[0f32, 1., 2., 3.], &Device::Cpu)?;
/// let loss = |w: &mut Leaf<Parameter>, batch: &[Tensor]| mse(&w.get()?, &batch[0]);
/// let squares = |g: Leaf<Parameter>| g.map(|g| Ok(g.sqr()?));
/// let (losses, mean) = micro_grad(&w, Parameter, &[targets], Accumulator::Mean, loss, squares)?;
/// assert_eq!(losses.to_vec1::<f32>()?, [0., 1., 4., 9.]);
/// assert_eq!(mean.get()?.to_vec1::<f32>()?, [14.]); // the gradients are 0, -2, -4, -6
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`microbatch`] and [`treex_core::value_and_grad`]; the errors of `transform`.
pub fn micro_grad<T: TreeObject + Clone, G: Tree>(
    tree: &T,
    filter: impl Filter + Clone,
    batch: &[Tensor],
    accumulator: Accumulator,
    f: impl Fn(&mut T, &[Tensor]) -> Result<Tensor>,
    mut transform: impl FnMut(T) -> Result<G>,
) -> Result<(Tensor, G)> {
    let mut losses = Vec::new();
    let combined = microbatch(batch, 1, accumulator, |example| {
        let (loss, gradient) = tree.clone().value_and_grad(filter.clone(), |tree| f(tree, example))?;
        losses.push(loss);
        let result = transform(gradient)?;
        match accumulator {
            Accumulator::Concat => result.map(|x| Ok(x.unsqueeze(0)?)),
            _ => Ok(result),
        }
    })?;
    Ok((Tensor::stack(&losses, 0)?, combined))
}
