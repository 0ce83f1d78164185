//! Elementwise functions with a derivative of their own.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Tensor};

/// A function of a tensor, element by element.
type Elementwise = fn(&Tensor) -> Result<Tensor>;

/// `value(x)`, and backward `derivative(x)` times the gradient.
///
/// For where the chain rule through the steps of `value` would lose digits, overflow, or answer otherwise
/// than JAX at a corner. Works on every device, since it stands on Candle's operations; what it costs beyond
/// those is a copy, and that only where `x` is tracked.
pub(crate) fn with_derivative(x: &Tensor, value: Elementwise, derivative: Elementwise) -> Result<Tensor> {
    let y = value(&x.detach())?;
    if x.track_op() { x.apply_op2(&y, WithDerivative(derivative)) } else { Ok(y) }
}

/// The second operand as a function of the first.
struct WithDerivative(Elementwise);

impl CustomOp2 for WithDerivative {
    fn name(&self) -> &'static str {
        "with-derivative"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        y: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        copy(y, layout)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        y: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        copy(y, layout)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        y: &MetalStorage,
        layout: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        copy(y, layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.mul(&self.0(x)?)?), None))
    }
}

fn copy<S>(source: &S, layout: &Layout) -> Result<(S, Shape)>
where
    S: BackendStorage<Device: BackendDevice<Storage = S>>,
{
    let mut copy = source.device().zeros_impl(layout.shape(), source.dtype())?;
    source.copy_strided_src(&mut copy, 0, layout)?;
    Ok((copy, layout.shape().clone()))
}
