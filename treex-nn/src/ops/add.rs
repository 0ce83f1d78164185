//! A sum of two tensors, as one operation that passes its gradient on without a copy.

use candle_core::{Shape, Tensor};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_core::device::{self, has_kernels};
use treex_core::{Result, with_elements};
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
    let fits = x.dims().ends_with(y.dims()) && x.dtype() == y.dtype() && x.device().same_device(y.device());
    if is_reference() || !fits || !has_kernels(x) {
        return Ok(broadcast(x, y, Tensor::broadcast_add)?);
    }
    let sum = sum(&x.detach().contiguous()?, &y.detach().contiguous()?)?;
    attach(BroadcastAdd { y_shape: y.shape().clone() }, &[x, y], sum)
}

/// `x + y`, of contiguous tensors.
fn sum(x: &Tensor, y: &Tensor) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::add::add(x, y);
    }
    with_elements!(x, T => OwnedStorage::new(T::broadcast_add(&elements(x)?, &elements(y)?)?, x.shape()))
}

struct BroadcastAdd {
    y_shape: Shape,
}

impl Operation for BroadcastAdd {
    fn name(&self) -> &'static str {
        "add"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradient = cx.cotangent()?;
        let y_gradient = || -> Result<Tensor> {
            if gradient.shape() == &self.y_shape {
                return Ok(gradient.clone());
            }
            Ok(sum_axis0(&gradient.contiguous()?, &self.y_shape)?.into_tensor().reshape(&self.y_shape)?)
        };
        Ok(vec![Some(gradient.clone()), cx.wanted(1).then(y_gradient).transpose()?])
    }
}

/// The sums over the leading dimensions of a contiguous `x`, of which `shape` are the others.
fn sum_axis0(x: &Tensor, shape: &Shape) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::sum_axis0::sum_axis0(x, shape.elem_count());
    }
    with_elements!(x, T => OwnedStorage::new(T::broadcast_add_backward(&elements(x)?, shape.elem_count())?, shape))
}
