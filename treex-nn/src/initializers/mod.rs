//! Initializers: `jax.nn.initializers`, by name, with the bits of JAX up to the bounds of [`random`](treex_core::random): 2
//! units in the last place behind `erf_inv` and logarithms, 1e-6 behind the factorization of [`orthogonal`].
//!
//! An initializer is a function of a key, a shape and an element type. A layer's builder takes one
//! (`Linear::new(3, 4).kernel_init(he_normal())`), and so does a leaf
//! (`Leaf::param(he_normal(), (3, 4), DType::F32)`); a closure is an initializer too. The layer gives the
//! element type, so the factories have no argument for it. Arguments that have defaults in JAX are arguments
//! here, or methods of the builders [`VarianceScaling`], [`TruncatedNormal`] and [`Orthogonal`].
//!
//! They draw `F32`, `F64`, `F16` and `BF16`; [`zeros`], [`ones`] and [`constant`] fill any type, and
//! [`orthogonal`] and [`delta_orthogonal`] draw `F32` and `F64`. Each operation is rounded in that type, as
//! JAX rounds it. As in JAX, scales are not checked: a negative scale or standard deviation flips the sign of
//! the samples (in [`variance_scaling`], which takes its root, it gives NaN), and NaN gives NaN.

mod orthogonal;
mod truncated_normal;
mod variance_scaling;

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::size::{self, check_size};
use treex_core::{Key, Result};

pub use orthogonal::{Orthogonal, delta_orthogonal, orthogonal};
pub use truncated_normal::{TruncatedNormal, truncated_normal};
pub use variance_scaling::{
    Distribution, FanMode, VarianceScaling, glorot_normal, glorot_uniform, he_normal, he_uniform,
    kaiming_normal, kaiming_uniform, lecun_normal, lecun_uniform, variance_scaling, xavier_normal,
    xavier_uniform,
};

/// An initializer: the argument of `kernel_init` and similar options.
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

/// All zeros, in any type.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// use treex_nn::initializers::zeros;
/// let kernel = zeros(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.to_vec2::<f32>()?, [[0.; 4]; 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn zeros(_: &Key, shape: &Shape, dtype: DType) -> Result<Tensor> {
    size::zeros(shape, dtype, &Device::Cpu)
}

/// All ones, in any type.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// use treex_nn::initializers::ones;
/// let kernel = ones(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.to_vec2::<f32>()?, [[1.; 4]; 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn ones(_: &Key, shape: &Shape, dtype: DType) -> Result<Tensor> {
    check_size(shape, dtype)?;
    Ok(Tensor::ones(shape, dtype, &Device::Cpu)?)
}

/// [`zeros`], as Flax calls the factory.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::zeros_init();
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.to_vec2::<f32>()?, [[0.; 4]; 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn zeros_init() -> impl InitFn {
    zeros
}

/// [`ones`], as Flax calls the factory.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::ones_init();
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.to_vec2::<f32>()?, [[1.; 4]; 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn ones_init() -> impl InitFn {
    ones
}

/// All `value`, in any type: truncated and saturated in an integer type.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::constant(0.5);
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.to_vec2::<f32>()?, [[0.5; 4]; 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn constant(value: f64) -> impl InitFn {
    move |_: &Key, shape: &Shape, dtype| {
        check_size(shape, dtype)?;
        Ok(scalar(value, dtype)?.broadcast_as(shape.elem_count())?.contiguous()?.reshape(shape)?)
    }
}

/// Uniform on [0, `scale`). JAX's default is 0.01.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::uniform(0.01);
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [3, 4]);
/// assert!(kernel.max_all()?.to_scalar::<f32>()? < 0.01);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn uniform(scale: f64) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| times(&key.uniform(shape, dtype)?, &scalar(scale, dtype)?)
}

/// Normal with mean 0 and standard deviation `stddev`. JAX's default is 0.01.
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::normal(0.01);
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [3, 4]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn normal(stddev: f64) -> impl InitFn {
    move |key: &Key, shape: &Shape, dtype| times(&key.normal(shape, dtype)?, &scalar(stddev, dtype)?)
}

/// The samples times a scalar of their type.
fn times(samples: &Tensor, factor: &Tensor) -> Result<Tensor> {
    // Candle broadcasts eight dimensions at most.
    Ok(samples.flatten_all()?.broadcast_mul(factor)?.reshape(samples.shape())?)
}

/// `value` in element type `dtype`, rounded as by numpy: to `BF16` through `F32`.
fn scalar(value: f64, dtype: DType) -> Result<Tensor> {
    let number = Tensor::new(value, &Device::Cpu)?;
    Ok(if dtype == DType::BF16 { number.to_dtype(DType::F32)? } else { number }.to_dtype(dtype)?)
}
