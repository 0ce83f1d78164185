//! Monitoring of norms.

use std::collections::BTreeMap;

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Squares, Times, Updates};
use crate::scalar::Scalar;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`monitor_norm`].
#[derive(Clone, Debug, TreeObject)]
pub struct MonitorState {
    /// By name, the norm at the last step: a scalar f64, 0 before the first step.
    pub measurements: BTreeMap<String, Scalar>,
}

/// See [`monitor_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorNorm {
    name: String,
}

/// Records the [`global_norm`](crate::global_norm) of the updates at its position in a chain, and passes them
/// unchanged. At the head of the chain it is the norm of the gradients. Costs one pass that reads them.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{Optimizer, adam, chain, clip_by_global_norm, monitor_norm};
///
/// # let mut x = Leaf::<Parameter>::new(Tensor::new(&[1.5f32, 2.], &Device::Cpu)?)?;
/// let clipped = chain((monitor_norm("gradient"), clip_by_global_norm(1.0), adam(0.1)));
/// let mut optimizer = Optimizer::new(clipped).init(&x)?;
/// let (_, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
/// optimizer.update(&gradient, &mut x)?;
/// assert_eq!(optimizer.measurement("gradient")?, 5.0);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn monitor_norm(name: impl Into<String>) -> MonitorNorm {
    MonitorNorm { name: name.into() }
}

impl GradientTransformation for MonitorNorm {
    type State = MonitorState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(MonitorState { measurements: BTreeMap::from([(self.name.clone(), Scalar::new(0.)?)]) })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.measure(Squares, [], |squares| {
            for norm in state.measurements.values_mut() {
                norm.set(squares.total(0).sqrt())?;
            }
            Ok(Times(1.))
        })
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}
