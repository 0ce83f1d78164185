//! NovoGrad's rescaling.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Squares, Updates};
use crate::numerics::{
    check_decay, check_finite, check_float, check_not_negative, scalars, scalars_like, store_scalar_at,
    zeros_in,
};
use crate::scalar::Count;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_novograd`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByNovogradState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The sum of the rescaled gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `mu_dtype`.
    pub mu: Leaves,
    /// The average of the squared norms: a number for each leaf, f32 (f64 for f64 parameters), on the CPU.
    pub nu: Leaves,
}

/// See [`scale_by_novograd`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByNovograd {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    weight_decay: f64,
    mu_dtype: Option<DType>,
}

/// Divides by a norm of each leaf, then sums with momentum:
///
/// ```text
/// nu = b2 * nu + (1 - b2) * norm(g)^2         norm(g)^2 at the first step
/// mu = b1 * mu + g / (sqrt(nu + eps_root) + eps) + weight_decay * p
/// u  = mu
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.25`, `eps = 1e-8`, `eps_root = 0` and `weight_decay = 0`. `mu` is a sum as in
/// [`trace`](crate::trace), not an average.
///
/// Ginsburg et al., [Stochastic gradient methods with layer-wise adaptive moments for training of deep
/// networks](https://arxiv.org/abs/1905.11286), 2019.
#[must_use]
pub fn scale_by_novograd() -> ScaleByNovograd {
    ScaleByNovograd { b1: 0.9, b2: 0.25, eps: 1e-8, eps_root: 0., weight_decay: 0., mu_dtype: None }
}

builder!(ScaleByNovograd {
    /// The decay rate of the sum.
    b1: f64,
    /// The decay rate of the average of the squared norms.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
    /// The weight decay, before momentum.
    weight_decay: f64,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
});

impl GradientTransformation for ScaleByNovograd {
    type State = ScaleByNovogradState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_finite("weight_decay", self.weight_decay)?;
        check_float("mu_dtype", self.mu_dtype)?;
        Ok(ScaleByNovogradState {
            count: Count::zero()?,
            mu: zeros_in(params, self.mu_dtype)?,
            nu: scalars_like(params, |_| Ok(0.))?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let b2 = if state.count.advance()? == 1 { 0. } else { self.b2 };
        let ScaleByNovogradState { mu, nu, .. } = state;
        let before = scalars(nu, &updates)?;
        let on: Vec<_> = (0..updates.len()).filter(|&index| updates.has(index)).collect();
        updates.measure_each(Squares, [mu], move |squares| {
            let mut now = before;
            for index in on {
                now[index] = b2 * now[index] + (1. - b2) * squares.leaf(index, 0);
                store_scalar_at(nu, index, now[index])?;
            }
            let norm = move |index: usize| (now[index] + self.eps_root).sqrt() + self.eps;
            Ok(move |index| NovogradRule { of: self.clone(), norm: norm(index) })
        })
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step of one leaf.
struct NovogradRule {
    of: ScaleByNovograd,
    norm: f64,
}

impl Rule<1> for NovogradRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, [mu]: [N; 1]) -> (N, [N; 1]) {
        let mu = mu * self.of.b1 + (g / self.norm + p * self.of.weight_decay);
        (mu.clone(), [mu])
    }
}
