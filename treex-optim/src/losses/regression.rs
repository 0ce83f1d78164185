//! Losses over real numbers. (In Optax missing targets are zeros; here targets are required.)

use std::f64::consts::LN_2;

use candle_core::Tensor;
use treex_core::extrema::{clamp, maximum};
use treex_core::{Error, Result};

use super::math::softplus;
use super::{Over, aligned};

/// `(predictions - targets)^2`, elementwise: any shape, the same for both.
///
/// # Errors
/// If shapes or element types differ, or are not floats.
pub fn squared_error(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(errors("squared_error", predictions, targets)?.sqr()?)
}

/// Half of [`squared_error`], whose gradient is the difference: `0.5 * (predictions - targets)^2`.
///
/// # Errors
/// As [`squared_error`].
pub fn l2_loss(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok((errors("l2_loss", predictions, targets)?.sqr()? * 0.5)?)
}

/// [`huber_loss_with`] a `delta` of 1.
///
/// # Errors
/// As [`squared_error`].
pub fn huber_loss(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    huber_loss_with(predictions, targets, 1.)
}

/// [`l2_loss`] for errors up to `delta`, linear beyond, elementwise:
///
/// ```text
/// q = min(|error|, delta)
/// 0.5 * q^2 + delta * (|error| - q)
/// ```
///
/// Its gradient is that of `l2_loss`, clipped to `delta`.
///
/// # Errors
/// As [`squared_error`].
pub fn huber_loss_with(predictions: &Tensor, targets: &Tensor, delta: f64) -> Result<Tensor> {
    if delta.is_nan() || delta < 0. {
        return Err(Error::argument("`delta` of `huber_loss` is out of range")
            .expected("at least 0")
            .found(delta));
    }
    let errors = errors("huber_loss", predictions, targets)?;
    // A constant beyond `delta`, chosen and not computed, so that the gradient at an infinity is no NaN.
    let beyond = clamp(&errors.detach(), -delta, delta)?;
    let clipped = errors.abs()?.le(delta)?.where_cond(&errors, &beyond)?;
    Ok((&clipped * (errors - (&clipped * 0.5)?)?)?)
}

/// `log(cosh(predictions - targets))`, elementwise: about half the square for small errors, and the
/// error minus `log(2)` for large ones.
///
/// Chen et al., [Log Hyperbolic Cosine Loss Improves Variational
/// Auto-Encoder](https://openreview.net/forum?id=rkglvsC9Ym), 2019.
///
/// # Errors
/// As [`squared_error`].
pub fn log_cosh(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let errors = errors("log_cosh", predictions, targets)?.abs()?;
    Ok((softplus(&(&errors * -2.)?)? + errors.affine(1., -LN_2)?)?)
}

/// [`cosine_similarity_with`] an `epsilon` of 0, over the last axis: `[.., n]`, `[.., n]` to `[..]`.
///
/// # Errors
/// As `cosine_similarity_with`.
pub fn cosine_similarity(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    cosine_similarity_with(predictions, targets, 0., &Over::default())
}

/// The cosine of the angle between vectors:
///
/// ```text
/// sum(p / sqrt(max(sum(p^2), epsilon)) * t / sqrt(max(sum(t^2), epsilon)))
/// ```
///
/// With an `epsilon` of 0 it is NaN for a vector of zeros.
///
/// # Errors
/// If shapes or element types differ or are not floats, or the axes or the mask do not fit.
pub fn cosine_similarity_with(
    predictions: &Tensor,
    targets: &Tensor,
    epsilon: f64,
    over: &Over<'_>,
) -> Result<Tensor> {
    let name = "cosine_similarity";
    let (predictions, targets) = aligned(name, ("predictions", predictions), ("targets", targets))?;
    let rows = over.of(name, &predictions)?;
    let unit = |vectors: &Tensor| -> Result<Tensor> {
        let vectors = rows.only(&rows.arrange(vectors)?)?;
        let norm = maximum(&vectors.sqr()?.sum_keepdim(candle_core::D::Minus1)?, epsilon)?.sqrt()?;
        Ok(vectors.broadcast_div(&norm)?)
    };
    rows.sum(&(unit(&predictions)? * unit(&targets)?)?)
}

/// `1 - cosine_similarity`, over the last axis: `[.., n]`, `[.., n]` to `[..]`.
///
/// # Errors
/// As [`cosine_similarity_with`].
pub fn cosine_distance(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    cosine_distance_with(predictions, targets, 0., &Over::default())
}

/// `1 - cosine_similarity`.
///
/// # Errors
/// As [`cosine_similarity_with`].
pub fn cosine_distance_with(
    predictions: &Tensor,
    targets: &Tensor,
    epsilon: f64,
    over: &Over<'_>,
) -> Result<Tensor> {
    Ok(cosine_similarity_with(predictions, targets, epsilon, over)?.affine(-1., 1.)?)
}

fn errors(loss: &str, predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (predictions, targets) = aligned(loss, ("predictions", predictions), ("targets", targets))?;
    Ok((predictions - targets)?)
}
