//! Rematerialization: less memory for more time.

use std::sync::Arc;

use candle_core::Tensor;

use crate::autograd::{custom_vjp, is_nested};
use crate::deep;
use crate::error::Result;
use crate::transform::pull_back::pull_back;
use crate::transform::recompute::{Captured, Recompute, variable};
use crate::tree::object::TreeObject;

/// Runs `f` on `model` and `inputs` without saving intermediate results: the backward pass recomputes them, from the
/// model as it was. Values and gradients are those of `f(model, inputs)`; random keys draw the same numbers, and
/// state is written once. `jax.checkpoint`, and Flax's `nn.remat` for a module.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*, remat};
///
/// let mut w = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let x = Tensor::ones(3, DType::F32, &Device::Cpu)?;
/// let (loss, grad) = w.value_and_grad(Parameter, |w| {
///     let y = remat(w, &[x.clone()], |w, x| Ok(vec![(w.get()? * &x[0])?.exp()?.exp()?]))?;
///     Ok(y[0].log()?.sum_all()?)
/// })?;
/// assert!((loss.to_scalar::<f32>()? - 30.19288).abs() < 1e-4);
/// assert!((grad.get()?.to_vec1::<f32>()?[0] - 1f32.exp()).abs() < 1e-5);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// A tracked tensor that `f` captures has its gradient too, but then nothing is recomputed: give it as part of the model, or as
/// an input.
///
/// # Errors
/// The error of `f`, in the forward or the backward pass.
#[doc(alias = "checkpoint")]
pub fn remat<M, F>(model: &mut M, inputs: &[Tensor], f: F) -> Result<Vec<Tensor>>
where
    M: TreeObject + Clone + 'static,
    F: Fn(&mut M, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    if is_nested() {
        // Rematerialization saves memory only where a gradient is of first order.
        return f(model, inputs);
    }
    let (f, captured) = (Arc::new(f), Captured::default());
    let (before, parameters) = Recompute::of(model);
    let count = parameters.len();
    let sources = [&parameters, inputs].concat();
    let (template, again) = (before.clone(), Arc::clone(&f));
    let outputs = before.untracked(model, |model| {
        custom_vjp(&sources.clone(), |detached| {
            let outputs = f(model, &detached[count..])?;
            captured.check(outputs.iter())?;
            let backward = move |cotangents: &[Option<Tensor>]| {
                let variables = sources.iter().map(variable).collect::<Result<Vec<_>>>()?;
                let (parameters, inputs) = variables.split_at(count);
                let start = deep::mark();
                let outputs = template.run(parameters, &[inputs], |model| again(model, inputs))?;
                deep::with_room(start, || {
                    let gradients = pull_back(&outputs, cotangents, &variables, true);
                    drop(outputs);
                    gradients
                })
            };
            Ok((outputs, backward))
        })
    });
    if captured.is_some() { f(model, inputs) } else { outputs }
}
