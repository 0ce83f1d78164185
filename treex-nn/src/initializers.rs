//! Initializers: `jax.nn.initializers`, by name and bit for bit.
//!
//! An initializer is a function of a key, a shape and an element type. A layer's builder takes one
//! (`Linear::new(3, 4).kernel_init(he_normal())`), and so does a leaf of one's own
//! (`Leaf::param(he_normal(), (3, 4), DType::F32)`); a closure serves as well as the functions here.
//!
//! Each operation is rounded as JAX rounds it. Keys draw `F32` alone so far, and report any other type.

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::{Error, Key, Result};

/// A function that makes a parameter: what `kernel_init` and its like take.
///
/// ```
/// use treex_nn::{Linear, initializers::normal};
///
/// let linear = Linear::new(3, 4).kernel_init(normal(0.02)).bias_init(|key, shape, dtype| {
///     Ok((key.uniform(shape, dtype)? - 0.5)?)
/// });
/// # let _ = linear;
/// ```
pub trait InitFn: Fn(&Key, &Shape, DType) -> Result<Tensor> + Clone + Send + Sync + 'static {}

impl<F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Clone + Send + Sync + 'static> InitFn for F {}

/// All zeros.
///
/// # Errors
/// If the tensor cannot be made.
pub fn zeros(_: &Key, shape: &Shape, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, dtype, &Device::Cpu)?)
}

/// All ones.
///
/// # Errors
/// If the tensor cannot be made.
pub fn ones(_: &Key, shape: &Shape, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::ones(shape, dtype, &Device::Cpu)?)
}

/// All `value`.
#[must_use]
pub fn constant(value: f64) -> impl InitFn {
    move |_: &Key, shape: &Shape, dtype| {
        Ok(Tensor::full(value, shape.clone(), &Device::Cpu)?.to_dtype(dtype)?.contiguous()?)
    }
}

/// Uniform on [0, `scale`).
#[must_use]
pub fn uniform(scale: f64) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| scaled(&key.uniform(shape, dtype)?, scale as f32)
}

/// Normal with mean 0 and standard deviation `stddev`.
#[must_use]
pub fn normal(stddev: f64) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| scaled(&key.normal(shape, dtype)?, stddev as f32)
}

/// The standard normal cut to (-2, 2), times `stddev`, which is therefore a little above the standard
/// deviation of what comes out.
#[must_use]
pub fn truncated_normal(stddev: f64) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| {
        scaled(&key.truncated_normal(-2., 2., shape, dtype)?, stddev as f32)
    }
}

fn scaled(samples: &Tensor, factor: f32) -> Result<Tensor> {
    Ok((samples * f64::from(factor))?)
}

/// Samples with variance `scale / n`, where `mode` says what `n` is, for a kernel whose last two axes are
/// inputs and outputs and whose other axes are the receptive field. Other axes: [`VarianceScaling`].
#[must_use]
pub fn variance_scaling(scale: f64, mode: FanMode, distribution: Distribution) -> impl InitFn {
    VarianceScaling::new(scale, mode, distribution).build()
}

/// The number that [`variance_scaling`] divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FanMode {
    /// Inputs of one output.
    FanIn,
    /// Outputs of one input.
    FanOut,
    /// The mean of the two.
    FanAvg,
    /// The geometric mean of the two.
    FanGeoAvg,
}

/// What [`variance_scaling`] draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// A normal distribution.
    Normal,
    /// A normal distribution cut at two standard deviations, and widened so that the variance is right.
    TruncatedNormal,
    /// A uniform distribution around 0.
    Uniform,
}

/// The standard deviation of the standard normal cut to (-2, 2).
const CUT_STDDEV: f32 = 0.879_625_661_034_239_8_f64 as f32;

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

    /// The axes over which there are many kernels in one.
    #[must_use]
    pub fn batch_axis(self, batch_axis: impl Into<Vec<isize>>) -> Self {
        Self { batch_axis: batch_axis.into(), ..self }
    }

    /// The initializer.
    #[must_use]
    pub fn build(self) -> impl InitFn {
        move |key: &Key, shape: &Shape, dtype| {
            let variance = (self.scale / self.fan(shape)?) as f32;
            match self.distribution {
                Distribution::Normal => scaled(&key.normal(shape, dtype)?, variance.sqrt()),
                Distribution::TruncatedNormal => {
                    let stddev = variance.sqrt() / CUT_STDDEV;
                    scaled(&key.truncated_normal(-2., 2., shape, dtype)?, stddev)
                }
                Distribution::Uniform => {
                    scaled(&key.uniform_between(shape, dtype, -1., 1.)?, (3. * variance).sqrt())
                }
            }
        }
    }

    fn fan(&self, shape: &Shape) -> Result<f64> {
        let total: f64 = shape.dims().iter().map(|&dim| dim as f64).product();
        let inputs = self.size(shape, &self.in_axis)?;
        let outputs = self.size(shape, &self.out_axis)?;
        let receptive_field = total / inputs / outputs / self.size(shape, &self.batch_axis)?;
        let (fan_in, fan_out) = (inputs * receptive_field, outputs * receptive_field);
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
            let index = if axis < 0 { dims.len().checked_add_signed(axis) } else { Some(axis as usize) };
            index.and_then(|index| dims.get(index)).map(|&dim| dim as f64).ok_or_else(|| {
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
    ($($(#[$doc:meta])* $name:ident: $scale:literal, $mode:ident, $distribution:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name() -> impl InitFn {
            variance_scaling($scale, FanMode::$mode, Distribution::$distribution)
        }
    )*};
}

named! {
    /// Uniform with variance 2 / (inputs + outputs): for sigmoid and tanh (Glorot and Bengio, 2010).
    glorot_uniform: 1., FanAvg, Uniform;
    /// Cut normal with variance 2 / (inputs + outputs): for sigmoid and tanh (Glorot and Bengio, 2010).
    glorot_normal: 1., FanAvg, TruncatedNormal;
    /// Uniform with variance 1 / inputs (LeCun et al., 1998).
    lecun_uniform: 1., FanIn, Uniform;
    /// Cut normal with variance 1 / inputs (LeCun et al., 1998): the default of kernels.
    lecun_normal: 1., FanIn, TruncatedNormal;
    /// Uniform with variance 2 / inputs: for relu (He et al., 2015).
    he_uniform: 2., FanIn, Uniform;
    /// Cut normal with variance 2 / inputs: for relu (He et al., 2015).
    he_normal: 2., FanIn, TruncatedNormal;
    /// [`glorot_uniform`] by its other name.
    xavier_uniform: 1., FanAvg, Uniform;
    /// [`glorot_normal`] by its other name.
    xavier_normal: 1., FanAvg, TruncatedNormal;
    /// [`he_uniform`] by its other name.
    kaiming_uniform: 2., FanIn, Uniform;
    /// [`he_normal`] by its other name.
    kaiming_normal: 2., FanIn, TruncatedNormal;
}
