//! Shared by `dadapt_adamw` and `prodigy`, which estimate the distance to the solution.

use treex_core::{Leaves, Result};

use crate::engine::{Number, Rule, Terms, sum};
use crate::numerics::{bias_correction, check_decay, check_not_negative};
use crate::scalar::{Count, Scalar};
use crate::schedule::Schedule;
use crate::step_size::StepSize;

/// Checks the options that both have.
pub(super) fn check_options(
    learning_rate: &Schedule,
    [b1, b2]: [f64; 2],
    [eps, first_estimate, weight_decay]: [f64; 3],
) -> Result<()> {
    learning_rate.check("learning_rate")?;
    check_decay("b1", b1)?;
    check_decay("b2", b2)?;
    check_not_negative("eps", eps)?;
    check_not_negative("1 / estim_lr0", 1. / first_estimate)?;
    check_not_negative("weight_decay", weight_decay)
}

/// The learning rate of the next step: the schedule times the estimate.
pub(super) fn step_size(schedule: &Schedule, count: &Count, estimate: &Scalar) -> Result<StepSize> {
    Ok(StepSize::learning_rate(schedule.at(Some(count), "learning_rate")? * estimate.get()?))
}

/// `d * lr * sqrt(1 - b2^t) / (1 - b1^t)`.
pub(super) fn corrected_rate(d: f64, lr: f64, [b1, b2]: [f64; 2], t: u64) -> f64 {
    d * lr * bias_correction(b2, t).sqrt() / bias_correction(b1, t)
}

/// The sum of all elements.
pub(super) fn total(leaves: &Leaves) -> Result<f64> {
    struct Elements;

    impl Terms<1> for Elements {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
            [u]
        }
    }

    Ok(sum(Elements, leaves, leaves)?.total(0))
}

/// The sum of the absolute values of the elements, at the positions of `like`.
pub(super) fn l1_norm(leaves: &Leaves, like: &Leaves) -> Result<f64> {
    struct Magnitudes;

    impl Terms<1> for Magnitudes {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
            [u.abs()]
        }
    }

    Ok(sum(Magnitudes, leaves, like)?.total(0))
}

/// The step of the methods that estimate the distance to the solution: `u = -rate * m / (sqrt(v) + eps) -
/// decay * p`.
pub(super) struct Descend {
    pub(super) rate: f64,
    pub(super) eps: f64,
    pub(super) decay: f64,
}

impl Rule<2> for Descend {
    #[inline(always)]
    fn apply<N: Number>(&self, _: N, p: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        let u = -(m.clone() * self.rate / (v.clone().sqrt() + self.eps)) - p * self.decay;
        (u, [m, v])
    }
}
