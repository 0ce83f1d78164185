//! LARS's and LAMB's trust ratio.

use treex_core::{Filter, Leaves, Result};

use crate::engine::{Number, Terms, Updates};
use crate::numerics::{at_least, check_finite, check_not_negative};
use crate::selection::Selection;
use crate::transform::scale::Times;
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

    fn ratio(&self, update_norm: f64, param_norm: f64) -> f64 {
        let update_norm = at_least(update_norm, self.min_norm);
        let param_norm = at_least(param_norm, self.min_norm);
        if update_norm == 0. || param_norm == 0. {
            return 1.;
        }
        self.trust_coefficient * param_norm / (update_norm + self.eps)
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
        let rescaled = move |updates: Updates<'a>| {
            updates.measure_each(Norms, [], move |squares| {
                Ok(move |index| {
                    Times(self.ratio(squares.leaf(index, 0).sqrt(), squares.leaf(index, 1).sqrt()))
                })
            })
        };
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
