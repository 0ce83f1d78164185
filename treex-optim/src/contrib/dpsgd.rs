//! DPSGD: gradient descent with differential privacy.

use treex_core::random::Key;
use treex_core::{Leaf, LeafRef, Leaves, OptState, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::engine::Updates;
use crate::numerics::check_not_negative;
use crate::per_example::per_example_global_norm_clip;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transfer::to_device_of;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::trace::{Trace, trace};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`differentially_private_aggregate`].
#[derive(Clone, Debug, TreeObject)]
pub struct DifferentiallyPrivateAggregateState {
    /// The key for the steps to come: two u32.
    pub rng_key: Leaf<OptState>,
}

/// See [`differentially_private_aggregate`].
#[derive(Clone, Debug, PartialEq)]
pub struct DifferentiallyPrivateAggregate {
    l2_norm_clip: f64,
    noise_multiplier: f64,
    key: Key,
}

/// The mean of the gradients of all examples, each clipped, with normal noise:
///
/// ```text
/// u = (sum_i g_i min(1, l2_norm_clip / norm(g_i)) + l2_norm_clip noise_multiplier n) / examples       n ~ N(0, 1)
/// ```
///
/// The gradients have the examples on a first axis that the parameters do not have: those of
/// [`per_example_grads`](treex_core::per_example_grads). So it must be the first member of a chain. The noise has JAX's
/// bits, one key for each trained leaf.
///
/// Abadi et al., [Deep learning with differential privacy](https://arxiv.org/abs/1607.00133), 2016.
#[must_use]
pub fn differentially_private_aggregate(
    l2_norm_clip: f64,
    noise_multiplier: f64,
    key: impl Into<Key>,
) -> DifferentiallyPrivateAggregate {
    DifferentiallyPrivateAggregate { l2_norm_clip, noise_multiplier, key: key.into() }
}

impl GradientTransformation for DifferentiallyPrivateAggregate {
    type State = DifferentiallyPrivateAggregateState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        check_not_negative("l2_norm_clip", self.l2_norm_clip)?;
        check_not_negative("noise_multiplier", self.noise_multiplier)?;
        Ok(DifferentiallyPrivateAggregateState { rng_key: Leaf::new(self.key.to_tensor()?)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let deviation = self.l2_norm_clip * self.noise_multiplier;
        Ok(updates.sum_examples(move |grads, _| {
            let Some(examples) = grads.tensors().next().and_then(|g| g.dims().first().copied()) else {
                return Ok(grads);
            };
            let (sum, _) = per_example_global_norm_clip(&grads, self.l2_norm_clip)?;
            let mut keys =
                Key::from_tensor(&state.rng_key.get()?)?.split(sum.tensors().count() + 1).into_iter();
            if let Some(next) = keys.next() {
                state.rng_key.set(next.to_tensor()?)?;
            }
            sum.apply(|g| match keys.next() {
                Some(key) => {
                    let noise = to_device_of(&key.normal(g.shape(), g.dtype())?, g)?;
                    Ok(((g + (noise * deviation)?)? / examples as f64)?)
                }
                None => Ok(g.clone()),
            })
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn takes_examples(&self, _state: &Self::State) -> bool {
        true
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::direction())
    }
}

/// The type of [`dpsgd`].
pub type Dpsgd = Chain<(DifferentiallyPrivateAggregate, Option<Trace>, ScaleByLearningRate)>;

/// Gradient descent on the gradients of single examples, with differential privacy:
/// [`differentially_private_aggregate`], momentum if there is some, and the learning rate.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, dpsgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[0f32, 0.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(dpsgd(1.0, 1.0, 0.0, 42)).init(&x)?;
/// let examples = Leaf::<Parameter>::new(Tensor::new(&[[3f32, 4.], [0., 0.5]], &Device::Cpu)?)?;
/// optimizer.update(&examples, &mut x)?; // clipped to [0.6, 0.8] and [0, 0.5]
/// assert_eq!(x.get()?.to_vec1::<f32>()?, [-0.3, -0.65]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn dpsgd(
    learning_rate: impl Into<Schedule>,
    l2_norm_clip: f64,
    noise_multiplier: f64,
    key: impl Into<Key>,
) -> Dpsgd {
    let private = differentially_private_aggregate(l2_norm_clip, noise_multiplier, key);
    chain((private, None, scale_by_learning_rate(learning_rate)))
}

impl Dpsgd {
    /// The decay rate of the momentum. Default: none.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.1 = Some(trace(momentum));
        self
    }

    /// Whether the momentum looks one step ahead; without a momentum, nothing changes.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.0.1 = self.0.1.map(|trace| trace.nesterov(nesterov));
        self
    }
}
