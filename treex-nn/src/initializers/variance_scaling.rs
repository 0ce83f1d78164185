//! Variance scaling: samples whose variance depends on the parameter's shape.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Key, Result};

use super::{InitFn, scalar, times};
use crate::axes::position;

/// Samples with variance `scale / n`, where `mode` chooses `n`, for a kernel whose last two axes are inputs
/// and outputs and whose other axes are the receptive field. Other axes: [`VarianceScaling`].
///
/// As in JAX, a negative `scale` gives NaN; a parameter without both axes, or without elements, is an error.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// use treex_nn::initializers::{Distribution::Uniform, FanMode::FanIn, variance_scaling};
///
/// let kernel = variance_scaling(3., FanIn, Uniform)(&Key::from(42), &(4, 3).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [4, 3]);
/// assert!(kernel.abs()?.max_all()?.to_scalar::<f32>()? < 1.5); // sqrt(3 · 3 / 4)
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn variance_scaling(scale: f64, mode: FanMode, distribution: Distribution) -> impl InitFn {
    VarianceScaling::new(scale, mode, distribution).build()
}

/// The divisor of [`variance_scaling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FanMode {
    /// The number of inputs of an output.
    FanIn,
    /// The number of outputs of an input.
    FanOut,
    /// The mean of the two.
    FanAvg,
    /// The geometric mean of the two.
    FanGeoAvg,
}

/// The distribution of [`variance_scaling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// A normal distribution.
    Normal,
    /// A normal distribution truncated at two standard deviations, rescaled to keep the variance.
    TruncatedNormal,
    /// A uniform distribution around 0.
    Uniform,
}

/// The standard deviation of the standard normal truncated to (-2, 2).
const CUT_STDDEV: f64 = 0.879_625_661_034_239_8;

/// [`variance_scaling`] with a choice of axes. Negative axes count from the end.
///
/// ```
/// use candle_core::DType;
/// use treex_core::Key;
/// use treex_nn::initializers::{Distribution::Normal, FanMode::FanIn, VarianceScaling};
///
/// // Flax's default for an embedding table `[vocabulary, features]`.
/// let init = VarianceScaling::new(1., FanIn, Normal).out_axis([0]).build();
/// assert_eq!(init(&Key::from(42), &(100, 16).into(), DType::F32)?.dims(), [100, 16]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VarianceScaling {
    scale: f64,
    mode: FanMode,
    distribution: Distribution,
    in_axis: Vec<isize>,
    out_axis: Vec<isize>,
    batch_axis: Vec<isize>,
}

impl VarianceScaling {
    /// Inputs on the last axis but one, outputs on the last, no batch axes.
    #[must_use]
    pub fn new(scale: f64, mode: FanMode, distribution: Distribution) -> Self {
        Self { scale, mode, distribution, in_axis: vec![-2], out_axis: vec![-1], batch_axis: Vec::new() }
    }

    /// The axes of the inputs.
    #[must_use]
    pub fn in_axis(self, in_axis: impl Into<Vec<isize>>) -> Self {
        Self { in_axis: in_axis.into(), ..self }
    }

    /// The axes of the outputs.
    #[must_use]
    pub fn out_axis(self, out_axis: impl Into<Vec<isize>>) -> Self {
        Self { out_axis: out_axis.into(), ..self }
    }

    /// The axes over which independent kernels are stacked.
    #[must_use]
    pub fn batch_axis(self, batch_axis: impl Into<Vec<isize>>) -> Self {
        Self { batch_axis: batch_axis.into(), ..self }
    }

    /// The initializer.
    ///
    /// As in JAX, it fails for an axis out of range and for an empty shape. An axis that is named twice
    /// counts twice.
    #[must_use]
    pub fn build(self) -> impl InitFn {
        move |key: &Key, shape: &Shape, dtype| {
            let samples = match self.distribution {
                Distribution::Normal => key.normal(shape, dtype)?,
                Distribution::TruncatedNormal => key.truncated_normal(-2., 2., shape, dtype)?,
                Distribution::Uniform => key.uniform_between(shape, dtype, -1., 1.)?,
            };
            times(&samples, &self.factor(shape, dtype)?)
        }
    }

    /// The factor of the samples, rounded in their type after each step.
    fn factor(&self, shape: &Shape, dtype: DType) -> Result<Tensor> {
        let variance = scalar(self.scale / self.fan(shape)?, dtype)?;
        Ok(match self.distribution {
            Distribution::Normal => variance.sqrt()?,
            Distribution::TruncatedNormal => (variance.sqrt()? / scalar(CUT_STDDEV, dtype)?)?,
            Distribution::Uniform => (variance * scalar(3., dtype)?)?.sqrt()?,
        })
    }

    fn fan(&self, shape: &Shape) -> Result<f64> {
        let total: f64 = shape.dims().iter().map(|&dim| dim as f64).product();
        let inputs = self.size(shape, &self.in_axis)?;
        let outputs = self.size(shape, &self.out_axis)?;
        let receptive_field = total / inputs / outputs / self.size(shape, &self.batch_axis)?;
        let (fan_in, fan_out) = (inputs * receptive_field, outputs * receptive_field);
        if total == 0. {
            return Err(Error::shape("`variance_scaling` got an empty parameter")
                .expected("a parameter with elements")
                .found(format!("shape {:?}", shape.dims()))
                .remedy("use `zeros`"));
        }
        Ok(match self.mode {
            FanMode::FanIn => fan_in,
            FanMode::FanOut => fan_out,
            FanMode::FanAvg => (fan_in + fan_out) / 2.,
            FanMode::FanGeoAvg => (fan_in * fan_out).sqrt(),
        })
    }

    fn size(&self, shape: &Shape, axes: &[isize]) -> Result<f64> {
        let dims = shape.dims();
        let dim = |&axis: &isize| {
            position(axis, dims.len()).map(|position| dims[position] as f64).ok_or_else(|| {
                let Self { in_axis, out_axis, batch_axis, .. } = self;
                let axes = format!("in_axis {in_axis:?}, out_axis {out_axis:?}, batch_axis {batch_axis:?}");
                Error::shape("`variance_scaling` cannot count the inputs and outputs of a parameter")
                    .expected(format!("axes {axes}"))
                    .found(format!("shape {dims:?}"))
                    .remedy("use `zeros` or `normal(stddev)`, or name the axes with `VarianceScaling`")
            })
        };
        axes.iter().map(dim).product()
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $name:ident: $scale:literal, $mode:ident, $distribution:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// ```
            /// # use candle_core::DType;
            /// # use treex_core::Key;
            #[doc = concat!("let init = treex_nn::initializers::", stringify!($name), "();")]
            /// assert_eq!(init(&Key::from(42), &(3, 4).into(), DType::F32)?.dims(), [3, 4]);
            /// # Ok::<(), treex_core::Error>(())
            /// ```
            #[must_use]
            pub fn $name() -> impl InitFn {
                VarianceScaling::$name().build()
            }
        )*

        /// The initializers by name, for other axes than the last two.
        impl VarianceScaling {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name() -> Self {
                    Self::new($scale, FanMode::$mode, Distribution::$distribution)
                }
            )*
        }
    };
}

named! {
    /// Uniform with variance 2 / (inputs + outputs): for sigmoid and tanh (Glorot and Bengio, 2010).
    glorot_uniform: 1., FanAvg, Uniform;
    /// Truncated normal with variance 2 / (inputs + outputs): for sigmoid and tanh (Glorot and Bengio, 2010).
    glorot_normal: 1., FanAvg, TruncatedNormal;
    /// Uniform with variance 1 / inputs (LeCun et al., 1998).
    lecun_uniform: 1., FanIn, Uniform;
    /// Truncated normal with variance 1 / inputs (LeCun et al., 1998): the default of kernels.
    lecun_normal: 1., FanIn, TruncatedNormal;
    /// Uniform with variance 2 / inputs: for relu (He et al., 2015).
    he_uniform: 2., FanIn, Uniform;
    /// Truncated normal with variance 2 / inputs: for relu (He et al., 2015).
    he_normal: 2., FanIn, TruncatedNormal;
    /// Alias of [`glorot_uniform`].
    xavier_uniform: 1., FanAvg, Uniform;
    /// Alias of [`glorot_normal`].
    xavier_normal: 1., FanAvg, TruncatedNormal;
    /// Alias of [`he_uniform`].
    kaiming_uniform: 2., FanIn, Uniform;
    /// Alias of [`he_normal`].
    kaiming_normal: 2., FanIn, TruncatedNormal;
}
