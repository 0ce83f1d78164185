//! Annealed gradient noise.

use treex_core::random::Key;
use treex_core::{Leaf, Leaves, OptState, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{check_finite, check_not_negative, each_update};
use crate::scalar::Count;
use crate::transfer::to_device_of;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`add_noise`].
#[derive(Clone, Debug, TreeObject)]
pub struct AddNoiseState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The key for the steps to come: two u32.
    pub rng_key: Leaf<OptState>,
}

/// See [`add_noise`].
#[derive(Clone, Debug, PartialEq)]
pub struct AddNoise {
    eta: f64,
    gamma: f64,
    key: Key,
}

/// Adds normal noise, at step `t` (from 1):
///
/// ```text
/// u = g + sqrt(eta / t^gamma) * n             n ~ N(0, 1)
/// ```
///
/// The noise has JAX's bits: the key is split at each step, and the step's key is folded with the index of
/// each trained leaf. It is drawn on the CPU, in f32 for narrower parameters, where Optax draws in their
/// type.
///
/// Neelakantan et al., [Adding gradient noise improves learning for very deep
/// networks](https://arxiv.org/abs/1511.06807), 2015.
#[must_use]
pub fn add_noise(eta: f64, gamma: f64, key: impl Into<Key>) -> AddNoise {
    AddNoise { eta, gamma, key: key.into() }
}

builder!(AddNoise {
    /// The variance of the noise at the first step.
    eta: f64,
    /// The exponent of the decay of the variance.
    gamma: f64,
});

impl GradientTransformation for AddNoise {
    type State = AddNoiseState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        check_not_negative("eta", self.eta)?;
        check_finite("gamma", self.gamma)?;
        Ok(AddNoiseState { count: Count::zero()?, rng_key: Leaf::new(self.key.to_tensor()?)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let deviation = (self.eta / (state.count.advance()? as f64).powf(self.gamma)).sqrt();
        let [next, now] = Key::from_tensor(&state.rng_key.get()?)?.split2();
        state.rng_key.set(next.to_tensor()?)?;
        let mut trained = 0;
        let params = updates.params();
        let mut keys = Vec::with_capacity(params.len());
        for index in 0..params.len() {
            keys.push(now.fold_in(trained));
            trained += u32::from(params.get(index).is_some());
        }
        Ok(updates.tensors(move |updates, _| {
            each_update(&updates, |index, g| {
                let noise = to_device_of(&keys[index].normal(g.shape(), g.dtype())?, g)?;
                Ok((g + (noise * deviation)?)?)
            })
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}
