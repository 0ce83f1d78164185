//! Products of matrices, as an operation that sums half types in `F32`.

use candle_core::backend::BackendStorage;
use candle_core::{DType, Shape, Storage, Tensor};
use treex_kernels::float::Float;
use treex_kernels::matmul::MatMul;

use crate::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference};
use crate::device::has_kernels;
use crate::error::{Error, Result};
use crate::with_elements;

/// `a · b` over the last two axes, `[batch.., m, k]` by `[batch.., k, n]`.
///
/// Half types are multiplied and summed in `F32` and rounded once, and so are their gradients; on the CPU, Candle's `matmul` adds
/// up some products of half types in their own precision. On the CPU it runs on all cores, and each row of a result has
/// the same bits in a product of any number of rows.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::ones((1, 5000), DType::F16, &Device::Cpu)?;
/// assert_eq!(treex_core::matmul(&x, &x.t()?)?.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[5000.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, element types or devices do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let sizes = Sizes::of(a, b)?;
    let have_kernels = has_kernels(a) && has_kernels(b) && a.device().same_device(b.device());
    if is_reference() || !have_kernels {
        return reference(a, b);
    }
    let operation = Product { a: Operand::new(a)?, b: Operand::new(b)?, sizes };
    let y = multiply(sizes, &operation.a, &operation.b, batch(a))?;
    attach(operation, &[a, b], y)
}

/// [`matmul`] outside of any graph, of tensors that have kernels.
///
/// # Errors
/// As `matmul`.
pub fn product(a: &Tensor, b: &Tensor) -> Result<OwnedStorage> {
    multiply(Sizes::of(a, b)?, &Operand::new(a)?, &Operand::new(b)?, batch(a))
}

/// The number of matrices, and their sizes `[m, k, n]`.
#[derive(Clone, Copy)]
struct Sizes {
    count: usize,
    matrix: [usize; 3],
}

impl Sizes {
    fn of(a: &Tensor, b: &Tensor) -> Result<Self> {
        let fits = a.dtype() == b.dtype();
        match (a.dims(), b.dims()) {
            ([batch @ .., m, k], [other @ .., inner, n]) if fits && batch == other && k == inner => {
                Ok(Self { count: batch.iter().product(), matrix: [*m, *k, *n] })
            }
            (a_dims, b_dims) => Err(Error::shape("two tensors cannot be multiplied as matrices")
                .expected("[batch.., m, k] and [batch.., k, n] of one element type")
                .found(format!("{a_dims:?} `{}` and {b_dims:?} `{}`", a.dtype().as_str(), b.dtype().as_str()))
                .remedy("cast or reshape one of them; `broadcast_as` gives both the same batch dimensions")),
        }
    }
}

/// In `F32`, if of a half type.
fn widened(x: &Tensor) -> candle_core::Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}

fn reference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let laid_out = |x: &Tensor| -> candle_core::Result<Tensor> {
        let is_transposed = x.t()?.is_contiguous();
        if is_transposed { Ok(x.clone()) } else { x.contiguous() }
    };
    Ok(laid_out(&widened(a)?)?.matmul(&laid_out(&widened(b)?)?)?.to_dtype(a.dtype())?)
}

/// The memory of an operand, in its own type: its matrices row by row, or column by column.
struct Operand {
    x: Tensor,
    is_transposed: bool,
}

impl Operand {
    fn new(x: &Tensor) -> Result<Self> {
        let x = x.detach();
        if x.is_contiguous() {
            return Ok(Self { x, is_transposed: false });
        }
        let t = x.t()?;
        if t.is_contiguous() {
            return Ok(Self { x: t, is_transposed: true });
        }
        Ok(Self { x: x.contiguous()?, is_transposed: false })
    }

    fn t(&self) -> Self {
        Self { x: self.x.clone(), is_transposed: !self.is_transposed }
    }

    /// As a view `[count, rows, columns]`.
    fn matrices(&self, count: usize, [rows, columns]: [usize; 2]) -> Result<Tensor> {
        if self.is_transposed {
            return Ok(self.x.reshape((count, columns, rows))?.t()?);
        }
        Ok(self.x.reshape((count, rows, columns))?)
    }
}

/// The dimensions before those of matrices.
fn batch(x: &Tensor) -> &[usize] {
    &x.dims()[..x.rank() - 2]
}

/// `a · b`, `[batch.., m, n]`.
fn multiply(sizes: Sizes, a: &Operand, b: &Operand, batch: &[usize]) -> Result<OwnedStorage> {
    let [m, _, n] = sizes.matrix;
    if !a.x.device().same_device(b.x.device()) {
        return Err(Error::argument("two matrices are on different devices")
            .expected(format!("both on {:?}", a.x.device().location()))
            .found(format!("{:?}", b.x.device().location()))
            .remedy("move the model and its input to one device with `into_device` and `to_device`"));
    }
    let dims = [batch, &[m, n]].concat();
    if !a.x.device().is_cpu() {
        return on_device(sizes, a, b, dims.into());
    }
    with_elements!(a.x, T => on_cpu::<<T as Float>::Wide>(sizes, a, b, &dims))
}

/// In the type to compute in, rounded to that of `a`.
fn on_cpu<T: Element + MatMul>(
    sizes: Sizes,
    a: &Operand,
    b: &Operand,
    dims: &[usize],
) -> Result<OwnedStorage> {
    let (x, y) = (widened(&a.x)?, widened(&b.x)?);
    let (x, y) = (elements::<T>(&x)?, elements::<T>(&y)?);
    let numbers = T::matmul_each(&x, &y, sizes.count, sizes.matrix, [a.is_transposed, b.is_transposed])?;
    let wide = OwnedStorage::new(numbers, dims)?;
    let dtype = a.x.dtype();
    if T::DTYPE == dtype { Ok(wide) } else { OwnedStorage::take(wide.into_tensor().to_dtype(dtype)?) }
}

/// By the device's library, which sums half types in `F32`.
fn on_device(sizes: Sizes, a: &Operand, b: &Operand, shape: Shape) -> Result<OwnedStorage> {
    let Sizes { count, matrix: [m, k, n] } = sizes;
    let (x, y) = (a.matrices(count, [m, k])?, b.matrices(count, [k, n])?);
    let ((x, x_layout), (y, y_layout)) = (x.storage_and_layout(), y.storage_and_layout());
    let storage = match (&*x, &*y) {
        (Storage::Cuda(x), Storage::Cuda(y)) => {
            Storage::Cuda(x.matmul(y, (count, m, n, k), x_layout, y_layout)?)
        }
        (Storage::Metal(x), Storage::Metal(y)) => {
            Storage::Metal(x.matmul(y, (count, m, n, k), x_layout, y_layout)?)
        }
        _ => {
            return Err(
                Error::argument("two matrices are on different kinds of devices").expected("one device")
            );
        }
    };
    Ok(OwnedStorage { storage, shape })
}

struct Product {
    a: Operand,
    b: Operand,
    sizes: Sizes,
}

impl Operation for Product {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let Sizes { count, matrix: [m, k, n] } = self.sizes;
        let gradient = cx.cotangent()?;
        let dy = Operand::new(gradient)?;
        let gradient = |index: usize, x: &Operand, y: &Operand, matrix: [usize; 3]| {
            let product = || multiply(Sizes { count, matrix }, x, y, batch(gradient));
            Ok::<_, Error>(cx.wanted(index).then(product).transpose()?.map(OwnedStorage::into_tensor))
        };
        Ok(vec![gradient(0, &dy, &self.b.t(), [m, n, k])?, gradient(1, &self.a.t(), &dy, [k, m, n])?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::autograd::with_reference;
    use crate::random::Key;

    fn numbers(x: &Tensor) -> Result<Vec<f64>> {
        Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    }

    /// The sum of 4,096 terms of half types, whose products are exact in `F32`: the error is that of one rounding.
    #[test]
    fn half_types_are_summed_wide() -> Result<()> {
        for (dtype, tolerance) in [(DType::F16, 1. / 2048.), (DType::BF16, 1. / 256.)] {
            let a = Key::from(0).normal((9, 4096), DType::F32)?.to_dtype(dtype)?;
            let b = Key::from(1).normal((4096, 40), DType::F32)?.to_dtype(dtype)?;
            let exact = numbers(&a.to_dtype(DType::F64)?.matmul(&b.to_dtype(DType::F64)?)?)?;
            for y in [matmul(&a, &b)?, with_reference(|| matmul(&a, &b))?] {
                assert_eq!(y.dtype(), dtype);
                for (found, exact) in numbers(&y)?.iter().zip(&exact) {
                    // Half of a unit in the last place, and the error of the sum in `F32`.
                    assert!((found - exact).abs() <= tolerance * exact.abs() + 1e-3, "{found} {exact}");
                }
            }
            // A row alone has the same bits.
            let all = matmul(&a, &b)?;
            for row in 0..9 {
                let alone = matmul(&a.narrow(0, row, 1)?, &b)?;
                assert_eq!(numbers(&alone)?, numbers(&all.narrow(0, row, 1)?)?, "{dtype:?} {row}");
            }
        }
        Ok(())
    }

    /// 100 and -100 in `F16`, of which a part overflows on the way.
    #[test]
    fn a_sum_that_cancels_is_not_infinite() -> Result<()> {
        let x: Vec<f32> = (0..3000).map(|at| if at < 1500 { 100. } else { -100. }).collect();
        let x = Tensor::new(x, &Device::Cpu)?.reshape((1, 3000))?.to_dtype(DType::F16)?;
        let y = matmul(&x, &x.ones_like()?.t()?)?;
        assert_eq!(numbers(&y)?, [0.]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() -> Result<()> {
        let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu);
        for (a, b) in [
            (zeros(&[2, 3], DType::F32)?, zeros(&[2, 3], DType::F32)?),
            (zeros(&[2, 3], DType::F32)?, zeros(&[3, 2], DType::F16)?),
            (zeros(&[3], DType::F32)?, zeros(&[3, 2], DType::F32)?),
            (zeros(&[5, 2, 3], DType::F32)?, zeros(&[1, 3, 2], DType::F32)?),
        ] {
            let error = matmul(&a, &b).unwrap_err().to_string();
            assert!(error.contains("cannot be multiplied") && error.contains("broadcast_as"), "{error}");
        }
        Ok(())
    }
}
