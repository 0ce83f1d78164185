//! Normalizations. What they share is here: statistics over axes, and what is done with them.

use candle_core::{DType, Shape, Tensor};
use treex_core::autograd::is_reference;
use treex_core::{Error, Kind, Leaf, Parameter, Result};

use crate::axes::Axes;
use crate::dtype::{common_dtype, wide_dtype};
use crate::initializers::InitFn;
use crate::ops::norm::{Extent, Normalized, Source, normalize};
use crate::ops::rows::{repeat_to, sum_over};

mod batch_norm;
mod group_norm;
mod instance_norm;
mod layer_norm;
mod options;
mod pmean;
mod reparametrized;
mod rms_norm;
mod spectral_norm;
mod weight_norm;

use options::{features_option, masked_call, normalization_options};
use pmean::Pmean;

pub use batch_norm::BatchNorm;
pub use group_norm::GroupNorm;
pub use instance_norm::InstanceNorm;
pub use layer_norm::LayerNorm;
pub use rms_norm::RMSNorm;
pub use spectral_norm::SpectralNorm;
pub use weight_norm::WeightNorm;

/// How to normalize, as far as it is the same for all.
#[derive(Clone, Debug)]
pub struct Normalization {
    /// Who normalizes, for errors.
    layer: &'static str,
    /// What is added to the variance.
    pub(crate) epsilon: f64,
    /// Whether the variance is `mean(x²) - mean(x)²`, not `mean((x - mean(x))²)`.
    pub use_fast_variance: bool,
    /// Whether statistics of half precision are made and kept in `F32`.
    pub(crate) force_float32_reductions: bool,
    pmean: Option<Pmean>,
}

impl Normalization {
    /// Flax's defaults, for a layer of this name.
    pub fn new(layer: &'static str, epsilon: f64) -> Self {
        Self { layer, epsilon, use_fast_variance: true, force_float32_reductions: true, pmean: None }
    }

    /// The positions of the feature axes of `x`, of which it must have as many as are `known`.
    fn feature_axes(&self, x: &Tensor, axes: &Axes, known: Option<&Shape>) -> Result<Vec<usize>> {
        let fits = |axes: &Vec<usize>| known.is_none_or(|known| known.dims() == sizes(x.dims(), axes));
        if let Some(axes) = axes.of(self.layer, "axes", x.dims()).ok().filter(fits) {
            return Ok(axes);
        }
        let known = match known.map(Shape::dims) {
            Some([features]) => features.to_string(),
            Some(features) => format!("{features:?}"),
            None => "the".to_owned(),
        };
        Err(Error::shape(format!("`{}` got an input of the wrong shape", self.layer))
            .expected(format!("{known} features on {axes}"))
            .found(format!("{:?}", x.dims()))
            .remedy("make it with the number of features that the layer before gives"))
    }

    /// All of it as one operation, where that covers the case: without a mask and without other ranks, for what
    /// lies in memory as [`Extent`] says. `features` are scale and bias as the leaves have them.
    fn fused(
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
        let wide = |dtype| if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let compute = match source {
            Source::Given { var, .. } => wide(common_dtype(None, all().chain([var]))),
            _ => wide(common_dtype(None, all())),
        };
        let is_own = !matches!(source, Source::Given { .. });
        if is_own && self.statistics_dtype(x, dtype) != compute {
            return Ok(None);
        }
        let output = common_dtype(dtype, all());
        let x = if x.dtype() == output && wide(output) == compute { x.clone() } else { x.to_dtype(compute)? };
        let [scale, bias] = features;
        let normalized = normalize(&x, extent, source, self.epsilon, [scale.as_ref(), bias.as_ref()])?;
        let in_output = |Normalized { y, moments }| Ok(Normalized { y: y.to_dtype(output)?, moments });
        normalized.map(in_output).transpose()
    }

    /// Where the statistics come from, for [`fused`](Self::fused).
    fn source(&self) -> Source<'static> {
        Source::Input { use_fast_variance: self.use_fast_variance }
    }

    /// Mean and variance over `axes`, which stay with size 1; only of elements where `mask` is not 0.
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
            let var = (&means[1] - means[0].sqr()?)?.maximum(0.)?;
            Ok((means[0].clone(), var))
        } else {
            let mean = self.means(&[&x], axes, mask)?.remove(0);
            let squares = (&x - repeat_to(&mean, x.dims())?)?.sqr()?;
            let var = self.means(&[&squares], axes, mask)?.remove(0);
            Ok((mean, var))
        }
    }

    /// The mean of squares over `axes`, which is the variance if the mean is taken for 0.
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
    /// size 1 on axes on which they are all the same.
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
            // Not larger than it must be: for a batch norm, one number a feature.
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
    fn spread(&self, mask: &Tensor, x: &Tensor) -> Result<Tensor> {
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
        let wide = wide_dtype(x.dtype());
        let all = x.to_dtype(wide)?;
        let mean = match mask {
            Some(mask) => {
                let mask = self.spread(mask, x)?;
                let sum = sum_over(&mask.where_cond(&all, &all.zeros_like()?)?, axes)?;
                (sum / sum_over(&mask.to_dtype(wide)?, axes)?)?
            }
            None => (sum_over(&all, axes)? / sizes(x.dims(), axes).iter().product::<usize>() as f64)?,
        };
        Ok(mean.to_dtype(x.dtype())?)
    }
}

/// A leaf of the shape of the features, if that is known yet.
fn declared<K: Kind>(features: Option<&Shape>, init: impl InitFn) -> Leaf<K> {
    let leaf = Leaf::unshaped(init, DType::F32);
    match features {
        Some(features) => leaf.with_shape(features.clone()),
        None => leaf,
    }
}

/// The sizes on `axes`.
fn sizes(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|&axis| dims[axis]).collect()
}

/// The shape of the features, as far as it was given or learned.
fn known<'l>(features: &'l Option<Shape>, leaves: [Option<&'l Leaf<Parameter>>; 2]) -> Option<&'l Shape> {
    features.as_ref().or_else(|| leaves.into_iter().flatten().find_map(Leaf::shape))
}

/// Scale and bias, which have the features of `x` on `axes`.
fn features(
    leaves: [Option<&Leaf<Parameter>>; 2],
    x: &Tensor,
    axes: &[usize],
) -> Result<[Option<Tensor>; 2]> {
    let [scale, bias] = leaves.map(|leaf| leaf.map(|leaf| leaf.infer(sizes(x.dims(), axes))).transpose());
    Ok([scale?, bias?])
}

/// Those as tensors of the rank of `x`.
fn parameters(features: &[Option<Tensor>; 2], x: &Tensor, axes: &[usize]) -> Result<[Option<Tensor>; 2]> {
    let [scale, bias] =
        features.each_ref().map(|part| part.as_ref().map(|part| along(part, x, axes)).transpose());
    Ok([scale?, bias?])
}

/// How `x` lies in memory if statistics are over `reduced`, and scale and bias have `axes`: as rows, or not.
fn as_rows(x: &Tensor, reduced: &[usize], axes: &[usize], features: &[Option<Tensor>; 2]) -> Option<Extent> {
    let is_one = features.iter().all(Option::is_none) || reduced == axes;
    let size = sizes(x.dims(), reduced).iter().product::<usize>();
    (is_one && size > 0 && is_last(reduced, x)).then(|| Extent {
        outer: x.elem_count() / size,
        rows: 1,
        groups: 1,
        size,
    })
}

/// How `x` lies in memory if the features on `axes` have their statistics over all axes between those and the
/// first `samples`: as columns, or not.
fn as_columns(x: &Tensor, samples: usize, axes: &[usize]) -> Option<Extent> {
    let between = x.rank().checked_sub(axes.len()).filter(|&end| end >= samples && is_last(axes, x))?;
    let count = |dims: &[usize]| dims.iter().product();
    let dims = x.dims();
    Some(Extent {
        outer: count(&dims[..samples]),
        rows: count(&dims[samples..between]),
        groups: count(&dims[between..]),
        size: 1,
    })
}

/// Whether these are the last axes.
fn is_last(axes: &[usize], x: &Tensor) -> bool {
    !axes.is_empty() && axes.iter().copied().eq(x.rank().saturating_sub(axes.len())..x.rank())
}

/// What has the sizes of `x` on `axes`, with size 1 on the others.
fn along(part: &Tensor, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let mut dims = vec![1; x.rank()];
    axes.iter().for_each(|&axis| dims[axis] = x.dims()[axis]);
    Ok(part.reshape(dims)?)
}
