//! Convolutions: a product of matrices, of the patches that the kernel sees, with the kernel.

use std::mem::MaybeUninit;

use candle_core::{DType, Tensor, WithDType};
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_kernels::fill::filled;
use treex_kernels::vector::Vectors;

use crate::ops::add::add;
use crate::ops::correlate::{Channels, Correlation};
use crate::ops::geometry::{Geometry, Movement};
use crate::ops::patches::{Axis, patches};

/// `x`, `[batch.., *spatial, cin]`, with `kernel`, `[*size, cin / groups, cout]`, and `bias`, `[cout]`, added, as
/// `[batch.., *positions, cout]`. They have one element type.
///
/// On the CPU it is one operation for all floats; 16-bit ones are computed in `F32`. It multiplies neither the zeros
/// of a dilated input nor, backward, those that a stride leaves between positions.
pub(crate) fn convolution(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &[Axis],
    groups: usize,
) -> Result<Tensor> {
    let rank = window.len();
    let (batch, item) = x.dims().split_at(x.rank() - rank - 1);
    let (cin, cout) = (item[rank], kernel.dim(rank + 1)?);
    let positions = window.iter().zip(item).map(|(axis, &n)| axis.positions(n));
    let dims: Vec<usize> = batch.iter().copied().chain(positions).chain([cout]).collect();

    let dtype = x.dtype();
    let has_kernel =
        x.device().is_cpu() && matches!(dtype, DType::BF16 | DType::F16 | DType::F32 | DType::F64);
    let is_empty = x.elem_count() == 0 || kernel.elem_count() == 0 || dims.contains(&0);
    let fits = !is_reference() && has_kernel && !is_empty && rank > 0;
    let movements: Vec<_> = window.iter().zip(item).map(|(axis, &n)| Movement::new(axis, n)).collect();
    let back: Vec<_> = movements.iter().map(Movement::transposed).collect();
    let (Some(forward), Some(backward)) = (
        fits.then(|| Geometry::new(&movements, cin)).flatten(),
        fits.then(|| Geometry::new(&back, cout)).flatten(),
    ) else {
        return plain(x, kernel, bias, window, groups, dims);
    };
    let operation = Convolution {
        x: wide(x)?,
        kernel: wide(kernel)?,
        has_bias: bias.is_some(),
        dtype,
        forward,
        backward,
        channels: Channels { cin, cout, groups },
        batch: batch.iter().product(),
    };
    let bias_values = bias.map(wide).transpose()?;
    let y = match operation.x.dtype() {
        DType::F64 => operation.call::<f64>(bias_values.as_ref(), dims)?,
        _ => operation.call::<f32>(bias_values.as_ref(), dims)?,
    };
    match bias {
        Some(bias) => attach(operation, &[x, kernel, bias], y),
        None => attach(operation, &[x, kernel], y),
    }
}

fn plain(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &[Axis],
    groups: usize,
    dims: Vec<usize>,
) -> Result<Tensor> {
    let rank = window.len();
    let (per_group, cout) = (kernel.dim(rank)?, kernel.dim(rank + 1)?);
    let places: usize = window.iter().map(|axis| axis.size).product();
    let (batch, item) = x.dims().split_at(x.rank() - rank - 1);
    let x = x.reshape([&[batch.iter().product()], item].concat())?;
    let rows: usize = dims[..dims.len() - 1].iter().product();

    // [rows, places, cin] by [places, cin / groups, cout], each group by itself.
    let patches = seen(&x, window)?;
    let y = if groups == 1 {
        patches.reshape((rows, places * per_group))?.matmul(&kernel.flatten(0, rank)?)?
    } else {
        let patches = patches.reshape((rows, places, groups, per_group))?.permute((2, 0, 1, 3))?;
        let kernel = kernel.reshape((places, per_group, groups, cout / groups))?.permute((2, 0, 1, 3))?;
        let patches = patches.reshape((groups, rows, places * per_group))?;
        let kernel = kernel.reshape((groups, places * per_group, cout / groups))?;
        patches.matmul(&kernel)?.transpose(0, 1)?.reshape((rows, cout))?
    };
    let y = match bias {
        Some(bias) => add(&y, bias)?,
        None => y,
    };
    Ok(y.reshape(dims)?)
}

/// `x`, `[batch, *spatial, cin]`, with a kernel for each position, `[*positions, cin · places, cout]`, as
/// `[batch, *positions, cout]`.
pub(crate) fn local_convolution(x: &Tensor, kernel: &Tensor, window: &[Axis]) -> candle_core::Result<Tensor> {
    let rank = window.len();
    let (batch, cin, cout) = (x.dim(0)?, x.dim(rank + 1)?, kernel.dim(rank + 1)?);
    let places: usize = window.iter().map(|axis| axis.size).product();
    let positions: Vec<usize> =
        window.iter().zip(&x.dims()[1..]).map(|(axis, &n)| axis.positions(n)).collect();
    let dims = [&[batch], &positions[..], &[cout]].concat();
    let positions: usize = positions.iter().product();

    // For each position, [batch, cin, places] by [cin, places, cout].
    let patches = seen(x, window)?.reshape((batch, positions, places, cin))?.permute((1, 0, 3, 2))?;
    let patches = patches.reshape((positions, batch, cin * places))?;
    let y = patches.matmul(&kernel.reshape((positions, cin * places, cout))?)?;
    y.transpose(0, 1)?.reshape(dims)
}

/// The patches, or the input itself where they would be equal.
fn seen(x: &Tensor, window: &[Axis]) -> candle_core::Result<Tensor> {
    if is_pointwise(window) { Ok(x.clone()) } else { patches(x, window) }
}

/// Whether each position sees exactly the element of the same index.
fn is_pointwise(window: &[Axis]) -> bool {
    window
        .iter()
        .all(|axis| axis.size == 1 && axis.stride == 1 && axis.zeros == (0, 0) && axis.input_dilation == 1)
}

/// What backward needs: input and kernel, as they are computed with.
struct Convolution {
    x: Tensor,
    kernel: Tensor,
    has_bias: bool,
    dtype: DType,
    forward: Geometry,
    backward: Geometry,
    channels: Channels,
    batch: usize,
}

impl Convolution {
    fn call<T: Vectors + WithDType>(&self, bias: Option<&Tensor>, dims: Vec<usize>) -> Result<OwnedStorage> {
        let (x, kernel) = (&*elements::<T>(&self.x)?, &*elements::<T>(&self.kernel)?);
        let bias = bias.map(elements::<T>).transpose()?;
        let (geometry, channels, batch) = (&self.forward, self.channels, self.batch);
        let correlation = Correlation { geometry, channels, batch };
        // SAFETY: `y` is as large as batch, positions and channels, and all of it is written.
        let y = unsafe {
            filled(dims.iter().product(), |y: &mut [MaybeUninit<T>]| {
                correlation.write(y.as_mut_ptr().cast(), x, kernel, false, bias.as_deref());
            })?
        };
        self.narrowed(y, dims)
    }

    fn gradients<T: Vectors + WithDType>(
        &self,
        dy: &Tensor,
        cx: &BackwardContext,
    ) -> Result<Vec<Option<Tensor>>> {
        let (x, kernel) = (&*elements::<T>(&self.x)?, &*elements::<T>(&self.kernel)?);
        let dy = &*elements::<T>(dy)?;
        let batch = self.batch;
        let dx = || {
            let correlation =
                Correlation { geometry: &self.backward, channels: self.channels.transposed(), batch };
            // SAFETY: the positions of the transpose are the elements of the input, and all of them are written.
            let dx = unsafe {
                filled(x.len(), |dx: &mut [MaybeUninit<T>]| {
                    correlation.write(dx.as_mut_ptr().cast(), dy, kernel, true, None);
                })?
            };
            self.narrowed(dx, self.x.dims().to_vec())
        };
        let dx = cx.wanted(0).then(dx).transpose()?.map(OwnedStorage::into_tensor);
        if !cx.wanted(1) && !cx.wanted(2) {
            return Ok(vec![dx, None, None]);
        }
        let correlation = Correlation { geometry: &self.forward, channels: self.channels, batch };
        let (dkernel, dbias) = correlation.kernel_gradient(x, dy);
        let dkernel = self.narrowed(dkernel, self.kernel.dims().to_vec())?.into_tensor();
        let dbias = self.narrowed(dbias, vec![self.channels.cout])?.into_tensor();
        Ok(vec![dx, cx.wanted(1).then_some(dkernel), cx.wanted(2).then_some(dbias)])
    }

    /// In the element type of the layer.
    fn narrowed<T: WithDType>(&self, elements: Vec<T>, dims: Vec<usize>) -> Result<OwnedStorage> {
        let fresh = OwnedStorage::new(elements, dims)?;
        if T::DTYPE == self.dtype {
            return Ok(fresh);
        }
        OwnedStorage::take(fresh.into_tensor().to_dtype(self.dtype)?)
    }
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let inputs = if self.has_bias { 3 } else { 2 };
        let dy = wide(cx.cotangent()?)?;
        let mut gradients = match dy.dtype() {
            DType::F64 => self.gradients::<f64>(&dy, cx)?,
            _ => self.gradients::<f32>(&dy, cx)?,
        };
        gradients.truncate(inputs);
        Ok(gradients)
    }
}

/// The values in memory of their own order, 16-bit ones as `F32`.
fn wide(x: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.detach();
    let x = if matches!(x.dtype(), DType::F16 | DType::BF16) { x.to_dtype(DType::F32)? } else { x };
    x.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    struct Case {
        x: Vec<usize>,
        kernel: Vec<usize>,
        window: Vec<Axis>,
        groups: usize,
    }

    /// The value, and the gradients of the sum of its products with fixed numbers.
    fn value_and_gradients(case: &Case, dtype: DType) -> Result<Vec<Vec<f64>>> {
        let normal = |seed: u32, dims: &[usize]| -> Result<Tensor> {
            Ok(Key::from(seed).normal(dims, DType::F64)?.to_dtype(DType::F32)?.to_dtype(dtype)?)
        };
        // Views, since a variable is a copy.
        let backwards: Vec<usize> = case.x.iter().rev().copied().collect();
        let x = Var::from_tensor(&normal(0, &backwards)?)?;
        let order: Vec<usize> = (0..case.x.len()).rev().collect();
        let kernel = Var::from_tensor(&normal(1, &case.kernel)?)?;
        let bias = Var::from_tensor(&normal(2, &case.kernel[case.kernel.len() - 1..])?)?;
        let y = convolution(&x.permute(order)?, &kernel, Some(&bias), &case.window, case.groups)?;
        let grads = (&y * normal(3, y.dims())?)?.sum_all()?.backward()?;
        let flat =
            |x: &Tensor| -> Result<Vec<f64>> { Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?) };
        let mut all = vec![flat(&y)?];
        for input in [&x, &kernel, &bias] {
            all.push(grads.get(input).map_or(Ok(vec![0.; input.elem_count()]), flat)?);
        }
        Ok(all)
    }

    fn assert_close(found: &[Vec<f64>], wanted: &[Vec<f64>], tolerance: f64, what: &str) {
        assert_eq!(found.len(), wanted.len(), "{what}");
        for (part, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            assert_eq!(found.len(), wanted.len(), "{what}");
            let largest = wanted.iter().fold(1f64, |largest, x| largest.max(x.abs()));
            for (found, wanted) in found.iter().zip(wanted) {
                let far = (found - wanted).abs() > tolerance * largest;
                assert!(!far && found.is_finite(), "{what}, part {part}: {found} for {wanted}");
            }
        }
    }

    /// Large enough for all cores, several ranges of positions, several chunks of channels and blocks of the kernel.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis = Axis { size: 3, stride: 1, zeros: (1, 1), window_dilation: 1, input_dilation: 1 };
        let wide_step = Axis { stride: 2, zeros: (0, 1), ..axis };
        for (batch, axis, [cin, cout, groups]) in [
            (9, axis, [33, 150, 1]),
            (1, wide_step, [48, 64, 1]),
            (5, axis, [96, 96, 96]),
            (3, wide_step, [40, 80, 2]),
            (2, Axis { input_dilation: 2, ..axis }, [20, 64, 1]),
        ] {
            let x = vec![batch, 21, 20, cin];
            let kernel = vec![3, 3, cin / groups, cout];
            let case = Case { x, kernel, window: vec![axis, axis], groups };
            let exact = with_reference(|| value_and_gradients(&case, DType::F64))?;
            let found = value_and_gradients(&case, DType::F64)?;
            assert_close(&found, &exact, 1e-13, &format!("{batch} {axis:?}"));
            assert_close(
                &value_and_gradients(&case, DType::F32)?,
                &exact,
                1e-5,
                &format!("{batch} {axis:?}"),
            );
            assert!(found == value_and_gradients(&case, DType::F64)?, "another run, other bits");
        }
        Ok(())
    }
}
