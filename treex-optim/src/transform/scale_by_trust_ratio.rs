//! LARS's and LAMB's trust ratio.

use treex_core::{Filter, Leaves, Result};

use crate::engine::{Factor, Number, Terms, Updates};
use crate::numerics::{check_finite, check_not_negative};
use crate::selection::Selection;
use crate::transformation::Stateless;

/// See [`scale_by_trust_ratio`].
#[derive(Clone, Debug)]
pub struct ScaleByTrustRatio {
    min_norm: f64,
    trust_coefficient: f64,
    eps: f64,
    selection: Option<Selection>,
}

/// Scales the update of each leaf in proportion to the norm of its parameter:
///
/// ```text
/// u = g * trust_coefficient * max(norm(p), min_norm) / (max(norm(g), min_norm) + eps)
///     g                                                   where one of the two norms is 0
/// ```
///
/// with `min_norm = 0`, `trust_coefficient = 1` and `eps = 0`, for the leaves that a filter selects, all of
/// them by default; the others pass unchanged.
///
/// You et al., [Large batch training of convolutional networks](https://arxiv.org/abs/1708.03888), 2017; You
/// et al., [Large batch optimization for deep learning: training BERT in 76
/// minutes](https://arxiv.org/abs/1904.00962), 2019.
#[must_use]
pub fn scale_by_trust_ratio() -> ScaleByTrustRatio {
    ScaleByTrustRatio { min_norm: 0., trust_coefficient: 1., eps: 0., selection: None }
}

builder!(ScaleByTrustRatio {
    /// The smallest norm.
    min_norm: f64,
    /// A factor on the ratio.
    trust_coefficient: f64,
    /// Added to the norm of the update.
    eps: f64,
});

impl ScaleByTrustRatio {
    /// Only the updates of parameters that `filter` selects are rescaled. One that selects nothing is an error
    /// of `init`.
    #[must_use]
    pub fn mask(self, filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { selection: Some(Selection::new(filter)), ..self }
    }
}

impl Stateless for ScaleByTrustRatio {
    fn check(&self, params: &Leaves) -> Result<()> {
        if let Some(selection) = &self.selection {
            selection.check(params, "the mask of the trust ratio")?;
        }
        check_not_negative("min_norm", self.min_norm)?;
        check_finite("trust_coefficient", self.trust_coefficient)?;
        check_not_negative("eps", self.eps)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let rescaled = |updates: Updates<'a>| Ok(updates.scale_each_by_sums(Norms, |_| self.clone()));
        match &self.selection {
            Some(selection) => updates.masked(selection, rescaled),
            None => rescaled(updates),
        }
    }
}

/// The squares of updates and of parameters.
struct Norms;

impl Terms<2> for Norms {
    #[inline(always)]
    fn terms<N: Number>(&self, g: N, p: N) -> [N; 2] {
        [g.sqr(), p.sqr()]
    }
}

impl Factor<2> for ScaleByTrustRatio {
    fn factor<N: Number>(&self, squares: [N; 2]) -> N {
        let [update_norm, param_norm] = squares.map(|squares| squares.sqrt().at_least(self.min_norm));
        // 1 for a norm of 0, and NaN for NaN.
        let of_zero = |norm: &N| norm.clone() * 0. + 1.;
        let ratio = param_norm.clone() * self.trust_coefficient / (update_norm.clone() + self.eps);
        let zero = N::constant(0.);
        let ratio = zero.clone().if_less(update_norm.clone(), ratio, of_zero(&update_norm));
        zero.if_less(param_norm.clone(), ratio, of_zero(&param_norm))
    }
}
