//! Adan's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_adan`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdanState {
    /// The number of steps so far: a scalar i64.
    pub t: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub m: Leaves,
    /// The average of their differences: as `m`.
    pub v: Leaves,
    /// The average of the squares: as `m`.
    pub n: Leaves,
    /// The gradients of the step before: as `m`.
    pub g: Leaves,
}

/// See [`scale_by_adan`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAdan {
    b1: f64,
    b2: f64,
    b3: f64,
    eps: f64,
    eps_root: f64,
}

/// Averages of the gradients, of their differences `d = g - g_before`, and of the squares of both, at step
/// `t` (from 1):
///
/// ```text
/// m = b1 * m + (1 - b1) * g                               m^ = m / (1 - b1^t)
/// v = b2 * v + (1 - b2) * d                               v^ = v / (1 - b2^t)
/// n = b3 * n + (1 - b3) * (g + (1 - b2) * d)^2            n^ = n / (1 - b3^t)
/// u = (m^ + (1 - b2) * v^) / (sqrt(n^ + eps_root) + eps)
/// ```
///
/// with `b1 = 0.98`, `b2 = 0.92`, `b3 = 0.99`, `eps = 1e-8` and `eps_root = 0`; `d` is 0 at the first step.
/// The decay rates are one minus those of the paper.
///
/// Xie et al., [Adan: adaptive Nesterov momentum algorithm for faster optimizing deep
/// models](https://arxiv.org/abs/2208.06677), 2022.
#[must_use]
pub fn scale_by_adan() -> ScaleByAdan {
    ScaleByAdan { b1: 0.98, b2: 0.92, b3: 0.99, eps: 1e-8, eps_root: 0. }
}

builder!(ScaleByAdan {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the differences.
    b2: f64,
    /// The decay rate of the average of the squares.
    b3: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
});

impl GradientTransformation for ScaleByAdan {
    type State = ScaleByAdanState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_decay("b3", self.b3)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        let zeros = || zeros_like(params);
        Ok(ScaleByAdanState { t: Count::zero()?, m: zeros()?, v: zeros()?, n: zeros()?, g: zeros()? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.t.advance()?;
        let rule = AdanRule {
            of: self.clone(),
            m: Average::debiased(self.b1, t),
            v: Average::debiased(self.b2, t),
            n: Average::debiased(self.b3, t),
            is_first: t == 1,
        };
        updates.map(rule, [&mut state.m, &mut state.v, &mut state.n, &mut state.g])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct AdanRule {
    of: ScaleByAdan,
    m: Average,
    v: Average,
    n: Average,
    is_first: bool,
}

impl Rule<4> for AdanRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m, v, n, before]: [N; 4]) -> (N, [N; 4]) {
        let ScaleByAdan { b2, eps, eps_root, .. } = self.of;
        let d = if self.is_first { N::constant(0.) } else { g.clone() - before };
        let (m, m_hat) = self.m.next(g.clone(), m);
        let (v, v_hat) = self.v.next(d.clone(), v);
        let (n, n_hat) = self.n.next((g.clone() + d * (1. - b2)).sqr(), n);
        let u = (m_hat + v_hat * (1. - b2)) / ((n_hat + eps_root).sqrt() + eps);
        (u, [m, v, n, g])
    }
}
