//! Activations: `jax.nn`'s, with its values and its gradients, at corners too.
//!
//! They are functions of a tensor: one stands in a [`Sequential`](crate::Sequential) as `.add_fn(relu)`, or
//! with its options as `.add_fn(|x| elu(x, 1.0))`.
//!
//! Several of Candle's own differ in gradients or digits (`relu` has the derivative 1 at 0, the exact `gelu`
//! constants of six digits, `softmax_last_dim` no gradient at all), so each is composed of operations whose
//! gradients are right, on every device.
//!
//! ```
//! use candle_core::{D, Device, Tensor};
//! use treex_nn::{glu, one_hot, relu, softmax};
//!
//! let x = Tensor::new(&[[-1f32, 0., 2., 3.]], &Device::Cpu)?;
//! assert_eq!(relu(&x)?.to_vec2::<f32>()?, [[0., 0., 2., 3.]]);
//! assert_eq!(softmax(&x, D::Minus1)?.dims(), [1, 4]);
//! assert_eq!(glu(&x, 1)?.dims(), [1, 2]);
//! let labels = Tensor::new(&[2u32, 0], &Device::Cpu)?;
//! assert_eq!(one_hot(&labels, 3, -1)?.to_vec2::<f32>()?, [[0., 0., 1.], [1., 0., 0.]]);
//! # Ok::<(), treex_core::Error>(())
//! ```

use candle_core::shape::Dim;
use candle_core::{DType, Tensor};
use treex_core::{Error, Result};

use crate::ops::derivative::with_derivative;

/// `max(x, 0)`, with derivative 0 at 0.
///
/// # Errors
/// As for all activations here: what Candle reports.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.le(0f64)?.where_cond(&x.zeros_like()?, x)?)
}

/// `min(max(x, 0), 6)`, with derivative 0 at 0 and at 6.
///
/// # Errors
/// As [`relu`].
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    Ok(x.ge(6f64)?.where_cond(&(x.ones_like()? * 6.)?, &relu(x)?)?)
}

/// `x` where positive, `alpha (exp(x) - 1)` elsewhere. Flax's default: `alpha` 1.
///
/// # Errors
/// As [`relu`].
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let positive = x.gt(0f64)?;
    let below = expm1(&positive.where_cond(&x.zeros_like()?, x)?)?;
    Ok(positive.where_cond(x, &(below * alpha)?)?)
}

/// `max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)`. Flax's default: `alpha` 1.
///
/// # Errors
/// As [`relu`].
pub fn celu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let below = expm1(&(x.minimum(0f64)? / alpha)?)?;
    Ok((x.maximum(0f64)? + (below * alpha)?)?)
}

/// [`elu`] with the `alpha` and the factor that keep mean 0 and variance 1 (Klambauer et al., 2017).
///
/// # Errors
/// As [`relu`].
pub fn selu(x: &Tensor) -> Result<Tensor> {
    Ok((elu(x, 1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5)?)
}

/// `x Φ(x)`, where `Φ` is the normal distribution function; `approximate` takes a formula with `tanh`, which
/// is Flax's default.
///
/// # Errors
/// As [`relu`].
pub fn gelu(x: &Tensor, approximate: bool) -> Result<Tensor> {
    let twice_phi = if approximate {
        let cube = (x.sqr()? * x)?;
        let inner = (x + (cube * 0.044715)?)?;
        ((inner * (2. / std::f64::consts::PI).sqrt())?.tanh()? + 1.)?
    } else {
        ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.)?
    };
    Ok((x * (twice_phi * 0.5)?)?)
}

/// `x sigmoid(x)`.
///
/// # Errors
/// As [`relu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Ok((x * sigmoid(x)?)?)
}

pub use silu as swish;

/// `1 / (1 + exp(-x))`.
///
/// # Errors
/// As [`relu`].
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::ops::sigmoid(x)?)
}

/// `log(sigmoid(x))`.
///
/// # Errors
/// As [`relu`].
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(softplus(&x.neg()?)?.neg()?)
}

/// `log(1 + exp(x))`.
///
/// # Errors
/// As [`relu`].
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    let value = |x: &Tensor| x.maximum(0f64)? + log1p(&x.abs()?.neg()?.exp()?)?;
    Ok(with_derivative(x, value, candle_nn::ops::sigmoid)?)
}

/// `x / (|x| + 1)`.
///
/// # Errors
/// As [`relu`].
pub fn soft_sign(x: &Tensor) -> Result<Tensor> {
    Ok((x / (x.abs()? + 1.)?)?)
}

/// `x` where not negative, `negative_slope x` elsewhere. Flax's default: 0.01.
///
/// # Errors
/// As [`relu`].
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    Ok(x.ge(0f64)?.where_cond(x, &(x * negative_slope)?)?)
}

/// `x`, cut at -1 and 1, with derivative 1 there.
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
/// # Errors
/// As [`relu`].
pub fn hard_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((relu6(&(x + 3.)?)? / 6.)?)
}

/// `x hard_sigmoid(x)`.
///
/// # Errors
/// As [`relu`].
pub fn hard_silu(x: &Tensor) -> Result<Tensor> {
    Ok((x * hard_sigmoid(x)?)?)
}

pub use hard_silu as hard_swish;

/// The hyperbolic tangent.
///
/// # Errors
/// As [`relu`].
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    Ok(x.tanh()?)
}

/// `x tanh(softplus(x))`.
///
/// # Errors
/// As [`relu`].
pub fn mish(x: &Tensor) -> Result<Tensor> {
    Ok((x * softplus(x)?.tanh()?)?)
}

/// `(x + sqrt(x² + b)) / 2`. JAX's default: `b` 4.
///
/// # Errors
/// As [`relu`].
pub fn squareplus(x: &Tensor, b: f64) -> Result<Tensor> {
    Ok(((x + (x.sqr()? + b)?.sqrt()?)? / 2.)?)
}

/// 0 up to -1, `x` from 1 on, `(x + 1)² / 4` between.
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
/// # Errors
/// As [`relu`].
pub fn sparse_sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok(((x + 1.)?.maximum(0f64)?.minimum(2f64)? * 0.5)?)
}

/// Gated linear unit: one half of `x` along `dim`, times the sigmoid of the other.
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

/// `exp(x) / Σ exp(x)` along `dim`.
///
/// # Errors
/// As [`relu`].
pub fn softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "softmax")?;
    let powers = x.broadcast_sub(&largest(x, dim)?)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(dim)?)?)
}

/// `log(softmax(x))` along `dim`.
///
/// # Errors
/// As [`relu`].
pub fn log_softmax(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "log_softmax")?;
    let shifted = x.broadcast_sub(&largest(x, dim)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(dim)?.log()?)?)
}

/// `log(Σ exp(x))` along `dim`, which goes away.
///
/// # Errors
/// As [`relu`].
pub fn logsumexp(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "logsumexp")?;
    // Where all are infinite there is nothing to shift by.
    let largest = largest(x, dim)?;
    let finite = largest.abs()?.lt(f64::INFINITY)?;
    let shift = finite.where_cond(&largest, &largest.zeros_like()?)?;
    let sum = x.broadcast_sub(&shift)?.exp()?.sum(dim)?;
    Ok((sum.log()? + shift.squeeze(dim)?)?)
}

/// `log(mean(exp(x)))` along `dim`, which goes away.
///
/// # Errors
/// As [`relu`].
pub fn logmeanexp(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "logmeanexp")?;
    Ok((logsumexp(x, dim)? - (x.dim(dim)? as f64).ln())?)
}

/// `(x - mean) / sqrt(var + epsilon)` along `dim`. Flax's default: `epsilon` 1e-5.
///
/// # Errors
/// As [`relu`].
pub fn standardize(x: &Tensor, dim: impl Dim, epsilon: f64) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "standardize")?;
    let mean = x.mean_keepdim(dim)?;
    let var = (x.sqr()?.mean_keepdim(dim)? - mean.sqr()?)?.maximum(0f64)?;
    Ok(x.broadcast_sub(&mean)?.broadcast_mul(&(var + epsilon)?.sqrt()?.recip()?)?)
}

/// Integers as vectors of `F32` on a new dimension at `axis`: 1 at the integer's place, 0 elsewhere, and all 0
/// for one that is not from 0 to `num_classes`. Negative axes count from the end; Flax's default is -1.
///
/// # Errors
/// If `x` does not hold integers, or the result cannot have that axis.
pub fn one_hot(x: &Tensor, num_classes: usize, axis: isize) -> Result<Tensor> {
    let rank = x.rank() + 1;
    let index = if axis < 0 { rank.checked_add_signed(axis) } else { Some(axis as usize) };
    let Some(index) = index.filter(|&index| index < rank && x.dtype().is_int()) else {
        return Err(Error::argument("`one_hot` cannot make vectors of its input")
            .expected(format!("integers, and an axis from -{rank} to {}", rank - 1))
            .found(format!("`{}` and axis {axis}", x.dtype().as_str())));
    };
    let mut shape = vec![1; rank];
    shape[index] = num_classes;
    let classes = Tensor::arange(0, num_classes as i64, x.device())?.reshape(shape)?;
    Ok(x.to_dtype(DType::I64)?.unsqueeze(index)?.broadcast_eq(&classes)?.to_dtype(DType::F32)?)
}

/// The maximum along `dim`, untracked: only a shift, of which the result is no function. Candle's cannot take
/// the maximum of nothing.
fn largest(x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    if x.elem_count() > 0 {
        return x.detach().max_keepdim(dim);
    }
    let mut shape = x.dims().to_vec();
    shape[dim] = 1;
    Tensor::full(f64::NEG_INFINITY, shape, x.device())?.to_dtype(x.dtype())
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
        let error = one_hot(&x, 4, -1).unwrap_err().to_string();
        assert!(
            error.ends_with("expected integers, and an axis from -3 to 2, found `f32` and axis -1"),
            "{error}"
        );
        assert!(one_hot(&x.to_dtype(DType::U8).unwrap(), 4, 3).is_err());
    }
}
