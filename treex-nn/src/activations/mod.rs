//! Activations: `jax.nn`'s, with its values and its gradients, at corners too.
//!
//! They are functions of a tensor: one stands in a [`Sequential`](crate::Sequential) as `.add_fn(relu)`, or
//! with its options as `.add_fn(|x| elu(x, 1.0))`.
//!
//! Several of Candle's own differ in gradients or digits (`relu` has the derivative 1 at 0, the exact `gelu`
//! no digits in its left tail, `softmax_last_dim` no gradient at all), so each is composed of operations whose
//! gradients are right, on every device.
//!
//! ```
//! use candle_core::{D, Device, Tensor};
//! use treex_nn::{glu, relu, softmax};
//!
//! let x = Tensor::new(&[[-1f32, 0., 2., 3.]], &Device::Cpu)?;
//! assert_eq!(relu(&x)?.to_vec2::<f32>()?, [[0., 0., 2., 3.]]);
//! assert_eq!(softmax(&x, D::Minus1)?.dims(), [1, 4]);
//! assert_eq!(glu(&x, 1)?.dims(), [1, 2]);
//! # Ok::<(), treex_core::Error>(())
//! ```

mod logsumexp;
mod softmax;
mod standardize;

use candle_core::shape::Dim;
use candle_core::{DType, Tensor};
use treex_core::{Error, Result};

use crate::axes::position;
use crate::ops::derivative::with_derivative;
use treex_kernels::elementwise::Elementwise::{
    Elu, Gelu, LeakyRelu, Relu, Relu6, Sigmoid, Silu, Softplus, Tanh,
};

use crate::ops::elementwise::map;
use crate::ops::normal;

pub use logsumexp::{logmeanexp, logmeanexp_where, logsumexp, logsumexp_with};
pub use softmax::{log_softmax, log_softmax_where, softmax, softmax_where};
pub use standardize::{Standardize, normalize, standardize, standardize_with};

/// `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::identity(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// None; it has the form of the other activations.
pub fn identity(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

/// `max(x, 0)`, with derivative 0 at 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::relu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As for all activations here: what Candle reports.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    map(Relu, x, |x| Ok(x.le(0f64)?.where_cond(&x.zeros_like()?, x)?))
}

/// `min(max(x, 0), 6)`, with derivative 0 at 0 and at 6.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::relu6(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    map(Relu6, x, |x| Ok(x.ge(6f64)?.where_cond(&(x.ones_like()? * 6.)?, &relu(x)?)?))
}

/// `x` where positive, `alpha (exp(x) - 1)` elsewhere. Flax's default: `alpha` 1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::elu(&x, 1.)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    map(Elu(alpha), x, |x| {
        let positive = x.gt(0f64)?;
        let below = expm1(&positive.where_cond(&x.zeros_like()?, x)?)?;
        Ok(positive.where_cond(x, &(below * alpha)?)?)
    })
}

/// `max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)`. Flax's default: `alpha` 1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::celu(&x, 1.)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn celu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let below = expm1(&(x.minimum(0f64)? / alpha)?)?;
    Ok((x.maximum(0f64)? + (below * alpha)?)?)
}

/// [`elu`] with the `alpha` and the factor that keep mean 0 and variance 1 (Klambauer et al., 2017).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::selu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.1113, 0.0000, 2.1014]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn selu(x: &Tensor) -> Result<Tensor> {
    Ok((elu(x, 1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5)?)
}

/// `x Φ(x)`, where `Φ` is the normal distribution function, with all digits in both tails; `approximate` takes
/// a formula with `tanh`, which is Flax's default.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::gelu(&x, true)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.1588, 0.0000, 1.9546]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn gelu(x: &Tensor, approximate: bool) -> Result<Tensor> {
    if !approximate {
        return Ok(with_derivative(x, normal::gelu, normal::gelu_derivative)?);
    }
    map(Gelu, x, |x| {
        let cube = (x.sqr()? * x)?;
        let inner = ((x + (cube * 0.044715)?)? * (2. / std::f64::consts::PI).sqrt())?;
        Ok((x * ((inner.tanh()? + 1.)? * 0.5)?)?)
    })
}

/// `x sigmoid(x)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::silu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.2689, 0.0000, 1.7616]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    map(Silu, x, |x| Ok((x * sigmoid(x)?)?))
}

pub use silu as swish;

/// `1 / (1 + exp(-x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.2689, 0.5000, 0.8808]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    map(Sigmoid, x, |x| Ok(candle_nn::ops::sigmoid(x)?))
}

/// `log(sigmoid(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::log_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.3133, -0.6931, -0.1269]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(softplus(&x.neg()?)?.neg()?)
}

/// `log(1 + exp(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::softplus(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.3133, 0.6931, 2.1269]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    let value = |x: &Tensor| x.maximum(0f64)? + log1p(&x.abs()?.neg()?.exp()?)?;
    map(Softplus, x, |x| Ok(with_derivative(x, value, candle_nn::ops::sigmoid)?))
}

/// `log(1 - exp(-x))`, for `x` from 0 on.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0.5f32, 1., 2.], &Device::Cpu)?;
/// let y = treex_nn::log1mexp(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.9328, -0.4587, -0.1454]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn log1mexp(x: &Tensor) -> Result<Tensor> {
    // Each formula has its digits on one side (Mächler, 2012).
    let value = |x: &Tensor| {
        let near = expm1(&x.neg()?)?.neg()?.log()?;
        let far = log1p(&x.neg()?.exp()?.neg()?)?;
        x.lt(std::f64::consts::LN_2)?.where_cond(&near, &far)
    };
    Ok(with_derivative(x, value, |x| expm1(x)?.recip())?)
}

/// `x / (|x| + 1)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::soft_sign(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.5000, 0.0000, 0.6667]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn soft_sign(x: &Tensor) -> Result<Tensor> {
    Ok((x / (x.abs()? + 1.)?)?)
}

/// `x` where not negative, `negative_slope x` elsewhere. Flax's default: 0.01.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::leaky_relu(&x, 0.01)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.0100, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    map(LeakyRelu(negative_slope), x, |x| Ok(x.ge(0f64)?.where_cond(x, &(x * negative_slope)?)?))
}

/// `x`, cut at -1 and 1, with derivative 1 there.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_tanh(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.0000, 0.0000, 1.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn hard_tanh(x: &Tensor) -> Result<Tensor> {
    let ones = x.ones_like()?;
    let below = x.lt(-1f64)?.where_cond(&ones.neg()?, x)?;
    Ok(x.gt(1f64)?.where_cond(&ones, &below)?)
}

/// `relu6(x + 3) / 6`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.3333, 0.5000, 0.8333]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn hard_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((relu6(&(x + 3.)?)? / 6.)?)
}

/// `x hard_sigmoid(x)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_silu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.3333, 0.0000, 1.6667]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn hard_silu(x: &Tensor) -> Result<Tensor> {
    Ok((x * hard_sigmoid(x)?)?)
}

pub use hard_silu as hard_swish;

/// The hyperbolic tangent.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::tanh(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.7616, 0.0000, 0.9640]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    map(Tanh, x, |x| Ok(x.tanh()?))
}

/// `x tanh(softplus(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::mish(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.3034, 0.0000, 1.9440]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn mish(x: &Tensor) -> Result<Tensor> {
    Ok((x * softplus(x)?.tanh()?)?)
}

/// `(x + sqrt(x² + b)) / 2`. JAX's default: `b` 4.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::squareplus(&x, 4.)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.6180, 1.0000, 2.4142]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn squareplus(x: &Tensor, b: f64) -> Result<Tensor> {
    Ok(((x + (x.sqr()? + b)?.sqrt()?)? / 2.)?)
}

/// 0 up to -1, `x` from 1 on, `(x + 1)² / 4` between.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sparse_plus(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.2500, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn sparse_plus(x: &Tensor) -> Result<Tensor> {
    let between = ((x + 1.)?.sqr()? / 4.)?;
    let above = x.ge(1f64)?.where_cond(x, &between)?;
    Ok(x.le(-1f64)?.where_cond(&x.zeros_like()?, &above)?)
}

/// The derivative of [`sparse_plus`]: 0 up to -1, 1 from 1 on, `(x + 1) / 2` between.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sparse_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.5000, 1.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`relu`].
pub fn sparse_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(((x + 1.)?.maximum(0f64)?.minimum(2f64)? * 0.5)?)
}

/// Gated linear unit: one half of `x` along `dim`, times the sigmoid of the other.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2., 0., 1.]], &Device::Cpu)?;
/// let y = treex_nn::glu(&x, 1)?;
/// assert_eq!(y.dims(), [1, 2]);
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[0.5000, 1.4621]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the size along `dim` is odd.
pub fn glu(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "glu")?;
    let size = x.dim(dim)?;
    if size % 2 == 1 {
        return Err(Error::shape("`glu` cannot halve its input")
            .expected(format!("an even size of dimension {dim}"))
            .found(format!("{:?}", x.dims())));
    }
    let (values, gates) = (x.narrow(dim, 0, size / 2)?, x.narrow(dim, size / 2, size / 2)?);
    Ok((values * sigmoid(&gates)?)?)
}

/// Integers as vectors of `F32` on a new dimension at `axis`: 1 at the integer's place, 0 elsewhere, and all 0
/// for one that is not from 0 to `num_classes`. Negative axes count from the end; Flax's default is -1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let labels = Tensor::new(&[2u32, 0], &Device::Cpu)?;
/// let y = treex_nn::one_hot(&labels, 3, -1)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0., 0., 1.], [1., 0., 0.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` does not hold integers, or the result cannot have that axis.
pub fn one_hot(x: &Tensor, num_classes: usize, axis: isize) -> Result<Tensor> {
    let rank = x.rank() + 1;
    let Some(index) = position(axis, rank).filter(|_| x.dtype().is_int()) else {
        return Err(Error::argument("`one_hot` cannot make vectors of its input")
            .expected(format!("integers, and an axis from -{rank} to {}", rank - 1))
            .found(format!("`{}` and axis {axis}", x.dtype().as_str())));
    };
    let mut shape = vec![1; rank];
    shape[index] = num_classes;
    let classes = Tensor::arange(0, num_classes as i64, x.device())?.reshape(shape)?;
    Ok(x.to_dtype(DType::I64)?.unsqueeze(index)?.broadcast_eq(&classes)?.to_dtype(DType::F32)?)
}

/// `exp(x) - 1` without the loss of digits near 0.
fn expm1(x: &Tensor) -> candle_core::Result<Tensor> {
    with_derivative(x, |x| (x / 2.)?.tanh()? * (x.exp()? + 1.)?, Tensor::exp)
}

/// `log(1 + x)` for `x` from 0 to 1 without the loss of digits near 0 (Kahan's quotient). Untracked.
fn log1p(x: &Tensor) -> candle_core::Result<Tensor> {
    let sum = (x + 1.)?;
    let quotient = (sum.log()? * x)?.div(&(&sum - 1.)?)?;
    sum.eq(1f64)?.where_cond(x, &quotient)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{Leaf, Parameter, grad};

    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn infinities() -> Result<()> {
        let x = Tensor::new(&[f32::NEG_INFINITY, f32::INFINITY], &Device::Cpu)?;
        assert_eq!(values(&relu(&x)?), [0., f32::INFINITY]);
        assert_eq!(values(&elu(&x, 1.)?), [-1., f32::INFINITY]);
        assert_eq!(values(&softplus(&x)?), [0., f32::INFINITY]);
        assert_eq!(values(&log_sigmoid(&x)?), [f32::NEG_INFINITY, 0.]);
        assert_eq!(values(&logsumexp(&x.narrow(0, 0, 1)?, 0)?), [f32::NEG_INFINITY]);
        assert_eq!(values(&logsumexp(&x, 0)?), [f32::INFINITY]);
        let nan = Tensor::new(f32::NAN, &Device::Cpu)?;
        for f in [relu, relu6, selu, softplus, hard_tanh, sparse_plus, sparse_sigmoid] {
            assert!(values(&f(&nan)?)[0].is_nan());
        }
        Ok(())
    }

    /// Half precision is summed in `F32`.
    #[test]
    fn half_precision() -> Result<()> {
        for dtype in [DType::F16, DType::BF16] {
            let x = Tensor::zeros((1, 5000), dtype, &Device::Cpu)?;
            let sum = softmax(&x, 1)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
            assert!((sum - 1.).abs() < 4e-3, "{dtype:?} {sum}");
            let log = logsumexp(&x, 1)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            assert!((log[0] - 5000f32.ln()).abs() < 0.04, "{dtype:?} {log:?}");
            for y in [softmax(&x, 1)?, log_softmax(&x, 1)?, standardize(&x, 1, 1e-5)?, gelu(&x, false)?] {
                assert_eq!(y.dtype(), dtype);
            }
        }
        let integers = Tensor::new(&[1i64, 2], &Device::Cpu)?;
        assert_eq!(softmax(&integers, 0)?.dtype(), DType::F32);
        Ok(())
    }

    /// Where the mask leaves nothing, no gradient is lost to what is not a number.
    #[test]
    fn mask_of_all() -> Result<()> {
        let x = Leaf::<Parameter>::new(Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?)?;
        let mask = Tensor::new(&[[0u8, 0], [1, 0]], &Device::Cpu)?;
        let dx = grad(&x, |x| Ok(softmax_where(&x.get()?, 1, &mask)?.sqr()?.sum_all()?))?;
        assert_eq!(values(&dx.get()?), [0.; 4]);
        assert_eq!(values(&softmax_where(&x.get()?, 1, &mask)?), [0., 0., 1., 0.]);
        let log = values(&log_softmax_where(&x.get()?, 1, &mask)?);
        assert_eq!(log, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0., f32::NEG_INFINITY]);
        Ok(())
    }

    #[test]
    fn nothing() -> Result<()> {
        let x = Tensor::zeros((3, 0), DType::F32, &Device::Cpu)?;
        assert_eq!(relu(&x)?.dims(), [3, 0]);
        for dim in [0, 1] {
            assert_eq!(softmax(&x, dim)?.dims(), [3, 0]);
            assert_eq!(log_softmax(&x, dim)?.dims(), [3, 0]);
        }
        assert_eq!(values(&logsumexp(&x, 1)?), [f32::NEG_INFINITY; 3]);
        Ok(())
    }

    /// What is a view, or goes through one, has a gradient as well.
    #[test]
    fn strided() -> Result<()> {
        let x = Leaf::<Parameter>::new(Tensor::new(&[[0f32, 1., 2.], [3., 4., 5.]], &Device::Cpu)?)?;
        let dx = grad(&x, |x| Ok(softplus(&x.get()?.narrow(1, 1, 2)?.t()?)?.sum_all()?))?;
        let sigmoid = |x: f32| 1. / (1. + (-x).exp());
        let expected = [0., sigmoid(1.), sigmoid(2.), 0., sigmoid(4.), sigmoid(5.)];
        assert!(values(&dx.get()?).iter().zip(expected).all(|(got, want)| (got - want).abs() < 1e-6));
        Ok(())
    }

    #[test]
    fn misuse() {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let error = glu(&x, 1).unwrap_err().to_string();
        assert_eq!(error, "`glu` cannot halve its input: expected an even size of dimension 1, found [2, 3]");
        let error = softmax_where(&x, 1, &x.narrow(1, 0, 2).unwrap()).unwrap_err().to_string();
        let text =
            "the mask of `softmax_where` does not fit its input: expected a shape that broadcasts to [2, 3]";
        assert_eq!(error, format!("{text}, found [2, 2]"));
        let four = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
        assert!(log_softmax_where(&x, 1, &four).is_err() && logmeanexp_where(&x, 1, &four).is_err());
        assert!(logsumexp_with(&x, 1, Some(&four), None).is_err());
        for mean in [Some(&four), None] {
            let options = Standardize { mean, variance: Some(&four), ..Standardize::default() };
            assert!(standardize_with(&x, 1, &options).is_err());
        }
        let error = one_hot(&x, 4, -1).unwrap_err().to_string();
        assert!(
            error.ends_with("expected integers, and an axis from -3 to 2, found `f32` and axis -1"),
            "{error}"
        );
        assert!(one_hot(&x.to_dtype(DType::U8).unwrap(), 4, 3).is_err());
    }
}
