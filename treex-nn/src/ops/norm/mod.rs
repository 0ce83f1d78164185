//! Normalization in two reads of the input forward and two backward, the second of each from the cache where
//! a row or a piece fits: `(x - mean) * factor * scale + bias`, where `factor` is `1 / sqrt(var + epsilon)`.
//!
//! The input is `[outer, rows, groups, size]` in memory, and has statistics for each of `[outer, groups]`;
//! scale and bias are `[groups, size]`. That is a layer norm where the middle two are 1 ([`rows`]), and a
//! batch, group or instance norm otherwise ([`columns`]). Statistics are summed in the type to compute in, in
//! runs of at most some thousand elements, and from there on in `f64`.
//!
//! The plain composition is [`Normalization`](crate::norm::Normalization)'s.

mod columns;
mod rows;

use candle_core::{DType, Shape, Tensor};
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach, elements};
use treex_kernels::float::{bf16, f16};
use treex_kernels::math::Real;

/// How an input lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) outer: usize,
    pub(crate) rows: usize,
    pub(crate) groups: usize,
    pub(crate) size: usize,
}

impl Extent {
    /// The length of a row, and of scale and bias.
    fn columns(self) -> usize {
        self.groups * self.size
    }

    /// How many elements have statistics together.
    fn count(self) -> f64 {
        (self.rows * self.size) as f64
    }

    fn is_rows(self) -> bool {
        self.rows == 1 && self.groups == 1
    }
}

/// Where mean and variance come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'t> {
    /// The input: the variance is `mean(x²) - mean²`, cut at 0, or else `mean((x - mean)²)`.
    Input { use_fast_variance: bool },
    /// The input, with the mean taken for 0.
    Squares,
    /// These numbers, which are not differentiated, of shape `[outer * groups]`.
    Given { mean: &'t Tensor, var: &'t Tensor },
}

/// A moment as it is used, for one group.
#[derive(Clone, Copy, Debug)]
struct Statistics<W> {
    mean: W,
    /// `1 / sqrt(var + epsilon)`.
    factor: W,
    /// How much of its gradient the variance passes on: 1, and where it is cut at 0, 1/2 at 0 and 0 below.
    share: W,
}

impl<W: Real> Statistics<W> {
    #[inline(always)]
    fn of([mean, var]: [f64; 2], epsilon: f64) -> Self {
        let share = if var > 0. { 1. } else { 0.5 };
        let (share, var) = if var < 0. { (0., 0.) } else { (share, var) };
        Self { mean: W::of(mean), factor: W::of(1. / (var + epsilon).sqrt()), share: W::of(share) }
    }
}

/// A normalized tensor, and of its statistics what a layer keeps.
pub(crate) struct Normalized {
    pub(crate) y: Tensor,
    /// Mean and variance, `[outer * groups]`, in `F64`, not differentiated; where an input's own columns
    /// have them.
    pub(crate) moments: Option<[Tensor; 2]>,
}

/// `x` normalized; the type of `y` is that of `x`, and scale and bias, of any float type, have as many elements
/// as a row. `None` for what has no kernel: another device, another type, or no elements.
pub(crate) fn normalize(
    x: &Tensor,
    extent: Extent,
    source: Source<'_>,
    epsilon: f64,
    parameters: [Option<&Tensor>; 2],
) -> Result<Option<Normalized>> {
    if !x.device().is_cpu() || x.elem_count() == 0 {
        return Ok(None);
    }
    let call = Call { x, extent, source, epsilon, parameters };
    Ok(Some(match x.dtype() {
        DType::BF16 => call.run::<bf16>()?,
        DType::F16 => call.run::<f16>()?,
        DType::F32 => call.run::<f32>()?,
        DType::F64 => call.run::<f64>()?,
        _ => return Ok(None),
    }))
}

/// The arguments of [`normalize`].
struct Call<'t> {
    x: &'t Tensor,
    extent: Extent,
    source: Source<'t>,
    epsilon: f64,
    parameters: [Option<&'t Tensor>; 2],
}

impl Call<'_> {
    fn run<T: Element>(self) -> Result<Normalized> {
        let Self { x, extent, source, epsilon, parameters: [scale, bias] } = self;
        let kept = x.detach().contiguous()?;
        let factors = spread::<T::Wide>(scale, 1., extent)?;
        let summands = spread::<T::Wide>(bias, 0., extent)?;
        let (y, statistics, moments) = {
            let x = &*elements::<T>(&kept)?;
            let moments = match source {
                Source::Given { mean, var } => Some(numbers(mean)?.into_iter().zip(numbers(var)?).collect()),
                Source::Input { use_fast_variance } if !extent.is_rows() => {
                    Some(columns::moments(x, extent, use_fast_variance))
                }
                _ => None,
            };
            if let Some(moments) = moments {
                let moments: Vec<(f64, f64)> = moments;
                let of = |&(mean, var): &(f64, f64)| Statistics::of([mean, var], epsilon);
                let statistics: Vec<_> = moments.iter().map(of).collect();
                let y = columns::apply(x, extent, &factors, &summands, &statistics)?;
                (y, statistics, Some(moments))
            } else {
                let (y, statistics) = rows::forward(x, &factors, &summands, source, epsilon)?;
                (y, statistics, None)
            }
        };
        let operation = Normalize::<T> {
            x: kept,
            extent,
            scale: factors,
            statistics,
            is_centred: !matches!(source, Source::Squares),
            is_given: matches!(source, Source::Given { .. }),
            parameters: [scale, bias].map(|part| part.map(|part| (part.shape().clone(), part.dtype()))),
        };
        let inputs: Vec<&Tensor> = [Some(x), scale, bias].into_iter().flatten().collect();
        let y = attach(operation, &inputs, OwnedStorage::new(y, x.shape())?)?;
        let moments = moments.map(|moments| -> Result<_> {
            let (mean, var): (Vec<_>, Vec<_>) = moments.into_iter().unzip();
            Ok([Tensor::new(mean, x.device())?, Tensor::new(var, x.device())?])
        });
        Ok(Normalized { y, moments: moments.transpose()? })
    }
}

/// The numbers of a small tensor.
fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// A parameter for each column, or what stands for it.
fn spread<W: Real>(parameter: Option<&Tensor>, otherwise: f64, extent: Extent) -> Result<Vec<W>> {
    Ok(match parameter {
        Some(parameter) => numbers(parameter)?.into_iter().map(W::of).collect(),
        None => vec![W::of(otherwise); extent.columns()],
    })
}

/// The backward half.
struct Normalize<T: Element> {
    x: Tensor,
    extent: Extent,
    scale: Vec<T::Wide>,
    statistics: Vec<Statistics<T::Wide>>,
    is_centred: bool,
    /// Whether the statistics are constants.
    is_given: bool,
    /// Of scale and bias, where they are inputs.
    parameters: [Option<(Shape, DType)>; 2],
}

/// What a backward kernel computes: the gradients of the input, of scale and of bias.
struct Gradients<T> {
    x: Option<Vec<T>>,
    scale: Vec<f64>,
    bias: Vec<f64>,
}

impl<T: Element> Operation for Normalize<T> {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let (x, dy) = (&*elements::<T>(&self.x)?, &*elements::<T>(&dy)?);
        let gradients = if self.extent.is_rows() && !self.is_given {
            rows::backward(x, dy, &self.scale, &self.statistics, self.is_centred)?
        } else {
            let parts = columns::Parts { x: cx.wanted(0), passes_statistics: !self.is_given };
            columns::backward(x, dy, self.extent, &self.scale, &self.statistics, parts)?
        };
        let device = self.x.device();
        let dx = gradients
            .x
            .map(|dx| Ok::<_, treex_core::Error>(OwnedStorage::new(dx, self.x.shape())?.into_tensor()));
        let mut all = vec![dx.transpose()?];
        for (parameter, sums) in self.parameters.iter().zip([gradients.scale, gradients.bias]) {
            if let Some((shape, dtype)) = parameter {
                all.push(Some(Tensor::new(sums, device)?.to_dtype(*dtype)?.reshape(shape)?));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
