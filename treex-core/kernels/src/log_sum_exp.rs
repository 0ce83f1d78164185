//! A stable log-sum-exp, the basis of softmax along rows.

use super::float::Float;
use super::math::Real;
use super::reduce::{largest, sums};

/// The maximum of a row, and the logarithm of the sum of `exp(x - max)`. They are kept apart, since their sum would
/// lose digits of the smaller one.
#[derive(Clone, Copy, Debug)]
pub struct LogSumExp<W> {
    /// `max(x)`.
    pub largest: W,
    /// `log(sum(exp(x - max(x))))`.
    pub log_sum: W,
}

impl<W: Real> LogSumExp<W> {
    /// Log-sum-exp of a row.
    #[inline(always)]
    pub fn of<T: Float<Wide = W>>(row: &[T]) -> Self {
        let largest = largest(row, T::widen);
        let [sum] = sums(row, |x| [(x.widen() - largest).exp()]);
        Self { largest, log_sum: sum.ln() }
    }

    /// `log(softmax(x))` of one element.
    #[inline(always)]
    pub fn log_softmax(self, x: W) -> W {
        (x - self.largest) - self.log_sum
    }
}
