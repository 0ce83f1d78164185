//! Convolutions as operations on tensors. The kernels are [`treex_kernels::convolution`]; the reference
//! composition is a product of matrices, of what a window reads (im2col) with the kernel.

mod on_device;

use std::marker::PhantomData;

use candle_core::{DType, Shape, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::device::has_kernels;
use treex_core::device::im2col::Windows;
use treex_core::size::check_size;
use treex_core::{Result, match_float, matmul};
use treex_kernels::convolution::{Channels, Convolution, Plan};
use treex_kernels::float::Float;

use crate::dtype::{wide_dtype, widened};
use crate::ops::add::add;
use crate::ops::im2col::{Axis, im2col};

/// `x`, `[batch.., *spatial, cin]`, with `kernel`, `[*size, cin / groups, cout]`, and `bias`, `[cout]`,
/// added, as `[batch.., *positions, cout]`. They have one element type.
///
/// On the CPU it is one operation for all floats; 16-bit ones are computed in `F32`. It multiplies neither
/// the zeros of a dilated input nor, backward, those that a stride leaves between output positions.
pub fn convolution(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &[Axis],
    groups: usize,
) -> Result<Tensor> {
    let rank = window.len();
    let (batch, item) = x.dims().split_at(x.rank() - rank - 1);
    let channels = Channels { cin: item[rank], cout: kernel.dim(rank + 1)?, groups };
    let positions = window.iter().zip(item).map(|(axis, &n)| axis.positions(n));
    let dims: Vec<usize> = batch.iter().copied().chain(positions).chain([channels.cout]).collect();
    check_size(&dims.clone().into(), x.dtype())?;
    if is_reference() || ![x, kernel].into_iter().all(has_kernels) || kernel.elem_count() == 0 {
        return reference(x, kernel, bias, window, groups, dims);
    }
    if !x.device().is_cpu() {
        let windows = Windows::new(batch.iter().product(), &item[..rank], channels.cin, window)?;
        return match windows {
            Some(windows) => on_device::convolution(windows, [x, kernel], bias, groups, dims),
            None => reference(x, kernel, bias, window, groups, dims),
        };
    }
    let Some(plan) = Plan::new(batch.iter().product(), &item[..rank], channels, window)? else {
        return reference(x, kernel, bias, window, groups, dims);
    };
    match_float!(
        x.dtype(),
        T in [f32, f64, bf16, f16] => forward::<<T as Float>::Wide>(plan, x, kernel, bias, dims),
        else reference(x, kernel, bias, window, groups, dims)
    )
}

fn forward<T: Element + Convolution>(
    plan: Plan,
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    dims: Vec<usize>,
) -> Result<Tensor> {
    let operation = Convolve {
        plan,
        x: widened(&x.detach())?.contiguous()?,
        kernel: widened(&kernel.detach())?.contiguous()?,
        has_bias: bias.is_some(),
        dtype: x.dtype(),
        element: PhantomData::<T>,
    };
    let bias_values = bias.map(|bias| widened(bias)?.contiguous()).transpose()?;
    let y = {
        let bias = bias_values.as_ref().map(elements::<T>).transpose()?;
        let (x, kernel) = (elements::<T>(&operation.x)?, elements::<T>(&operation.kernel)?);
        T::convolution(&operation.plan, &x, &kernel, bias.as_deref())?
    };
    let y = operation.narrowed(y, dims)?;
    match bias {
        Some(bias) => attach(operation, &[x, kernel, bias], y),
        None => attach(operation, &[x, kernel], y),
    }
}

/// What backward needs: input and kernel, in the type that is computed in.
struct Convolve<T> {
    plan: Plan,
    x: Tensor,
    kernel: Tensor,
    has_bias: bool,
    /// That of the layer.
    dtype: DType,
    element: PhantomData<T>,
}

impl<T: Element + Convolution> Convolve<T> {
    /// In the element type of the layer.
    fn narrowed(&self, elements: Vec<T>, dims: impl Into<Shape>) -> Result<OwnedStorage> {
        let wide = OwnedStorage::new(elements, dims)?;
        if T::DTYPE == self.dtype {
            return Ok(wide);
        }
        OwnedStorage::take(wide.into_tensor().to_dtype(self.dtype)?)
    }
}

impl<T: Element + Convolution> Operation for Convolve<T> {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = widened(&cx.cotangent()?.detach())?.contiguous()?;
        let dy = elements::<T>(&dy)?;
        let mut gradients = vec![None; if self.has_bias { 3 } else { 2 }];
        if cx.wanted(0) {
            let dx = T::convolution_input_gradient(&self.plan, &elements::<T>(&self.kernel)?, &dy)?;
            gradients[0] = Some(self.narrowed(dx, self.x.shape())?.into_tensor());
        }
        if cx.wanted(1) || cx.wanted(2) {
            let (dkernel, dbias) = T::convolution_kernel_gradient(&self.plan, &elements::<T>(&self.x)?, &dy)?;
            if cx.wanted(1) {
                gradients[1] = Some(self.narrowed(dkernel, self.kernel.shape())?.into_tensor());
            }
            if cx.wanted(2) {
                let cout = dbias.len();
                gradients[2] = Some(self.narrowed(dbias, cout)?.into_tensor());
            }
        }
        Ok(gradients)
    }
}

fn reference(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &[Axis],
    groups: usize,
    dims: Vec<usize>,
) -> Result<Tensor> {
    let rank = window.len();
    let (per_group, cout) = (kernel.dim(rank)?, kernel.dim(rank + 1)?);
    let taps: usize = window.iter().map(|axis| axis.size).product();
    let (dtype, wide) = (x.dtype(), wide_dtype(x.dtype()));
    let (batch, item) = x.dims().split_at(x.rank() - rank - 1);
    let x = x.to_dtype(wide)?.reshape([&[batch.iter().product()], item].concat())?;
    let kernel = kernel.to_dtype(wide)?;
    let rows: usize = dims[..dims.len() - 1].iter().product();

    // [rows, taps, cin] by [taps, cin / groups, cout], each group by itself.
    let columns = columns(&x, window)?;
    let y = if groups == 1 {
        matmul(&columns.reshape((rows, taps * per_group))?, &kernel.flatten(0, rank)?)?
    } else {
        let columns = columns.reshape((rows, taps, groups, per_group))?.permute((2, 0, 1, 3))?;
        let kernel = kernel.reshape((taps, per_group, groups, cout / groups))?.permute((2, 0, 1, 3))?;
        let columns = columns.reshape((groups, rows, taps * per_group))?;
        let kernel = kernel.reshape((groups, taps * per_group, cout / groups))?;
        matmul(&columns, &kernel)?.transpose(0, 1)?.reshape((rows, cout))?
    };
    let y = match bias {
        Some(bias) => add(&y, &bias.to_dtype(wide)?)?,
        None => y,
    };
    Ok(y.reshape(dims)?.to_dtype(dtype)?)
}

/// `x`, `[batch, *spatial, cin]`, with a kernel for each output position, `[*positions, cin · taps, cout]`,
/// as `[batch, *positions, cout]`; half types are computed in `F32` and rounded once.
pub fn local_convolution(x: &Tensor, kernel: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let (rank, dtype, wide) = (window.len(), x.dtype(), wide_dtype(x.dtype()));
    let (x, kernel) = (&x.to_dtype(wide)?, kernel.to_dtype(wide)?);
    let (batch, cin, cout) = (x.dim(0)?, x.dim(rank + 1)?, kernel.dim(rank + 1)?);
    let taps: usize = window.iter().map(|axis| axis.size).product();
    let positions: Vec<usize> =
        window.iter().zip(&x.dims()[1..]).map(|(axis, &n)| axis.positions(n)).collect();
    let dims = [&[batch], &positions[..], &[cout]].concat();
    check_size(&dims.clone().into(), x.dtype())?;
    let positions: usize = positions.iter().product();

    // For each output position, [batch, cin, taps] by [cin, taps, cout].
    let columns = columns(x, window)?.reshape((batch, positions, taps, cin))?.permute((1, 0, 3, 2))?;
    let columns = columns.reshape((positions, batch, cin * taps))?;
    let y = matmul(&columns, &kernel.reshape((positions, cin * taps, cout))?)?;
    Ok(y.transpose(0, 1)?.reshape(dims)?.to_dtype(dtype)?)
}

/// What the window reads, or the input itself where it would be equal.
fn columns(x: &Tensor, window: &[Axis]) -> candle_core::Result<Tensor> {
    if is_pointwise(window) { Ok(x.clone()) } else { im2col(x, window) }
}

/// Whether each output position reads exactly the element of the same index.
fn is_pointwise(window: &[Axis]) -> bool {
    window
        .iter()
        .all(|axis| axis.size == 1 && axis.stride == 1 && axis.padding == (0, 0) && axis.input_dilation == 1)
}

#[cfg(test)]
mod tests {
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    struct Case {
        x: Vec<usize>,
        kernel: Vec<usize>,
        window: Vec<Axis>,
        groups: usize,
    }

    fn run(case: &Case, dtype: DType) -> Result<Vec<Vec<f64>>> {
        let normal = |seed: u32, dims: &[usize]| -> Result<Tensor> {
            Ok(Key::from(seed).normal(dims, DType::F64)?.to_dtype(DType::F32)?.to_dtype(dtype)?)
        };
        // The convolution of a view.
        let backwards: Vec<usize> = case.x.iter().rev().copied().collect();
        let order: Vec<usize> = (0..case.x.len()).rev().collect();
        let bias = normal(2, &case.kernel[case.kernel.len() - 1..])?;
        let inputs = [&normal(0, &backwards)?, &normal(1, &case.kernel)?, &bias];
        value_and_gradients(inputs, |[x, kernel, bias]| {
            convolution(&x.permute(order)?, kernel, Some(bias), &case.window, case.groups)
        })
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

    /// Large enough for all cores, several ranges of output positions, several chunks of channels and blocks
    /// of the kernel.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis = Axis { size: 3, stride: 1, padding: (1, 1), window_dilation: 1, input_dilation: 1 };
        let wide_step = Axis { stride: 2, padding: (0, 1), ..axis };
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
            let exact = with_reference(|| run(&case, DType::F64))?;
            let found = run(&case, DType::F64)?;
            assert_close(&found, &exact, 1e-13, &format!("{batch} {axis:?}"));
            assert_close(&run(&case, DType::F32)?, &exact, 1e-5, &format!("{batch} {axis:?}"));
            assert!(found == run(&case, DType::F64)?, "another run, other bits");
        }
        Ok(())
    }
}
