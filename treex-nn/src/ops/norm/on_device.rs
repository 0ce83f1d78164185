//! The same operation where the input is on a device: its statistics stay there.

use candle_core::{DType, Shape, Tensor};
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, attach};
use treex_core::device::norm::{Gradients, Norm, Saved};
use treex_kernels::norm::Extent;
use treex_kernels::norm::group_norm::BackwardOptions;
use treex_kernels::norm::layer_norm::Moments;

use super::form::{Form, Normalized, Source};

/// `x` normalized, in its own type; it has elements.
pub(super) fn normalize(
    x: &Tensor,
    extent: Extent,
    source: Source<'_>,
    epsilon: f64,
    [scale, bias]: [Option<&Tensor>; 2],
) -> Result<Normalized> {
    let norm = Norm::new(&x.detach(), extent, scale)?;
    let (form, (y, saved), moments) = match source {
        Source::Squares => {
            (Form::Rows(Moments::Uncentered), norm.rows(bias, Moments::Uncentered, epsilon)?, None)
        }
        Source::Input { use_fast_variance } if extent.is_rows() => {
            let moments = Moments::Centered { use_fast_variance };
            (Form::Rows(moments), norm.rows(bias, moments, epsilon)?, None)
        }
        Source::Input { use_fast_variance } => {
            let (y, saved, moments) = norm.groups_of_input(bias, use_fast_variance, epsilon)?;
            (Form::Groups { differentiates_moments: true }, (y, saved), Some(moments))
        }
        Source::Given { mean, var } => {
            let written = norm.groups_of(bias, [mean, var], epsilon)?;
            (Form::Groups { differentiates_moments: false }, written, Some([mean.detach(), var.detach()]))
        }
    };
    let parameters = [scale, bias].map(|part| part.map(|part| (part.shape().clone(), part.dtype())));
    let inputs: Vec<&Tensor> = [Some(x), scale, bias].into_iter().flatten().collect();
    let y = attach(Normalize { norm, form, saved, parameters }, &inputs, y)?;
    Ok(Normalized { y, moments })
}

struct Normalize {
    norm: Norm,
    form: Form,
    saved: Saved,
    /// Shape and type of scale and bias, where they are inputs.
    parameters: [Option<(Shape, DType)>; 2],
}

impl Operation for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?;
        let Gradients { x, scale, bias } = match self.form {
            Form::Rows(moments) => self.norm.rows_backward(dy, &self.saved, moments)?,
            Form::Groups { differentiates_moments } => {
                let options = BackwardOptions { needs_dx: cx.wanted(0), differentiates_moments };
                self.norm.groups_backward(dy, &self.saved, options)?
            }
        };
        let mut all = vec![x];
        for (parameter, gradient) in self.parameters.iter().zip([scale, bias]) {
            if let Some((shape, dtype)) = parameter {
                all.push(Some(gradient.to_dtype(*dtype)?.reshape(shape)?));
            }
        }
        Ok(all)
    }
}
