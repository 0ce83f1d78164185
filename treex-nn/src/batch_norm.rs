//! Batch normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::{BatchStat, Error, Leaf, Mode, Module, Parameter, Result, TreeObject, record};

use crate::dtype::common_dtype;
use crate::initializers::{InitFn, ones, zeros};
use crate::ops::rows::{add_to_rows, mean_of_rows, repeat_row};
use crate::options::parameter_options;

/// `y = (x - mean) / sqrt(var + epsilon) · scale + bias`, for each feature over all other dimensions.
///
/// In training, `mean` and `var` are those of the batch, and the running ones move towards them:
/// `running = momentum · running + (1 - momentum) · batch`. Otherwise the running ones are used. As in Flax,
/// the variance is the biased one in both places, and statistics are computed in `F32` at least.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{BatchNorm, prelude::*};
///
/// let mut norm = BatchNorm::new(3).momentum(0.9).init(42, &Device::Cpu)?;
/// assert_eq!(norm.mean.get()?.dims(), [3]);
///
/// let x = Tensor::new(&[[1f32, 2., 3.], [3., 2., 1.]], &Device::Cpu)?;
/// let y = norm.call(&x)?;
/// assert_eq!(y.dims(), [2, 3]);
/// assert!((norm.mean.get()?.to_vec1::<f32>()?[0] - 0.2).abs() < 1e-6);
///
/// norm.eval();
/// assert_eq!(norm.call(&x)?.dims(), [2, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct BatchNorm {
    /// `[features]`; ones unless said.
    pub scale: Option<Leaf<Parameter>>,
    /// `[features]`; zeros unless said.
    pub bias: Option<Leaf<Parameter>>,
    /// The running mean, `[features]`; zeros at first.
    pub mean: Leaf<BatchStat>,
    /// The running variance, `[features]`; ones at first.
    pub var: Leaf<BatchStat>,
    axis: isize,
    momentum: f64,
    epsilon: f64,
    use_fast_variance: bool,
    dtype: Option<DType>,
    mode: Mode,
}

impl BatchNorm {
    /// Normalizes `features` features on the last axis. [`BatchNorm::default`] finds their number in the first
    /// input, see [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn new(features: usize) -> Self {
        let norm = Self::default();
        Self {
            scale: norm.scale.map(|scale| scale.with_shape(features)),
            bias: norm.bias.map(|bias| bias.with_shape(features)),
            mean: norm.mean.with_shape(features),
            var: norm.var.with_shape(features),
            ..norm
        }
    }

    /// The axis of the features; the last unless said. Negative ones count from the end.
    #[must_use]
    pub fn axis(self, axis: isize) -> Self {
        Self { axis, ..self }
    }

    /// How much of the running statistics each call in training keeps; 0.99 unless said.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// What is added to the variance; 1e-5 unless said.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Whether to multiply by a scale; true unless said.
    #[must_use]
    pub fn use_scale(mut self, use_scale: bool) -> Self {
        let scale = self.scale.take().unwrap_or_else(|| like(&self.mean, ones));
        Self { scale: use_scale.then_some(scale), ..self }
    }

    /// Whether to add a bias; true unless said.
    #[must_use]
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        let bias = self.bias.take().unwrap_or_else(|| like(&self.mean, zeros));
        Self { bias: use_bias.then_some(bias), ..self }
    }

    /// Whether the variance is computed in one pass as `mean(x²) - mean(x)²`, and cut at 0; true unless said.
    /// It loses digits where the mean is far from 0.
    #[must_use]
    pub fn use_fast_variance(self, use_fast_variance: bool) -> Self {
        Self { use_fast_variance, ..self }
    }

    /// The position of the feature axis in `x`.
    fn feature_axis(&self, x: &Tensor) -> Result<usize> {
        let axis =
            if self.axis < 0 { x.rank().checked_add_signed(self.axis) } else { Some(self.axis as usize) };
        let features = axis.and_then(|axis| x.dims().get(axis).copied());
        let known = self.mean.shape().map(Shape::elem_count);
        match axis.zip(features).filter(|(_, features)| known.is_none_or(|known| known == *features)) {
            Some((axis, _)) => Ok(axis),
            None => {
                let known = known.map_or("the".to_owned(), |known| known.to_string());
                Err(Error::shape("`BatchNorm` got an input of the wrong shape")
                    .expected(format!("{known} features on axis {}", self.axis))
                    .found(format!("{:?}", x.dims()))
                    .remedy("make it with the number of features that the layer before gives")
                    .of(self))
            }
        }
    }

    /// Mean and variance of the rows of `x`, each `[1, features]`.
    fn statistics(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = mean_of_rows(x)?;
        let var = if self.use_fast_variance {
            // At 0, `maximum` passes on half of the gradient, as in JAX.
            (mean_of_rows(&x.sqr()?)? - mean.sqr()?)?.maximum(0.)?
        } else {
            mean_of_rows(&(x - repeat_row(&mean, x.dim(0)?)?)?.sqr()?)?
        };
        Ok((mean, var))
    }
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self {
            scale: Some(Leaf::unshaped(ones, DType::F32)),
            bias: Some(Leaf::unshaped(zeros, DType::F32)),
            mean: Leaf::unshaped(zeros, DType::F32),
            var: Leaf::unshaped(ones, DType::F32),
            axis: -1,
            momentum: 0.99,
            epsilon: 1e-5,
            use_fast_variance: true,
            dtype: None,
            mode: Mode::default(),
        }
    }
}

/// A parameter of the shape that the running mean has, if it has one yet.
fn like(mean: &Leaf<BatchStat>, init: impl InitFn) -> Leaf<Parameter> {
    let leaf = Leaf::unshaped(init, DType::F32);
    match mean.shape() {
        Some(shape) => leaf.with_shape(shape.clone()),
        None => leaf,
    }
}

parameter_options!(BatchNorm { scale: scale_init, bias: bias_init });

impl Module for BatchNorm {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let axis = self.feature_axis(x)?;
        let features = x.dim(axis)?;
        let scale = self.scale.as_ref().map(|scale| scale.infer(features)).transpose()?;
        let bias = self.bias.as_ref().map(|bias| bias.infer(features)).transpose()?;
        let (running_mean, running_var) = (self.mean.infer(features)?, self.var.infer(features)?);
        let output = common_dtype(self.dtype, [x].into_iter().chain(&scale).chain(&bias));
        // Sums over a batch need more digits than half precision has.
        let dtype =
            if [x.dtype(), running_mean.dtype()].contains(&DType::F64) { DType::F64 } else { DType::F32 };

        // All rows are samples of all features.
        let last = x.rank() - 1;
        let features_last = x.to_dtype(dtype)?.transpose(axis, last)?;
        let rows = features_last.reshape((x.elem_count() / features.max(1), features))?;
        let count = rows.dim(0)?;

        let (mean, var) = if self.mode.is_training() {
            if count == 0 {
                return Err(Error::shape("`BatchNorm` cannot train on an empty batch")
                    .expected("at least one sample")
                    .found(format!("{:?}", x.dims()))
                    .remedy("skip the batch, or call `model.eval()` first")
                    .of(self));
            }
            let (mean, var) = self.statistics(&rows)?;
            let towards = |running: &Tensor, batch: &Tensor| -> Result<Tensor> {
                let batch = batch.detach().squeeze(0)?.to_dtype(running.dtype())?;
                Ok(((running * self.momentum)? + (batch * (1. - self.momentum))?)?)
            };
            let (new_mean, new_var) = (towards(&running_mean, &mean)?, towards(&running_var, &var)?);
            self.mean.set(new_mean)?;
            self.var.set(new_var)?;
            (mean, var)
        } else {
            let row = |stat: Tensor| stat.to_dtype(dtype)?.unsqueeze(0);
            (row(running_mean)?, row(running_var)?)
        };

        let mut factor = (var + self.epsilon)?.sqrt()?.recip()?;
        if let Some(scale) = scale {
            factor = factor.broadcast_mul(&scale.to_dtype(dtype)?)?;
        }
        let mut y = ((rows - repeat_row(&mean, count)?)? * repeat_row(&factor, count)?)?;
        if let Some(bias) = bias {
            y = add_to_rows(&y, &bias.to_dtype(dtype)?)?;
        }
        let y = y.reshape(features_last.shape())?.transpose(axis, last)?.contiguous()?.to_dtype(output)?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;

    fn input(shape: &[usize]) -> Tensor {
        treex_core::Key::from(0).normal(shape, DType::F32).unwrap()
    }

    #[test]
    fn frozen_reads_and_does_not_write() -> Result<()> {
        let mut norm = BatchNorm::new(3).init(0, &Device::Cpu)?;
        norm.freeze(BatchStat);
        let y = norm.call(&input(&[8, 3]))?;
        assert_eq!(norm.mean.get()?.to_vec1::<f32>()?, [0.; 3]);
        let expected = (input(&[8, 3]) / (1f64 + 1e-5).sqrt())?;
        assert!((y - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        Ok(())
    }

    #[test]
    fn half_precision_is_computed_in_f32() -> Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            let x = (input(&[64, 3]) + 10.)?.to_dtype(dtype)?;
            let mut norm = BatchNorm::new(3).init(0, &Device::Cpu)?;
            let mut cast = norm.clone();
            cast.to_dtype(dtype)?;
            let in_f32 = norm.call(&x.to_dtype(DType::F32)?)?;
            let (mixed, half) = (norm.call(&x)?, cast.call(&x)?);
            assert_eq!((mixed.dtype(), half.dtype(), cast.mean.dtype()), (DType::F32, dtype, Some(dtype)));
            assert_eq!(mixed.to_vec2::<f32>()?, in_f32.to_vec2::<f32>()?);
            let rounded = in_f32.to_dtype(dtype)?.to_dtype(DType::F32)?;
            assert_eq!(half.to_dtype(DType::F32)?.to_vec2::<f32>()?, rounded.to_vec2::<f32>()?);
            assert_eq!(norm.dtype(dtype).call(&x)?.dtype(), dtype);
        }
        Ok(())
    }

    #[test]
    fn misuse() -> Result<()> {
        let mut norm = BatchNorm::new(3).init(0, &Device::Cpu)?;
        let mut error = |shape: &[usize]| {
            norm.call(&Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()).unwrap_err()
        };
        for shape in [&[4, 2][..], &[]] {
            assert_eq!(error(shape).kind(), ErrorKind::Shape);
            let text = format!("expected 3 features on axis -1, found {shape:?}");
            assert!(error(shape).to_string().contains(&text), "{}", error(shape));
        }
        assert!(error(&[0, 3]).to_string().starts_with("`BatchNorm` cannot train on an empty batch"));
        assert_eq!(norm.mean.get()?.to_vec1::<f32>()?, [0.; 3]);
        norm.eval();
        assert_eq!(norm.call(&Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?)?.dims(), [0, 3]);
        Ok(())
    }
}
