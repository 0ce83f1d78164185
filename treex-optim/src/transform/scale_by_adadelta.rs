//! Adadelta's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, zeros_like};
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_adadelta`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdadeltaState {
    /// The average of the squared gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub e_g: Leaves,
    /// The average of the squared updates: as `e_g`.
    pub e_x: Leaves,
}

/// See [`scale_by_adadelta`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAdadelta {
    rho: f64,
    eps: f64,
}

/// Gives the updates the units of the parameters:
///
/// ```text
/// e_g = rho * e_g + (1 - rho) * g^2
/// u   = g * sqrt(e_x + eps) / sqrt(e_g + eps)
/// e_x = rho * e_x + (1 - rho) * u^2
/// ```
///
/// with `rho = 0.9` and `eps = 1e-6`. The same as PyTorch's `Adadelta`.
///
/// Zeiler, [Adadelta: an adaptive learning rate method](https://arxiv.org/abs/1212.5701), 2012.
#[must_use]
pub fn scale_by_adadelta() -> ScaleByAdadelta {
    ScaleByAdadelta { rho: 0.9, eps: 1e-6 }
}

builder!(ScaleByAdadelta {
    /// The decay rate of both averages.
    rho: f64,
    /// Added under both roots.
    eps: f64,
});

impl GradientTransformation for ScaleByAdadelta {
    type State = ScaleByAdadeltaState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("rho", self.rho)?;
        check_not_negative("eps", self.eps)?;
        Ok(ScaleByAdadeltaState { e_g: zeros_like(params)?, e_x: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.map(self.clone(), [&mut state.e_g, &mut state.e_x])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

impl Rule<2> for ScaleByAdadelta {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [e_g, e_x]: [N; 2]) -> (N, [N; 2]) {
        let average = Average::raw(self.rho);
        let (e_g, _) = average.next(g.clone().sqr(), e_g);
        let u = g * (e_x.clone() + self.eps).sqrt() / (e_g.clone() + self.eps).sqrt();
        let (e_x, _) = average.next(u.clone().sqr(), e_x);
        (u, [e_g, e_x])
    }
}
