//! Exponential moving averages.

use crate::engine::{Number, Rule};
use crate::numerics::bias_correction;

/// `average = decay * average + (1 - decay) * x` of one step, and its bias correction.
#[derive(Clone, Debug)]
pub(crate) struct Average {
    decay: f64,
    scale: f64,
    /// The weight of `x` in Nesterov momentum, otherwise 0.
    ahead: f64,
}

impl Average {
    /// Without correction.
    pub(crate) fn raw(decay: f64) -> Self {
        Self { decay, scale: 1., ahead: 0. }
    }

    /// Bias-corrected: `average / (1 - decay^t)`.
    pub(crate) fn debiased(decay: f64, t: u64) -> Self {
        Self { decay, scale: 1. / bias_correction(decay, t), ahead: 0. }
    }

    /// Bias-corrected, with Nesterov momentum if `nesterov`: `decay * average / (1 - decay^(t+1)) + (1 -
    /// decay) * x / (1 - decay^t)`.
    pub(crate) fn nesterov(decay: f64, t: u64, nesterov: bool) -> Self {
        if !nesterov {
            return Self::debiased(decay, t);
        }
        let scale = decay / bias_correction(decay, t.saturating_add(1));
        Self { decay, scale, ahead: (1. - decay) / bias_correction(decay, t) }
    }

    /// The next average, and its corrected value.
    #[inline(always)]
    pub(crate) fn next<N: Number>(&self, x: N, average: N) -> (N, N) {
        let average = average * self.decay + x.clone() * (1. - self.decay);
        let used = average.clone() * self.scale;
        if self.ahead == 0. { (average, used) } else { (average, used + x * self.ahead) }
    }
}

impl Rule<1> for Average {
    #[inline(always)]
    fn apply<N: Number>(&self, x: N, _: N, [average]: [N; 1]) -> (N, [N; 1]) {
        let (average, used) = self.next(x, average);
        (used, [average])
    }
}
