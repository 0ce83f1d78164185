//! Elementwise functions with a derivative of their own.

use candle_core::{Result, Tensor};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach};

/// A function of a tensor, element by element.
type Elementwise = fn(&Tensor) -> Result<Tensor>;

/// `value(x)`, and backward `derivative(x)` times the gradient.
///
/// For where the chain rule through the steps of `value` would lose digits, overflow, or answer otherwise
/// than JAX at a corner. Works on every device, since it stands on Candle's operations.
pub(crate) fn with_derivative(x: &Tensor, value: Elementwise, derivative: Elementwise) -> Result<Tensor> {
    let x_now = x.detach();
    let y = OwnedStorage::take(value(&x_now)?)?;
    Ok(attach(WithDerivative { x: x_now, derivative }, &[x], y)?)
}

struct WithDerivative {
    x: Tensor,
    derivative: Elementwise,
}

impl Operation for WithDerivative {
    fn name(&self) -> &'static str {
        "with-derivative"
    }

    fn backward(&self, cx: &BackwardContext) -> treex_core::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some((cx.cotangent()? * (self.derivative)(&self.x)?)?)])
    }
}
