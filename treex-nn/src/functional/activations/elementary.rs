//! `expm1` and `log1p`, which Candle lacks.

use candle_core::Tensor;

use crate::ops::derivative::with_derivative;

/// `exp(x) - 1` without the loss of digits near 0.
pub(super) fn expm1(x: &Tensor) -> candle_core::Result<Tensor> {
    with_derivative(x, |x| (x / 2.)?.tanh()? * (x.exp()? + 1.)?, Tensor::exp)
}

/// `log(1 + x)` for `x` from 0 to 1 without the loss of digits near 0 (Kahan's quotient). Untracked.
pub(super) fn log1p(x: &Tensor) -> candle_core::Result<Tensor> {
    let sum = (x + 1.)?;
    let quotient = (sum.log()? * x)?.div(&(&sum - 1.)?)?;
    sum.eq(1f64)?.where_cond(x, &quotient)
}
