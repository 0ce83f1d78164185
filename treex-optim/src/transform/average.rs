//! Decaying averages, which most transformations keep.

use crate::engine::{Number, Rule};
use crate::numerics::bias_correction;

/// `average = decay * average + (1 - decay) * x` of one step, and how it is corrected before use.
#[derive(Clone, Debug)]
pub(crate) struct Average {
    decay: f64,
    scale: f64,
    /// What `x` is scaled by where the average looks one step ahead, elsewhere 0.
    ahead: f64,
}

impl Average {
    /// Used as it is.
    pub(crate) fn raw(decay: f64) -> Self {
        Self { decay, scale: 1., ahead: 0. }
    }

    /// Corrected for its start at zero: `average / (1 - decay^t)`.
    pub(crate) fn debiased(decay: f64, t: u64) -> Self {
        Self { decay, scale: 1. / bias_correction(decay, t), ahead: 0. }
    }

    /// Corrected, and if `nesterov` one step ahead:
    /// `decay * average / (1 - decay^(t+1)) + (1 - decay) * x / (1 - decay^t)`.
    pub(crate) fn nesterov(decay: f64, t: u64, nesterov: bool) -> Self {
        if !nesterov {
            return Self::debiased(decay, t);
        }
        let scale = decay / bias_correction(decay, t.saturating_add(1));
        Self { decay, scale, ahead: (1. - decay) / bias_correction(decay, t) }
    }

    /// The next average, and what is used of it.
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
