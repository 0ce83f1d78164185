//! Elementwise functions with a given derivative.

use candle_core::{Result, Tensor};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, saved};

use crate::dtype::as_float;

/// An elementwise function of a tensor.
type Elementwise = fn(&Tensor) -> Result<Tensor>;

/// `value(x)`, with the gradient `derivative(x) * dy`.
///
/// For functions where the chain rule through the steps of `value` would lose digits, overflow, or differ from JAX at
/// a corner. It works on every device on which both functions do.
pub(crate) fn with_derivative(x: &Tensor, value: Elementwise, derivative: Elementwise) -> Result<Tensor> {
    let x = as_float(x)?;
    let y = OwnedStorage::take(value(&x.detach())?)?;
    Ok(attach(WithDerivative { x: saved(&x), derivative }, &[&x], y)?)
}

struct WithDerivative {
    x: Tensor,
    derivative: Elementwise,
}

impl Operation for WithDerivative {
    fn name(&self) -> &'static str {
        "with-derivative"
    }

    fn is_differentiable(&self) -> bool {
        true
    }

    fn backward(&self, cx: &BackwardContext) -> treex_core::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some((cx.cotangent()? * (self.derivative)(&self.x)?)?)])
    }
}
