//! Polyak's step size.

use serde::{Deserialize, Serialize};
use treex_core::{Leaves, Result};

use crate::engine::{Squares, Times, Updates};
use crate::numerics::{at_least, check_finite, check_not_negative};
use crate::step_size::StepSize;
use crate::transformation::Stateless;

/// See [`scale_by_polyak`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByPolyak {
    f_min: f64,
    max_learning_rate: f64,
    eps: f64,
    variant: PolyakVariant,
}

/// The step that would reach the minimum of a linear function, from the value of the loss:
///
/// ```text
/// n = global_norm(g)^2 + eps
/// u = g * min((value - f_min) / n, max_learning_rate)         0 where n is 0 (up to 2e-16)
/// ```
///
/// with `f_min = 0`, `max_learning_rate = 1` and `eps = 0`. It needs [`Extra::value`](crate::Extra::value),
/// the loss at these parameters.
///
/// Polyak, *Introduction to optimization*, 1987; Loizou et al., [Stochastic Polyak step-size for SGD: an
/// adaptive learning rate for fast convergence](https://arxiv.org/abs/2002.10542), 2020.
#[must_use]
pub fn scale_by_polyak() -> ScaleByPolyak {
    ScaleByPolyak { f_min: 0., max_learning_rate: 1., eps: 0., variant: PolyakVariant::Sps }
}

builder!(ScaleByPolyak {
    /// The lower bound of the loss.
    f_min: f64,
    /// The largest step size.
    max_learning_rate: f64,
    /// Added to the square of the norm.
    eps: f64,
    /// The behaviour for a loss below `f_min`.
    variant: PolyakVariant,
});

impl Stateless for ScaleByPolyak {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_finite("f_min", self.f_min)?;
        check_finite("max_learning_rate", self.max_learning_rate)?;
        check_not_negative("eps", self.eps)
    }

    /// The loss of the step decides.
    fn effect(&self) -> StepSize {
        StepSize::unknown()
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let value = updates.extra().loss("scale_by_polyak")?;
        let gap = value - self.f_min;
        let gap = if self.variant == PolyakVariant::SpsPlus { at_least(gap, 0.) } else { gap };
        updates.measure(Squares, [], move |squares| {
            let norm = squares.total(0) + self.eps;
            let step =
                if norm <= f64::EPSILON { 0. } else { -at_least(-gap / norm, -self.max_learning_rate) };
            Ok(Times(step))
        })
    }
}

/// The step of [`scale_by_polyak`] where the loss is below `f_min`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolyakVariant {
    /// A step uphill: `sps`.
    #[default]
    Sps,
    /// No step: `sps+`.
    #[serde(rename = "sps+")]
    SpsPlus,
}
