//! AdaGrad's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_not_negative, full_like};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_rss`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByRssState {
    /// The sum of the squares: the parameters' shapes, f32 (f64 for f64 parameters).
    pub sum_of_squares: Leaves,
}

/// See [`scale_by_rss`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByRss {
    initial_accumulator_value: f64,
    eps: f64,
}

/// Divides by the root of the sum of all squares so far:
///
/// ```text
/// sum_of_squares = sum_of_squares + g^2
/// u = g / sqrt(sum_of_squares + eps)          0 where the sum is 0
/// ```
///
/// with `initial_accumulator_value = 0.1`, the sum before the first step, and `eps = 1e-7`. PyTorch's
/// `Adagrad` starts at 0 and adds `eps = 1e-10` to the root.
///
/// Duchi et al., [Adaptive subgradient methods for online learning and stochastic
/// optimization](https://jmlr.org/papers/v12/duchi11a.html), 2011.
#[must_use]
pub fn scale_by_rss() -> ScaleByRss {
    ScaleByRss { initial_accumulator_value: 0.1, eps: 1e-7 }
}

builder!(ScaleByRss {
    /// The sum before the first step.
    initial_accumulator_value: f64,
    /// Added inside the square root.
    eps: f64,
});

impl GradientTransformation for ScaleByRss {
    type State = ScaleByRssState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        check_not_negative("eps", self.eps)?;
        Ok(ScaleByRssState { sum_of_squares: full_like(params, self.initial_accumulator_value)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.map(self.clone(), [&mut state.sum_of_squares])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

impl Rule<1> for ScaleByRss {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [sum]: [N; 1]) -> (N, [N; 1]) {
        let sum = sum + g.clone().sqr();
        let scaled = g / (sum.clone() + self.eps).sqrt();
        // 0 without any gradient yet, NaN for NaN.
        (N::constant(0.).if_less(sum.clone(), scaled, sum.clone() * 0.), [sum])
    }
}
