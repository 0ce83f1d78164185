//! A sum of two tensors, as one operation that passes its gradient on without a copy.

use std::marker::PhantomData;

use candle_core::{Shape, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::{Result, match_float};
use treex_kernels::add::Add;

use super::broadcast::broadcast;

/// `x + y`, where the two broadcast: Candle's `broadcast_add`. Where `y` has the last dimensions of `x` it runs on all
/// cores, with a backward pass that costs nothing for `x`. Half types are computed in `F32` and rounded once, and so is
/// the gradient of what is repeated. For residual connections, and for positions added to a batch.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let (x, positions) = (Key::from(0).normal((8, 16, 4), DType::F32)?, Key::from(1).normal((16, 4), DType::F32)?);
/// assert_eq!(treex_nn::add(&x, &positions)?.dims(), [8, 16, 4]);
/// # use treex_nn::prelude::*;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let has_kernel = x.dims().ends_with(y.dims()) && x.dtype() == y.dtype() && x.device().is_cpu();
    if is_reference() || !has_kernel {
        return Ok(broadcast(x, y, Tensor::broadcast_add)?);
    }
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => forward::<T>(x, y), else Ok(x.broadcast_add(y)?))
}

fn forward<T: Element + Add>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let sum = {
        let (x, y) = (x.detach().contiguous()?, y.detach().contiguous()?);
        T::broadcast_add(&elements(&x)?, &elements(&y)?)?
    };
    let operation = BroadcastAdd { y_shape: y.shape().clone(), element: PhantomData::<fn() -> T> };
    attach(operation, &[x, y], OwnedStorage::new(sum, x.shape())?)
}

struct BroadcastAdd<T> {
    y_shape: Shape,
    element: PhantomData<fn() -> T>,
}

impl<T: Element + Add> Operation for BroadcastAdd<T> {
    fn name(&self) -> &'static str {
        "add"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradient = cx.cotangent()?;
        let y_gradient = || -> Result<Tensor> {
            if gradient.shape() == &self.y_shape {
                return Ok(gradient.clone());
            }
            let sums =
                T::broadcast_add_backward(&elements(&gradient.contiguous()?)?, self.y_shape.elem_count())?;
            Ok(OwnedStorage::new(sums, &self.y_shape)?.into_tensor())
        };
        Ok(vec![Some(gradient.clone()), cx.wanted(1).then(y_gradient).transpose()?])
    }
}
