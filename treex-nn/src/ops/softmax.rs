//! Softmax along the last axes, as one operation.

use std::marker::PhantomData;

use candle_core::Tensor;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::size::check_elements;
use treex_core::{Result, match_float};
use treex_kernels::softmax::Softmax;

/// `softmax(x)` over `dims`, or its logarithm, where there is a kernel for it: along the last axes, on the CPU.
///
/// The reference composition is that of [`crate::softmax`] and [`crate::log_softmax`].
pub(crate) fn softmax(x: &Tensor, dims: &[usize], is_log: bool) -> Result<Option<Tensor>> {
    check_elements("softmax", x)?;
    let first = x.rank() - dims.len().min(x.rank());
    let is_last = !dims.is_empty() && (first..x.rank()).all(|dim| dims.contains(&dim));
    if is_reference() || !is_last || !x.device().is_cpu() || x.elem_count() == 0 {
        return Ok(None);
    }
    let row = x.dims()[first..].iter().product();
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => forward::<T>(x, row, is_log).map(Some), else Ok(None))
}

fn forward<T: Element + Softmax>(x: &Tensor, row: usize, is_log: bool) -> Result<Tensor> {
    let input = x.detach().contiguous()?;
    let y = {
        let x = elements::<T>(&input)?;
        if is_log { T::log_softmax(&x, row)? } else { T::softmax(&x, row)? }
    };
    let y = OwnedStorage::new(y, x.shape())?;
    if is_log {
        attach(OfLogSoftmax::<T> { x: input, row, element: PhantomData }, &[x], y)
    } else {
        attach(OfSoftmax::<T> { row, element: PhantomData }, &[x], y)
    }
}

struct OfSoftmax<T> {
    row: usize,
    element: PhantomData<T>,
}

impl<T: Element + Softmax> Operation for OfSoftmax<T> {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn saves_outputs(&self) -> bool {
        true
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let (y, dy) = (cx.output()?, cx.cotangent()?.contiguous()?);
        let dx = T::softmax_backward(&elements(y)?, &elements(&dy)?, self.row)?;
        Ok(vec![Some(OwnedStorage::new(dx, y.shape())?.into_tensor())])
    }
}

struct OfLogSoftmax<T> {
    x: Tensor,
    row: usize,
    element: PhantomData<T>,
}

impl<T: Element + Softmax> Operation for OfLogSoftmax<T> {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = T::log_softmax_backward(&elements(&self.x)?, &elements(&dy)?, self.row)?;
        Ok(vec![Some(OwnedStorage::new(dx, self.x.shape())?.into_tensor())])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    type Function = fn(&Tensor) -> Result<Tensor>;

    const FUNCTIONS: [(&str, Function); 2] =
        [("softmax", |x| crate::softmax(x, 1)), ("log_softmax", |x| crate::log_softmax(x, 1))];

    #[test]
    fn kernels_equal_plain_compositions() -> Result<()> {
        let types = [(DType::F64, 1e-14), (DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 2e-2)];
        for (dtype, tolerance) in types {
            for dims in [(0, 3), (3, 0), (1, 1), (5, 7), (64, 3), (1000, 33)] {
                let x = (Key::from(0).normal(dims, DType::F32)? * 3.)?.to_dtype(dtype)?;
                for (name, f) in FUNCTIONS {
                    let of_view = |[x]: [&Tensor; 1]| f(&x.t()?);
                    let found = value_and_gradients([&x], of_view)?;
                    let wanted = with_reference(|| value_and_gradients([&x], of_view))?;
                    for (found, wanted) in found.iter().zip(&wanted) {
                        let scale = wanted.iter().fold(1f64, |scale, x| scale.max(x.abs()));
                        let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * scale;
                        assert!(found.len() == wanted.len(), "{name} {dims:?}");
                        assert!(found.iter().zip(wanted).all(is_close), "{name} {dtype:?} {dims:?}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Over several axes, in any order; over leading ones there is no kernel.
    #[test]
    fn axes() -> Result<()> {
        let x = Key::from(0).normal((2, 3, 4), DType::F64)?;
        for dims in [vec![1, 2], vec![2, 1], vec![0, 1, 2], vec![0], vec![0, 2]] {
            assert_eq!(softmax(&x, &dims, false)?.is_some(), dims.contains(&2) && dims != [0, 2]);
            let difference =
                (crate::softmax(&x, dims.clone())? - with_reference(|| crate::softmax(&x, dims))?)?;
            assert!(difference.abs()?.max_all()?.to_scalar::<f64>()? < 1e-15);
        }
        Ok(())
    }

    /// Infinite elements, as the plain composition has them.
    #[test]
    fn infinities() -> Result<()> {
        let inf = f32::INFINITY;
        let x =
            Tensor::new(&[[0f32, -inf, 1.], [-inf, -inf, -inf], [inf, 0., 0.]], &candle_core::Device::Cpu)?;
        for (name, f) in FUNCTIONS {
            let (found, plain) = (f(&x)?.to_vec2::<f32>()?, with_reference(|| f(&x))?.to_vec2::<f32>()?);
            for (a, b) in found.iter().flatten().zip(plain.iter().flatten()) {
                assert!(
                    (a - b).abs() < 1e-6 || a == b || a.is_nan() && b.is_nan(),
                    "{name} {found:?} {plain:?}"
                );
            }
        }
        Ok(())
    }
}
