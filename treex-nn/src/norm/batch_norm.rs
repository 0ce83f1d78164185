//! Batch normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::{BatchStat, Error, Leaf, Mode, Module, Parameter, Result, TreeObject, record};

use super::{
    Normalization, along, as_columns, declared, features, known, normalization_options, parameters, sizes,
};
use crate::axes::Axes;
use crate::initializers::{ones, zeros};
use crate::ops::norm::{Extent, Source};
use crate::options::parameter_options;

/// `y = (x - mean) / sqrt(var + epsilon) · scale + bias`, for each feature over all other dimensions: Flax's
/// `BatchNorm` (Ioffe and Szegedy, 2015).
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
    features: Option<Shape>,
    use_running_average: Option<bool>,
    #[tree(skip)]
    axis: Axes,
    momentum: f64,
    #[tree(skip)]
    how: Normalization,
    dtype: Option<DType>,
    mode: Mode,
}

impl BatchNorm {
    /// Normalizes `features` features on the last axis. [`BatchNorm::default`] finds their number in the first
    /// input, see [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn new(features: impl Into<Shape>) -> Self {
        Self::of(Some(features.into()))
    }

    fn of(features: Option<Shape>) -> Self {
        let norm = Self {
            scale: None,
            bias: None,
            mean: declared(features.as_ref(), zeros),
            var: declared(features.as_ref(), ones),
            features,
            use_running_average: None,
            axis: (-1).into(),
            momentum: 0.99,
            how: Normalization::new("BatchNorm", 1e-5),
            dtype: None,
            mode: Mode::default(),
        };
        norm.use_scale(true).use_bias(true)
    }

    /// The axis of the features, or the axes; the last unless said. Negative ones count from the end.
    #[must_use]
    pub fn axis(self, axis: impl Into<Axes>) -> Self {
        Self { axis: axis.into(), ..self }
    }

    /// How much of the running statistics each call in training keeps; 0.99 unless said.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Whether to use the running statistics, in training and evaluation alike. Those of the batch change the
    /// running ones, unless the layer is frozen.
    #[must_use]
    pub fn use_running_average(self, use_running_average: bool) -> Self {
        Self { use_running_average: Some(use_running_average), ..self }
    }

    /// The call, with statistics of only the elements where `mask` is not 0; all are normalized. The mask has
    /// the shape of `x`, or one that broadcasts to it. Of no element at all, as in Flax, the statistics are not
    /// numbers.
    ///
    /// # Errors
    /// If the input does not have the features that the layer was made for, or is empty in training; if the
    /// mask does not fit.
    pub fn call_masked<'m>(&mut self, x: &Tensor, mask: impl Into<Option<&'m Tensor>>) -> Result<Tensor> {
        let y = self.normalized(x, mask.into()).map_err(|error| error.of(self.identity()))?;
        record(self, x, &y);
        Ok(y)
    }

    fn normalized(&mut self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let leaves = [self.scale.as_ref(), self.bias.as_ref()];
        let known = known(&self.features, leaves).or(self.mean.shape());
        let axes = self.how.feature_axes(x, &self.axis, known)?;
        let features = features(leaves, x, &axes)?;
        let (running_mean, running_var) =
            (self.mean.infer(sizes(x.dims(), &axes))?, self.var.infer(sizes(x.dims(), &axes))?);

        let columns = as_columns(x, 0, &axes);
        if self.use_running_average.unwrap_or(!self.mode.is_training()) {
            let constants = columns.filter(|_| !running_mean.track_op() && !running_var.track_op());
            let running = (constants, Source::Given { mean: &running_mean, var: &running_var });
            if let Some(normalized) = self.how.fused(x, running, &features, None, self.dtype)? {
                return Ok(normalized.y);
            }
            let (mean, var) = (along(&running_mean, x, &axes)?, along(&running_var, x, &axes)?);
            let parameters = parameters(&features, x, &axes)?;
            return self.how.normalize(x, (Some(&mean), &var), &parameters, self.dtype);
        }
        let others: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
        if sizes(x.dims(), &others).contains(&0) {
            return Err(Error::shape("`BatchNorm` cannot train on an empty batch")
                .expected("at least one sample")
                .found(format!("{:?}", x.dims()))
                .remedy("skip the batch, or call `model.eval()` first"));
        }
        // One number is its own mean: not worth columns.
        let columns = columns.filter(|columns| *columns != Extent { outer: 1, rows: 1, groups: 1, size: 1 });
        let fused = self.how.fused(x, (columns, self.how.source()), &features, mask, self.dtype)?;
        let (y, mean, var) = match fused.map(|fused| (fused.y, fused.moments)) {
            Some((y, Some([mean, var]))) => (y, mean, var),
            _ => {
                let (mean, var) = self.how.mean_and_variance(x, &others, mask, self.dtype)?;
                let parameters = parameters(&features, x, &axes)?;
                let y = self.how.normalize(x, (Some(&mean), &var), &parameters, self.dtype)?;
                (y, mean, var)
            }
        };
        if !self.mode.is_frozen() {
            let towards = |running: &Tensor, batch: &Tensor| -> Result<Tensor> {
                let batch = batch.detach().reshape(running.shape())?.to_dtype(running.dtype())?;
                Ok(((running * self.momentum)? + (batch * (1. - self.momentum))?)?)
            };
            let (new_mean, new_var) = (towards(&running_mean, &mean)?, towards(&running_var, &var)?);
            self.mean.set(new_mean)?;
            self.var.set(new_var)?;
        }
        Ok(y)
    }
}

parameter_options!(BatchNorm { scale: scale_init, bias: bias_init });
normalization_options!(BatchNorm, epsilon "1e-5", use_fast_variance, { scale: use_scale ones, bias: use_bias zeros });

impl Module for BatchNorm {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.call_masked(x, None)
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
        norm.freeze(BatchStat)?;
        let y = norm.call(&input(&[8, 3]))?;
        assert_eq!(norm.mean.get()?.to_vec1::<f32>()?, [0.; 3]);
        let expected = (input(&[8, 3]) / (1f64 + 1e-5).sqrt())?;
        assert!((y - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        Ok(())
    }

    #[test]
    fn statistics_of_choice() -> Result<()> {
        let x = (input(&[8, 3]) + 5.)?;
        let mut of_batch = BatchNorm::new(3).use_running_average(false).init(0, &Device::Cpu)?.into_eval();
        let mut running = BatchNorm::new(3).use_running_average(true).init(0, &Device::Cpu)?;
        let mut training = BatchNorm::new(3).init(0, &Device::Cpu)?;
        let y = training.call(&x)?.to_vec2::<f32>()?;
        assert_eq!(of_batch.call(&x)?.to_vec2::<f32>()?, y);
        assert_eq!(of_batch.mean, training.mean);
        assert_ne!(running.call(&x)?.to_vec2::<f32>()?, y);
        assert_eq!(running.mean.get()?.to_vec1::<f32>()?, [0.; 3]);
        of_batch.freeze(BatchStat)?;
        assert_eq!(of_batch.call(&x)?.to_vec2::<f32>()?, y);
        assert_eq!(of_batch.mean, training.mean);
        Ok(())
    }

    #[test]
    fn half_precision_is_computed_in_f32() -> Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            let x = (input(&[64, 3]) + 10.)?.to_dtype(dtype)?;
            let mut norm = BatchNorm::new(3).init(0, &Device::Cpu)?;
            let mut cast = norm.clone();
            cast = cast.into_dtype(dtype)?;
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
        let mask = input(&[4, 2]);
        let wrong = norm.clone().call_masked(&input(&[4, 3]), &mask).unwrap_err().to_string();
        assert!(wrong.starts_with("`BatchNorm` got a mask of the wrong shape: expected one that"), "{wrong}");
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
