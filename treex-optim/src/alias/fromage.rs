//! Fromage.

use treex_core::Result;

use crate::chain::{Chain, chain};
use crate::schedule::{Curve, Schedule};
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_trust_ratio::{ScaleByTrustRatio, scale_by_trust_ratio};

/// The type of [`fromage`].
pub type Fromage = Chain<(ScaleByTrustRatio, ScaleByLearningRate, AddDecayedWeights)>;

/// Steps proportional to the norm of the parameters of their leaf, which is kept from growing:
///
/// ```text
/// p = (p - lr * g * norm(p) / norm(g)) / sqrt(1 + lr^2)
/// ```
///
/// Norms are at least `min_norm = 1e-6`. The learning rate that an [`Optimizer`](crate::Optimizer) returns is
/// divided by the root.
///
/// Bernstein et al., [On the distance between two neural networks and the stability of
/// learning](https://arxiv.org/abs/2002.03432), 2020.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, fromage};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(fromage(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "11.23", "9.00", "7.22", "5.79"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn fromage(learning_rate: impl Into<Schedule>) -> Fromage {
    let learning_rate = learning_rate.into();
    let shrunk = |part| Shrunk { learning_rate: learning_rate.clone(), part };
    chain((
        scale_by_trust_ratio().min_norm(1e-6),
        scale_by_learning_rate(shrunk(Part::Rate)),
        add_decayed_weights(shrunk(Part::Decay)),
    ))
}

options!(Fromage: 0 ScaleByTrustRatio { min_norm: f64 });

/// A schedule that is computed from the learning rate, with the factor `1 / sqrt(1 + lr^2)`.
#[derive(Clone, Debug)]
struct Shrunk {
    learning_rate: Schedule,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// The rate times the factor.
    Rate,
    /// The factor minus 1.
    Decay,
}

impl Curve for Shrunk {
    fn value(&self, count: u64) -> f64 {
        let rate = self.learning_rate.value(count);
        let factor = 1. / (1. + rate * rate).sqrt();
        match self.part {
            Part::Rate => rate * factor,
            Part::Decay => factor - 1.,
        }
    }

    fn check(&self) -> Result<()> {
        self.learning_rate.check("learning_rate")
    }

    fn is_constant(&self) -> bool {
        self.learning_rate.is_constant()
    }
}
