//! The Gauss-Newton-Bartlett estimator of the diagonal of a Hessian.

use treex_core::{Error, Leaves, Result};

use crate::engine::Updates;
use crate::numerics::check_positive;
use crate::transformation::Stateless;

/// See [`gauss_newton_bartlett`].
#[derive(Clone, Debug, PartialEq)]
pub struct GaussNewtonBartlett {
    batch_size: f64,
}

/// Replaces the gradients by an estimate of the diagonal of the Gauss-Newton matrix, which is never negative:
///
/// ```text
/// u = batch_size * g^2          g: the gradient of the mean loss, at labels sampled from the model's predictions
/// ```
///
/// For [`sophia`](crate::sophia()) with a cross-entropy, in the paper's language models; Optax has Hutchinson's estimator
/// alone. The sampled gradient is a function in the extra arguments, called at the steps that estimate:
///
/// ```
/// use candle_core::{D, Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*, random::Key};
/// use treex_optim::losses::softmax_cross_entropy_with_integer_labels as cross_entropy;
/// use treex_optim::{Extra, Optimizer, gauss_newton_bartlett, sophia};
///
/// let x = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1, 1], &Device::Cpu)?;
/// let mut w = Leaf::<Parameter>::new(Tensor::new(&[[0.5f32, -0.5], [0.1, 0.2]], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(sophia(0.1).hessian_diagonal_fn(gauss_newton_bartlett(3))).init(&w)?;
/// let loss = |w: &mut Leaf<Parameter>, labels: &Tensor| {
///     Ok(cross_entropy(&x.matmul(&w.get()?)?, labels)?.mean_all()?)
/// };
/// let mut losses = Vec::new();
/// for step in 0..20 {
///     let (value, gradient) = w.value_and_grad(Parameter, |w| loss(w, &labels))?;
///     losses.push(value.to_scalar::<f32>()?);
///     let model = w.clone();
///     let sampled = || {
///         let sampled = Key::from(step).categorical(&x.matmul(&model.get()?)?, D::Minus1, ())?;
///         let (_, gradient) = model.clone().value_and_grad(Parameter, |w| loss(w, &sampled))?;
///         Ok(gradient.flatten())
///     };
///     optimizer.update_with(&gradient, &mut w, &Extra::default().with_sampled_gradient(&sampled))?;
/// }
/// assert!(losses[19] < losses[0] / 2.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Liu et al., [Sophia: a scalable stochastic second-order optimizer for language model
/// pre-training](https://arxiv.org/abs/2305.14342), 2023, algorithm 2.
#[must_use]
pub fn gauss_newton_bartlett(batch_size: usize) -> GaussNewtonBartlett {
    GaussNewtonBartlett { batch_size: batch_size as f64 }
}

impl Stateless for GaussNewtonBartlett {
    fn check(&self, _params: &Leaves) -> Result<()> {
        check_positive("batch_size", self.batch_size)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let gradient = updates.extra().sampled_gradient_fn.ok_or_else(|| {
            Error::argument("the Gauss-Newton-Bartlett estimator needs a gradient at sampled labels")
                .expected("`Extra::with_sampled_gradient`")
                .remedy("step with `optimizer.update_with(&grads, &mut model, &extra)`")
        })?;
        Ok(updates.tensors(move |grads, _| {
            grads.combine(&gradient()?, |grad, sampled| {
                Ok((sampled.to_dtype(grad.dtype())?.sqr()? * self.batch_size)?)
            })
        }))
    }
}
