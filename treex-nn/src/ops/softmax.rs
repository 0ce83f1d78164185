//! Softmax along the last axes, as one operation.

use candle_core::Tensor;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_core::device::{has_kernels, softmax as device};
use treex_core::size::check_elements;
use treex_core::{Result, with_elements};
use treex_kernels::softmax::Softmax;

/// `softmax(x)` over `dims`, or its logarithm, where there is a kernel for it: along the last axes.
///
/// The reference composition is that of [`crate::softmax`] and [`crate::log_softmax`].
pub(crate) fn softmax(x: &Tensor, dims: &[usize], is_log: bool) -> Result<Option<Tensor>> {
    check_elements("softmax", x)?;
    let first = x.rank() - dims.len().min(x.rank());
    let is_last = !dims.is_empty() && (first..x.rank()).all(|dim| dims.contains(&dim));
    if is_reference() || !is_last || !has_kernels(x) || x.elem_count() == 0 {
        return Ok(None);
    }
    let row = x.dims()[first..].iter().product();
    let input = x.detach().contiguous()?;
    let y = forward(&input, row, is_log)?;
    let operation = OfSoftmax { x: is_log.then_some(input), row };
    attach(operation, &[x], y).map(Some)
}

fn forward(x: &Tensor, row: usize, is_log: bool) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::softmax(x, row, is_log);
    }
    with_elements!(x, T => {
        let all = elements::<T>(x)?;
        let y = if is_log { T::log_softmax(&all, row)? } else { T::softmax(&all, row)? };
        OwnedStorage::new(y, x.shape())
    })
}

/// Backward, a softmax needs its output, its logarithm the input.
struct OfSoftmax {
    x: Option<Tensor>,
    row: usize,
}

impl Operation for OfSoftmax {
    fn name(&self) -> &'static str {
        if self.x.is_some() { "log_softmax" } else { "softmax" }
    }

    fn saves_outputs(&self) -> bool {
        self.x.is_none()
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = match &self.x {
            Some(x) => log_softmax_backward(x, &dy, self.row),
            None => softmax_backward(cx.output()?, &dy, self.row),
        };
        Ok(vec![Some(dx?.into_tensor())])
    }
}

fn softmax_backward(y: &Tensor, dy: &Tensor, row: usize) -> Result<OwnedStorage> {
    if !y.device().is_cpu() {
        return device::softmax_backward(y, dy, row);
    }
    with_elements!(y, T => OwnedStorage::new(T::softmax_backward(&elements(y)?, &elements(dy)?, row)?, y.shape()))
}

fn log_softmax_backward(x: &Tensor, dy: &Tensor, row: usize) -> Result<OwnedStorage> {
    if !x.device().is_cpu() {
        return device::log_softmax_backward(x, dy, row);
    }
    with_elements!(x, T => OwnedStorage::new(T::log_softmax_backward(&elements(x)?, &elements(dy)?, row)?, x.shape()))
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
