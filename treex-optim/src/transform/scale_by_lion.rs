//! Lion's rescaling.

use candle_core::DType;
use serde::{Deserialize, Serialize};
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_finite, check_float, zeros_in};
use crate::transform::scale_by_sign::Sign;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_lion`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByLionState {
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `mu_dtype`.
    pub mu: Leaves,
}

/// See [`scale_by_lion`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByLion {
    b1: f64,
    b2: f64,
    mu_dtype: Option<DType>,
    mode: LionMode,
    smooth_beta: f64,
}

/// The sign of a mixture of gradient and average:
///
/// ```text
/// x  = b1 * mu + (1 - b1) * g
/// u  = sign(x)
/// mu = b2 * mu + (1 - b2) * g
/// ```
///
/// with `b1 = 0.9` and `b2 = 0.99`. Other modes than [`LionMode::Hard`] replace the sign. There is no
/// bias correction, and no count; Optax has one that it does not read.
///
/// Chen et al., [Symbolic discovery of optimization algorithms](https://arxiv.org/abs/2302.06675), 2023.
#[must_use]
pub fn scale_by_lion() -> ScaleByLion {
    ScaleByLion { b1: 0.9, b2: 0.99, mu_dtype: None, mode: LionMode::Hard, smooth_beta: 1. }
}

builder!(ScaleByLion {
    /// The weight of the average in the update.
    b1: f64,
    /// The decay rate of the average.
    b2: f64,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
    /// The function of the mixture.
    mode: LionMode,
    /// How steep [`LionMode::Smooth`] is.
    smooth_beta: f64,
});

impl GradientTransformation for ScaleByLion {
    type State = ScaleByLionState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_float("mu_dtype", self.mu_dtype)?;
        check_finite("smooth_beta", self.smooth_beta)?;
        Ok(ScaleByLionState { mu: zeros_in(params, self.mu_dtype)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let mixed = updates.map(Mixture { b1: self.b1, b2: self.b2 }, [&mut state.mu])?;
        match self.mode {
            LionMode::Hard => mixed.map(Sign, []),
            LionMode::Smooth => mixed.map(Tanh(self.smooth_beta), []),
            LionMode::Refined => mixed.map(Refined, []),
        }
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// The function that [`scale_by_lion`] applies to the mixture `x` of gradient and average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LionMode {
    /// `sign(x)`.
    #[default]
    Hard,
    /// `tanh(smooth_beta * x)`.
    Smooth,
    /// `x` where it is between -1 and 1, elsewhere `sign(x)`.
    Refined,
}

/// `u = b1 * mu + (1 - b1) * g`, and the next average.
struct Mixture {
    b1: f64,
    b2: f64,
}

impl Rule<1> for Mixture {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu]: [N; 1]) -> (N, [N; 1]) {
        let u = g.clone() * (1. - self.b1) + mu.clone() * self.b1;
        (u, [mu * self.b2 + g * (1. - self.b2)])
    }
}

/// `u = tanh(beta * x)`.
struct Tanh(f64);

impl Rule<0> for Tanh {
    #[inline(always)]
    fn apply<N: Number>(&self, x: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        ((x * self.0).tanh(), [])
    }
}

/// `u = x` where `|x| < 1`, elsewhere `sign(x)`.
struct Refined;

impl Rule<0> for Refined {
    #[inline(always)]
    fn apply<N: Number>(&self, x: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (x.clone().abs().if_less(N::constant(1.), x.clone(), x.sign()), [])
    }
}
