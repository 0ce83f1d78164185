//! A sum of two tensors, as one operation that hands its gradient on as it is.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::add::Add as AddKernel;

use treex_kernels::sum_axis0::SumAxis0;

/// `x + y`, where `y` broadcasts to `x`: what Candle's `broadcast_add` computes, on all cores, and with a backward
/// pass that costs nothing for `x`. For the sum around a block, and for positions added to a batch.
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
    let is_covered = x.dims().ends_with(y.dims()) && x.dtype() == y.dtype() && x.device().is_cpu();
    match x.dtype() {
        _ if is_reference() || !is_covered => Ok(x.broadcast_add(y)?),
        DType::F32 => forward::<f32>(x, y),
        DType::F64 => forward::<f64>(x, y),
        DType::BF16 => forward::<bf16>(x, y),
        DType::F16 => forward::<f16>(x, y),
        _ => Ok(x.broadcast_add(y)?),
    }
}

fn forward<T: Element<Wide: SumAxis0> + AddKernel>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let sum = {
        let (x, y) = (x.detach().contiguous()?, y.detach().contiguous()?);
        let (x, y) = (elements::<T>(&x)?, elements::<T>(&y)?);
        T::broadcast_add(&x, &y)?
    };
    let operation = Add { of_y: y.shape().clone(), element: PhantomData::<fn() -> T> };
    attach(operation, &[x, y], OwnedStorage::new(sum, x.shape())?)
}

struct Add<T> {
    of_y: candle_core::Shape,
    element: PhantomData<fn() -> T>,
}

impl<T: Element<Wide: SumAxis0>> Operation for Add<T> {
    fn name(&self) -> &'static str {
        "add"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradient = cx.cotangent()?;
        let of_y = || -> Result<Tensor> {
            if gradient.shape() == &self.of_y {
                return Ok(gradient.clone());
            }
            let gradient = gradient.contiguous()?;
            let wide: Vec<_> = elements::<T>(&gradient)?.iter().map(|x| x.widen()).collect();
            let sums =
                SumAxis0::sum_axis0(&wide, self.of_y.elem_count()).into_iter().map(T::narrow).collect();
            Ok(OwnedStorage::new::<T>(sums, &self.of_y)?.into_tensor())
        };
        Ok(vec![Some(gradient.clone()), cx.wanted(1).then(of_y).transpose()?])
    }
}
