//! Functions of one number, element by element, as one operation that saves nothing but its input.

use std::marker::PhantomData;

use candle_core::Tensor;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::{Result, match_float};
use treex_kernels::elementwise::{Elementwise, ElementwiseKernels};

use crate::dtype::as_float;

/// `function` of each element; integers are `F32`. `reference` is the same by Candle's operations.
pub(crate) fn map(
    function: Elementwise,
    x: &Tensor,
    reference: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let x = &as_float(x)?;
    if is_reference() || !x.device().is_cpu() {
        return reference(x);
    }
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => forward::<T>(function, x), else reference(x))
}

fn forward<T: Element + ElementwiseKernels>(function: Elementwise, x: &Tensor) -> Result<Tensor> {
    let input = x.detach().contiguous()?;
    let y = T::map(function, &elements(&input)?)?;
    let operation = Map { function, x: input, element: PhantomData::<T> };
    attach(operation, &[x], OwnedStorage::new(y, x.shape())?)
}

struct Map<T> {
    function: Elementwise,
    x: Tensor,
    element: PhantomData<T>,
}

impl<T: Element + ElementwiseKernels> Operation for Map<T> {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = T::map_backward(self.function, &elements(&self.x)?, &elements(&dy)?)?;
        Ok(vec![Some(OwnedStorage::new(dx, self.x.shape())?.into_tensor())])
    }
}
