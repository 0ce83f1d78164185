//! Normalization as a function: statistics over axes, and their application.

use candle_core::{DType, Tensor};
use treex_core::autograd::is_reference;
use treex_core::extrema::maximum;
use treex_core::size::check_elements;
use treex_core::{Error, Result};

use super::pmean::Pmean;
use crate::axes::sizes;
use crate::dtype::{common_dtype, wide_dtype};
use crate::ops::norm::{Extent, Normalized, Source, normalize};
use crate::ops::rows::{repeat_to, sum_over};

/// The options that all normalizations share.
#[derive(Clone, Debug)]
pub struct Normalization {
    /// The name in errors.
    pub(crate) layer: &'static str,
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// Whether the variance is `mean(x²) - mean(x)²`, not `mean((x - mean(x))²)`.
    pub use_fast_variance: bool,
    /// Whether statistics of half precision are computed and kept in `F32`.
    pub(crate) force_float32_reductions: bool,
    pub(crate) pmean: Option<Pmean>,
}

impl Normalization {
    /// Flax's defaults, for a layer of this name.
    pub fn new(layer: &'static str, epsilon: f64) -> Self {
        Self { layer, epsilon, use_fast_variance: true, force_float32_reductions: true, pmean: None }
    }

    /// The normalization as one fused operation; `None` with a mask, with `pmean`, or where `x` is not stored
    /// as an [`Extent`] describes. `features` are scale and bias in the shapes of their leaves.
    pub(crate) fn fused(
        &self,
        x: &Tensor,
        (extent, source): (Option<Extent>, Source<'_>),
        features: &[Option<Tensor>; 2],
        mask: Option<&Tensor>,
        dtype: Option<DType>,
    ) -> Result<Option<Normalized>> {
        let Some(extent) = extent.filter(|_| mask.is_none() && self.pmean.is_none() && !is_reference())
        else {
            return Ok(None);
        };
        let all = || features.iter().flatten().chain([x]);
        let compute = match source {
            Source::Given { var, .. } => wide_dtype(common_dtype(None, all().chain([var]))),
            _ => wide_dtype(common_dtype(None, all())),
        };
        let is_own = !matches!(source, Source::Given { .. });
        if is_own && self.statistics_dtype(x, dtype) != compute {
            return Ok(None);
        }
        let output = common_dtype(dtype, all());
        let x = if x.dtype() == output && wide_dtype(output) == compute {
            x.clone()
        } else {
            x.to_dtype(compute)?
        };
        let [scale, bias] = features;
        let normalized = normalize(&x, extent, source, self.epsilon, [scale.as_ref(), bias.as_ref()])?;
        let in_output = |Normalized { y, moments }| Ok(Normalized { y: y.to_dtype(output)?, moments });
        normalized.map(in_output).transpose()
    }

    /// Where the statistics come from, for [`fused`](Self::fused).
    pub(crate) fn source(&self) -> Source<'static> {
        Source::Input { use_fast_variance: self.use_fast_variance }
    }

    /// Mean and variance over `axes`, which are kept with size 1; only of elements where `mask` is not 0.
    pub fn mean_and_variance(
        &self,
        x: &Tensor,
        axes: &[usize],
        mask: Option<&Tensor>,
        dtype: Option<DType>,
    ) -> Result<(Tensor, Tensor)> {
        let x = x.to_dtype(self.statistics_dtype(x, dtype))?;
        if self.use_fast_variance {
            let means = self.means(&[&x, &x.sqr()?], axes, mask)?;
            // At 0, `maximum` passes on half of the gradient, as in JAX.
            let var = maximum(&(&means[1] - means[0].sqr()?)?, 0.)?;
            Ok((means[0].clone(), var))
        } else {
            let mean = self.means(&[&x], axes, mask)?.remove(0);
            let squares = (&x - repeat_to(&mean, x.dims())?)?.sqr()?;
            let var = self.means(&[&squares], axes, mask)?.remove(0);
            Ok((mean, var))
        }
    }

    /// The mean of squares over `axes`.
    pub fn mean_square(
        &self,
        x: &Tensor,
        axes: &[usize],
        mask: Option<&Tensor>,
        dtype: Option<DType>,
    ) -> Result<Tensor> {
        let squares = x.to_dtype(self.statistics_dtype(x, dtype))?.sqr()?;
        Ok(self.means(&[&squares], axes, mask)?.remove(0))
    }

    /// `(x - mean) / sqrt(var + epsilon) · scale + bias`. Statistics and parameters have the rank of `x`, and
    /// size 1 on axes along which they are constant.
    pub fn normalize(
        &self,
        x: &Tensor,
        (mean, var): (Option<&Tensor>, &Tensor),
        parameters: &[Option<Tensor>; 2],
        dtype: Option<DType>,
    ) -> Result<Tensor> {
        let all = || parameters.iter().flatten().chain([x]);
        let output = common_dtype(dtype, all());
        let dtype = common_dtype(None, all().chain([var]));
        let [scale, bias] = parameters;
        let mut factor = (var.to_dtype(dtype)? + self.epsilon)?.sqrt()?.recip()?;
        if let Some(scale) = scale {
            // As small as possible: for a batch norm, one number for each feature.
            let dims = factor.shape().broadcast_shape_binary_op(scale.shape(), "normalize")?.into_dims();
            factor = (repeat_to(&factor, &dims)? * repeat_to(&scale.to_dtype(dtype)?, &dims)?)?;
        }
        let mut y = x.to_dtype(dtype)?;
        if let Some(mean) = mean {
            y = (y - repeat_to(&mean.to_dtype(dtype)?, x.dims())?)?;
        }
        y = (y * repeat_to(&factor, x.dims())?)?;
        if let Some(bias) = bias {
            y = (y + repeat_to(&bias.to_dtype(dtype)?, x.dims())?)?;
        }
        Ok(y.to_dtype(output)?)
    }

    /// Sums over a batch need more digits than half precision has.
    fn statistics_dtype(&self, x: &Tensor, dtype: Option<DType>) -> DType {
        match dtype.unwrap_or(x.dtype()) {
            DType::F64 => DType::F64,
            half if half.is_float() && !self.force_float32_reductions => half,
            _ => DType::F32,
        }
    }

    /// `mask`, 1 where it is not 0, in the shape of `x`.
    pub(crate) fn broadcast_mask(&self, mask: &Tensor, x: &Tensor) -> Result<Tensor> {
        mask.ne(0f64)?.broadcast_as(x.shape()).map_err(|_| {
            Error::shape(format!("`{}` got a mask of the wrong shape", self.layer))
                .expected(format!("one that broadcasts to {:?}", x.dims()))
                .found(format!("{:?}", mask.dims()))
        })
    }

    /// The means over `axes` of tensors of one shape, and over ranks.
    fn means(&self, tensors: &[&Tensor], axes: &[usize], mask: Option<&Tensor>) -> Result<Vec<Tensor>> {
        let means = tensors.iter().map(|x| self.mean(x, axes, mask)).collect::<Result<Vec<_>>>()?;
        let Some(pmean) = &self.pmean else { return Ok(means) };
        let together = pmean.call(self.layer, &Tensor::stack(&means, 0)?)?;
        (0..means.len()).map(|index| Ok(together.get(index)?)).collect()
    }

    /// The mean over `axes` of `x`, of elements where `mask` is not 0. Half precision is summed in `F32`.
    pub(crate) fn mean(&self, x: &Tensor, axes: &[usize], mask: Option<&Tensor>) -> Result<Tensor> {
        check_elements(self.layer, x)?;
        let wide = wide_dtype(x.dtype());
        let all = x.to_dtype(wide)?;
        let mean = match mask {
            Some(mask) => {
                let mask = self.broadcast_mask(mask, x)?;
                let sum = sum_over(&mask.where_cond(&all, &all.zeros_like()?)?, axes)?;
                (sum / sum_over(&mask.to_dtype(wide)?, axes)?)?
            }
            None => (sum_over(&all, axes)? / sizes(x.dims(), axes).iter().product::<usize>() as f64)?,
        };
        Ok(mean.to_dtype(x.dtype())?)
    }
}
