//! A linear map with its bias, as one operation: that of `Linear` and `DenseGeneral`.
//!
//! `y[b, j] = Σ_i x[b, i] kernel[i, j] + bias[j]`, where `i` and `j` may each be several axes. The gradients are two
//! products of matrices and a sum over rows, each computed only if it is needed.

use std::marker::PhantomData;

use candle_core::{Shape, Tensor, WithDType};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_core::device::{self, has_kernels};
use treex_core::matmul::product;
use treex_core::{Result, match_float, matmul};
use treex_kernels::matmul::{MatMul, Matrix};
use treex_kernels::sum_axis0::SumAxis0;

use super::add::add;

/// The product of `x` and `kernel` over the last `axes` axes of `x` and the first `axes` axes of `kernel`, plus `bias`,
/// which has the other axes of `kernel`. All have one type, and the sizes match.
pub fn linear(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, axes: usize) -> Result<Tensor> {
    if is_reference() || [x, kernel].into_iter().any(|x| !has_kernels(x)) {
        return reference(x, kernel, bias, axes);
    }
    if !x.device().is_cpu() {
        return on_device(x, kernel, bias, axes);
    }
    match_float!(
        x.dtype(),
        T in [f32, f64] => forward::<T>(x, kernel, bias, axes),
        else reference(x, kernel, bias, axes)
    )
}

/// The sizes of batch, inputs and outputs, and the shape of the result.
fn sizes(x: &Tensor, kernel: &Tensor, axes: usize) -> ([usize; 3], Vec<usize>) {
    let (batch, inputs) = x.dims().split_at(x.rank() - axes);
    let outputs = &kernel.dims()[axes..];
    let count = |dims: &[usize]| dims.iter().product();
    ([count(batch), count(inputs), count(outputs)], [batch, outputs].concat())
}

fn reference(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, axes: usize) -> Result<Tensor> {
    let ([rows, inputs, outputs], shape) = sizes(x, kernel, axes);
    let mut y = matmul(&x.reshape((rows, inputs))?, &kernel.reshape((inputs, outputs))?)?;
    if let Some(bias) = bias {
        y = add(&y, &bias.flatten_all()?)?;
    }
    Ok(y.reshape(shape)?)
}

fn forward<T: Element>(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, axes: usize) -> Result<Tensor> {
    let (sizes, shape) = sizes(x, kernel, axes);
    let [rows, inputs, outputs] = sizes;
    let (x_now, kernel_now) = (x.detach().contiguous()?, kernel.detach().contiguous()?);
    let y = {
        let (a, b) = (elements::<T>(&x_now)?, elements::<T>(&kernel_now)?);
        let (a, b) = (Matrix::new(&a, rows, inputs)?, Matrix::new(&b, inputs, outputs)?);
        let bias = bias.map(|bias| bias.detach().contiguous()).transpose()?;
        let bias = bias.as_ref().map(elements::<T>).transpose()?;
        T::matmul(a, b, bias.as_deref(), true)?
    };
    let operation = Linear {
        x: x_now,
        kernel: kernel_now,
        sizes,
        bias: bias.map(Tensor::detach),
        element: PhantomData::<fn() -> T>,
    };
    let operands: Vec<_> = [x, kernel].into_iter().chain(bias).collect();
    attach(operation, &operands, OwnedStorage::new(y, shape)?)
}

/// Products by the device's library, and a launch for the bias.
fn on_device(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, axes: usize) -> Result<Tensor> {
    let ([rows, inputs, outputs], shape) = sizes(x, kernel, axes);
    let Some(bias) = bias else { return reference(x, kernel, None, axes) };
    let x_now = x.detach().reshape((rows, inputs))?;
    let kernel_now = kernel.detach().reshape((inputs, outputs))?;
    let y = product(&x_now, &kernel_now)?.into_tensor().reshape(shape)?;
    let y = device::add::add(&y, &bias.detach().contiguous()?)?;
    let shapes = [x, kernel, bias].map(|operand| operand.shape().clone());
    attach(LinearOnDevice { x: x_now, kernel: kernel_now, shapes }, &[x, kernel, bias], y)
}

struct LinearOnDevice {
    x: Tensor,
    kernel: Tensor,
    shapes: [Shape; 3],
}

impl Operation for LinearOnDevice {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let (rows, outputs) = (self.x.dim(0)?, self.kernel.dim(1)?);
        let dy = cx.cotangent()?.contiguous()?.reshape((rows, outputs))?;
        let gradient = |index: usize, compute: &dyn Fn() -> Result<OwnedStorage>| {
            let gradient = || -> Result<_> { Ok(compute()?.into_tensor().reshape(&self.shapes[index])?) };
            cx.wanted(index).then(gradient).transpose()
        };
        Ok(vec![
            gradient(0, &|| product(&dy, &self.kernel.t()?))?,
            gradient(1, &|| product(&self.x.t()?, &dy))?,
            gradient(2, &|| device::sum_axis0::sum_axis0(&dy, outputs))?,
        ])
    }
}

/// The element types that matrices are multiplied in.
trait Element: WithDType + MatMul + SumAxis0 {}

impl Element for f32 {}
impl Element for f64 {}

struct Linear<T> {
    x: Tensor,
    kernel: Tensor,
    bias: Option<Tensor>,
    sizes: [usize; 3],
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Operation for Linear<T> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let [rows, inputs, outputs] = self.sizes;
        let gradient = cx.cotangent()?.contiguous()?;
        let gradient = elements::<T>(&gradient)?;
        let dy = Matrix::new(&gradient, rows, outputs)?;
        let gradient_of = |index: usize, like: &Tensor, compute: &dyn Fn() -> Result<Vec<T>>| {
            let gradient = || -> Result<_> { Ok(OwnedStorage::new(compute()?, like.shape())?.into_tensor()) };
            cx.wanted(index).then(gradient).transpose()
        };
        let dx = || {
            Ok(T::matmul(dy, Matrix::new(&elements::<T>(&self.kernel)?, inputs, outputs)?.t(), None, true)?)
        };
        let dkernel =
            || Ok(T::matmul(Matrix::new(&elements::<T>(&self.x)?, rows, inputs)?.t(), dy, None, true)?);
        let dbias = || Ok(T::sum_axis0(&gradient, outputs)?);
        let mut gradients = vec![gradient_of(0, &self.x, &dx)?, gradient_of(1, &self.kernel, &dkernel)?];
        if let Some(bias) = &self.bias {
            gradients.push(gradient_of(2, bias, &dbias)?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use treex_core::autograd::with_reference;
    use treex_core::{Key, Leaf, Parameter, value_and_grad};

    use super::*;

    /// The value, and the gradients of its product with fixed numbers.
    fn value_and_gradients(
        leaves: &(Leaf<Parameter>, Leaf<Parameter>, Option<Leaf<Parameter>>),
        axes: usize,
    ) -> Result<Vec<Tensor>> {
        let mut value = None;
        let (_, (dx, dkernel, dbias)) = value_and_grad(leaves, |(x, kernel, bias)| {
            let bias = bias.as_ref().map(Leaf::get).transpose()?;
            let y = linear(&x.get()?, &kernel.get()?, bias.as_ref(), axes)?;
            value = Some(y.detach());
            let weights = Key::from(9).normal(y.shape(), DType::F64)?.to_dtype(y.dtype())?;
            Ok((y * weights)?.sum_all()?)
        })?;
        let gradients = [Some(dx.get()?), Some(dkernel.get()?), dbias.map(|b| b.get()).transpose()?];
        Ok(value.into_iter().chain(gradients.into_iter().flatten()).collect())
    }

    fn normal(seed: u64, shape: impl Into<Shape>, dtype: DType) -> Result<Leaf<Parameter>> {
        Leaf::new(Key::from(seed).normal(shape.into(), DType::F64)?.to_dtype(dtype)?)
    }

    #[test]
    fn agrees_with_the_reference_composition() -> Result<()> {
        let shapes: [(&[usize], &[usize], usize); 8] = [
            (&[7, 5], &[5, 3], 1),
            (&[5], &[5, 3], 1),
            (&[2, 3, 5], &[5, 2, 4], 1),
            (&[4, 3, 2, 5], &[2, 5, 7], 2),
            (&[0, 5], &[5, 3], 1),
            (&[3, 0], &[0, 4], 1),
            (&[3, 2], &[2, 0], 1),
            (&[130, 70], &[70, 90], 1),
        ];
        for (x, kernel, axes) in shapes {
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                for has_bias in [true, false] {
                    let bias = has_bias.then(|| normal(2, &kernel[axes..], dtype)).transpose()?;
                    let leaves = (normal(0, x, dtype)?, normal(1, kernel, dtype)?, bias);
                    let ours = value_and_gradients(&leaves, axes)?;
                    let reference = with_reference(|| value_and_gradients(&leaves, axes))?;
                    // In half types Candle rounds after each row that it adds.
                    let tolerance = match dtype {
                        DType::F64 => 1e-12,
                        DType::F32 => 1e-5,
                        _ => 5e-2,
                    };
                    for (ours, reference) in ours.iter().zip(&reference) {
                        assert_eq!((ours.shape(), ours.dtype()), (reference.shape(), reference.dtype()));
                        let numbers = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
                        let (ours, reference) = (numbers(ours)?, numbers(reference)?);
                        let largest = reference.iter().fold(1., |largest: f64, x| largest.max(x.abs()));
                        let far =
                            ours.iter().zip(&reference).any(|(a, b)| (a - b).abs() > tolerance * largest);
                        assert!(!far, "{x:?} {kernel:?} {dtype:?}: {ours:?} {reference:?}");
                    }
                }
            }
        }
        Ok(())
    }
}
