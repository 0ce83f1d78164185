//! The sum of the products of two tensors, as one operation.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::{Result, match_float};
use treex_kernels::dot::Dot;

/// `Σ x y` over all elements, a scalar: `jnp.vdot(x, y)` of tensors of one shape, in one read of each; half
/// types are summed in `F32`. With `y` constant, it is a weighted sum of `x`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let (x, y) = (Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?, Tensor::new(&[4f32, 5., 6.], &Device::Cpu)?);
/// let dot = treex_nn::vdot(&x, &y)?;
/// assert_eq!(dot.dims(), [0; 0]);
/// assert_eq!(dot.to_scalar::<f32>()?, 32.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes or the element types differ.
pub fn vdot(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let has_kernel = x.shape() == y.shape() && x.dtype() == y.dtype() && x.device().is_cpu();
    if is_reference() || !has_kernel {
        return reference(x, y);
    }
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => forward::<T>(x, y), else reference(x, y))
}

fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let wide = |x: &Tensor| if x.dtype() == DType::F64 { Ok(x.clone()) } else { x.to_dtype(DType::F32) };
    Ok((wide(x)? * wide(y)?)?.sum_all()?.to_dtype(x.dtype())?)
}

fn forward<T: Element + Dot>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let operands = (x.detach().contiguous()?, y.detach().contiguous()?);
    let sum = T::dot(&elements(&operands.0)?, &elements(&operands.1)?)?;
    let operation = Vdot { x: operands.0, y: operands.1, element: PhantomData::<fn() -> T> };
    attach(operation, &[x, y], OwnedStorage::new(vec![sum], ())?)
}

struct Vdot<T> {
    x: Tensor,
    y: Tensor,
    element: PhantomData<fn() -> T>,
}

impl<T: Element + Dot> Operation for Vdot<T> {
    fn name(&self) -> &'static str {
        "vdot"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.to_scalar::<T>()?;
        let gradient = |index: usize, other: &Tensor| -> Result<Option<Tensor>> {
            if !cx.wanted(index) {
                return Ok(None);
            }
            let gradient = T::dot_backward(dy, &elements(other)?)?;
            Ok(Some(OwnedStorage::new(gradient, other.shape())?.into_tensor()))
        };
        Ok(vec![gradient(0, &self.y)?, gradient(1, &self.x)?])
    }
}
