//! Functions of one number, element by element, as one operation that saves nothing but its input.

use candle_core::Tensor;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_core::device::{elementwise as device, has_kernels};
use treex_core::{Result, with_elements};
use treex_kernels::elementwise::{Elementwise, ElementwiseKernels};

use crate::dtype::as_float;

/// `function` of each element; integers are `F32`. `reference` is the same by Candle's operations.
pub(crate) fn map(
    function: Elementwise,
    x: &Tensor,
    reference: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let x = &as_float(x)?;
    if is_reference() || !has_kernels(x) {
        return reference(x);
    }
    let input = x.detach().contiguous()?;
    let y = value(function, &input)?;
    attach(Map { function, x: input }, &[x], y)
}

fn value(function: Elementwise, x: &Tensor) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::map(function, x);
    }
    with_elements!(x, T => OwnedStorage::new(T::map(function, &elements(x)?)?, x.shape()))
}

struct Map {
    function: Elementwise,
    x: Tensor,
}

impl Operation for Map {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        Ok(vec![Some(gradient(self.function, &self.x, &dy)?.into_tensor())])
    }
}

fn gradient(function: Elementwise, x: &Tensor, dy: &Tensor) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::map_backward(function, x, dy);
    }
    with_elements!(x, T => OwnedStorage::new(T::map_backward(function, &elements(x)?, &elements(dy)?)?, x.shape()))
}
