//! AdEMAMix.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_decay, check_float, check_not_negative, zeros_in, zeros_like};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_ademamix`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdemamixState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The fast average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or `mu_dtype`.
    pub m1: Leaves,
    /// The slow average: as `m1`.
    pub m2: Leaves,
    /// The average of their squares: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
}

/// See [`scale_by_ademamix`].
#[derive(Clone, Debug)]
pub struct ScaleByAdemamix {
    b1: f64,
    b2: f64,
    b3: Schedule,
    alpha: Schedule,
    eps: f64,
    eps_root: f64,
    mu_dtype: Option<DType>,
}

/// [`scale_by_adam`](crate::scale_by_adam) with a second, slow average of the gradients, without bias
/// correction:
///
/// ```text
/// m1 = b1 m1 + (1 - b1) g     m2 = b3 m2 + (1 - b3) g     nu = b2 nu + (1 - b2) g^2
/// u  = (m1 / (1 - b1^t) + alpha m2) / (sqrt(nu / (1 - b2^t) + eps_root) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `b3 = 0.9999`, `alpha = 6`, `eps = 1e-8` and `eps_root = 0`. The paper
/// increases `b3` and `alpha` during training; both may be schedules of the number of previous steps.
///
/// Pagliardini, Ablin and Grangier, [The AdEMAMix optimizer](https://arxiv.org/abs/2409.03137), 2024.
#[must_use]
pub fn scale_by_ademamix() -> ScaleByAdemamix {
    ScaleByAdemamix {
        b1: 0.9,
        b2: 0.999,
        b3: Schedule::from(0.9999),
        alpha: Schedule::from(6.),
        eps: 1e-8,
        eps_root: 0.,
        mu_dtype: None,
    }
}

builder!(ScaleByAdemamix {
    /// The decay rate of the fast average.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// The decay rate of the slow average.
    b3: impl Into<Schedule>,
    /// The weight of the slow average.
    alpha: impl Into<Schedule>,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
    /// The element type of both averages of the gradients. In Optax it is that of the first step alone, and of `nu` too.
    mu_dtype: impl Into<Option<DType>>,
});

impl GradientTransformation for ScaleByAdemamix {
    type State = ScaleByAdemamixState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        self.b3.check("b3")?;
        self.alpha.check("alpha")?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_float("mu_dtype", self.mu_dtype)?;
        Ok(ScaleByAdemamixState {
            count: Count::zero()?,
            m1: zeros_in(params, self.mu_dtype)?,
            m2: zeros_in(params, self.mu_dtype)?,
            nu: zeros_like(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let b3 = self.b3.at(Some(&state.count), "b3")?;
        let alpha = self.alpha.at(Some(&state.count), "alpha")?;
        let t = state.count.advance()?;
        let rule = Step {
            b1: self.b1,
            b2: self.b2,
            b3,
            alpha,
            eps: self.eps,
            eps_root: self.eps_root,
            m1_scale: 1. / bias_correction(self.b1, t),
            nu_scale: 1. / bias_correction(self.b2, t),
        };
        updates.map(rule, [&mut state.m1, &mut state.m2, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its values of the schedules and corrections.
struct Step {
    b1: f64,
    b2: f64,
    b3: f64,
    alpha: f64,
    eps: f64,
    eps_root: f64,
    m1_scale: f64,
    nu_scale: f64,
}

impl Rule<3> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m1, m2, nu]: [N; 3]) -> (N, [N; 3]) {
        let m1 = m1 * self.b1 + g.clone() * (1. - self.b1);
        let m2 = m2 * self.b3 + g.clone() * (1. - self.b3);
        let nu = nu * self.b2 + g.sqr() * (1. - self.b2);
        let root = (nu.clone() * self.nu_scale + self.eps_root).sqrt() + self.eps;
        let u = (m1.clone() * self.m1_scale + m2.clone() * self.alpha) / root;
        (u, [m1, m2, nu])
    }
}

/// The type of [`ademamix`].
pub type Ademamix = Chain<(ScaleByAdemamix, AddDecayedWeights, ScaleByLearningRate)>;

/// AdEMAMix with decoupled weight decay: [`scale_by_ademamix`] with `alpha = 5`, no decay by default.
#[must_use]
pub fn ademamix(learning_rate: impl Into<Schedule>) -> Ademamix {
    chain((scale_by_ademamix().alpha(5.), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(Ademamix:
    0 ScaleByAdemamix {
        b1: f64, b2: f64, b3: impl Into<Schedule>, alpha: impl Into<Schedule>, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>,
    }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Ademamix: 1);
