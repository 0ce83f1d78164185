//! Normalization as one operation: `(x - mean) / sqrt(var + epsilon) * scale + bias`.
//!
//! The reference composition is that of [`Normalization`](crate::functional::normalization::Normalization).

mod form;
mod on_device;

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach, elements};
use treex_core::device::has_kernels;
use treex_core::device::norm::Norm;
use treex_core::{Result, match_float};
use treex_kernels::math::Real;
pub use treex_kernels::norm::Extent;
use treex_kernels::norm::Statistics;
use treex_kernels::norm::group_norm::{BackwardOptions, GroupNorm};
use treex_kernels::norm::layer_norm::{LayerNorm, Moments};

use form::Form;
pub use form::{Normalized, Source};

/// `x` normalized, in its own type. Scale and bias are of any float type and have as many elements as a row; default:
/// 1 and 0. `None` where there is no kernel: for another device, another type, or no elements.
pub fn normalize(
    x: &Tensor,
    extent: Extent,
    source: Source<'_>,
    epsilon: f64,
    parameters: [Option<&Tensor>; 2],
) -> Result<Option<Normalized>> {
    if !has_kernels(x) || x.elem_count() == 0 {
        return Ok(None);
    }
    if !x.device().is_cpu() && !Norm::fits(extent) {
        return Ok(None);
    }
    if !x.device().is_cpu() {
        return on_device::normalize(x, extent, source, epsilon, parameters).map(Some);
    }
    let arguments = Arguments { x, extent, source, epsilon, parameters };
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => arguments.forward::<T>().map(Some), else Ok(None))
}

/// The arguments of [`normalize`].
struct Arguments<'t> {
    x: &'t Tensor,
    extent: Extent,
    source: Source<'t>,
    epsilon: f64,
    parameters: [Option<&'t Tensor>; 2],
}

impl Arguments<'_> {
    fn forward<T: Element + LayerNorm + GroupNorm>(self) -> Result<Normalized> {
        let Self { x, extent, source, epsilon, parameters: [scale, bias] } = self;
        let input = x.detach().contiguous()?;
        let scales = columns::<T::Wide>(scale, 1., extent)?;
        let biases = columns::<T::Wide>(bias, 0., extent)?;
        let (form, y, statistics, moments) = {
            let x = &*elements::<T>(&input)?;
            let of_rows = match source {
                Source::Input { use_fast_variance } => Moments::Centered { use_fast_variance },
                _ => Moments::Uncentered,
            };
            let moments: Option<Vec<_>> = match source {
                Source::Given { mean, var } => {
                    // The kernel clips variances at 0, which it needs for its own; the root of one that is given is NaN.
                    let var =
                        numbers(var)?.into_iter().map(|var| if var < -epsilon { f64::NAN } else { var });
                    Some(numbers(mean)?.into_iter().zip(var).collect())
                }
                Source::Input { use_fast_variance } if !extent.is_rows() => {
                    Some(T::group_moments(x, extent, use_fast_variance)?)
                }
                _ => None,
            };
            if let Some(moments) = moments {
                let (y, statistics) = T::group_norm(x, extent, &scales, &biases, &moments, epsilon)?;
                let is_given = matches!(source, Source::Given { .. });
                (Form::Groups { differentiates_moments: !is_given }, y, statistics, Some(moments))
            } else {
                let (y, statistics) = T::layer_norm(x, &scales, &biases, of_rows, epsilon)?;
                (Form::Rows(of_rows), y, statistics, None)
            }
        };
        let operation = Normalize::<T> {
            x: input,
            extent,
            form,
            scale: scales,
            statistics,
            parameters: [scale, bias].map(|part| part.map(|part| (part.shape().clone(), part.dtype()))),
        };
        let inputs: Vec<&Tensor> = [Some(x), scale, bias].into_iter().flatten().collect();
        let y = attach(operation, &inputs, OwnedStorage::new(y, x.shape())?)?;
        let moments = moments.map(|moments| -> Result<_> {
            // As in Flax, a variance that rounding made negative is 0; NaN stays.
            let clipped = |(mean, var)| (mean, if var < 0. { 0. } else { var });
            let (mean, var): (Vec<_>, Vec<_>) = moments.into_iter().map(clipped).unzip();
            Ok([Tensor::new(mean, &Device::Cpu)?, Tensor::new(var, &Device::Cpu)?])
        });
        Ok(Normalized { y, moments: moments.transpose()? })
    }
}

/// The elements of a small tensor.
fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// A parameter's number for each column, or the default.
fn columns<W: Real>(parameter: Option<&Tensor>, default: f64, extent: Extent) -> Result<Vec<W>> {
    Ok(match parameter {
        Some(parameter) => numbers(parameter)?.into_iter().map(W::of).collect(),
        None => vec![W::of(default); extent.columns()],
    })
}

struct Normalize<T: Element> {
    x: Tensor,
    extent: Extent,
    form: Form,
    scale: Vec<T::Wide>,
    statistics: Vec<Statistics<T::Wide>>,
    /// Shape and type of scale and bias, where they are inputs.
    parameters: [Option<(Shape, DType)>; 2],
}

impl<T: Element + LayerNorm + GroupNorm> Operation for Normalize<T> {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let Self { extent, scale, statistics, .. } = self;
        let dy = cx.cotangent()?.contiguous()?;
        let (x, dy) = (&*elements::<T>(&self.x)?, &*elements::<T>(&dy)?);
        let gradients = match self.form {
            Form::Rows(moments) => T::layer_norm_backward(x, dy, scale, statistics, moments)?,
            Form::Groups { differentiates_moments } => {
                let options = BackwardOptions { needs_dx: cx.wanted(0), differentiates_moments };
                T::group_norm_backward(x, dy, *extent, scale, statistics, options)?
            }
        };
        let dx = gradients.x.map(|dx| OwnedStorage::new(dx, self.x.shape())).transpose()?;
        let mut all = vec![dx.map(OwnedStorage::into_tensor)];
        for (parameter, sums) in self.parameters.iter().zip([gradients.scale, gradients.bias]) {
            if let Some((shape, dtype)) = parameter {
                all.push(Some(Tensor::new(sums, &Device::Cpu)?.to_dtype(*dtype)?.reshape(shape)?));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
