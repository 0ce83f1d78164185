//! Measurements of updates.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{bias_correction, check_decay};
use crate::scalar::{Count, Scalar};
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`snapshot`].
#[derive(Clone, Debug, TreeObject)]
pub struct SnapshotState {
    /// By name, the measurement at the last step: a scalar f64, NaN before the first step.
    pub measurements: BTreeMap<String, Scalar>,
    /// The number of steps so far, of an average: a scalar i64.
    pub count: Option<Count>,
    /// The average, not debiased: a scalar f64.
    pub ema: Option<Scalar>,
}

/// A number that is measured of updates.
type Measure = Arc<dyn Fn(&Leaves) -> Result<f64> + Send + Sync>;

/// See [`snapshot`].
#[derive(Clone)]
pub struct Snapshot {
    name: String,
    measure: Measure,
    decay: Option<f64>,
    debias: bool,
}

/// Records what `measure` makes of the updates at its position in a chain, and passes them unchanged. Several in a chain
/// are Optax's `monitor`; the norm is faster by [`monitor_norm`](crate::monitor_norm).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{Optimizer, chain, global_norm, sgd, snapshot};
///
/// # let mut x = Leaf::<Parameter>::new(Tensor::new(&[1.5f32, 2.], &Device::Cpu)?)?;
/// let is_large = snapshot("is_large", |updates| Ok(f64::from(global_norm(updates)? > 1.)));
/// let mut optimizer = Optimizer::new(chain((is_large.ema(0.9), sgd(0.1)))).init(&x)?;
/// let (_, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
/// optimizer.update(&gradient, &mut x)?;
/// assert!((optimizer.measurement("is_large")? - 1.).abs() < 1e-12);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn snapshot(
    name: impl Into<String>,
    measure: impl Fn(&Leaves) -> Result<f64> + Send + Sync + 'static,
) -> Snapshot {
    Snapshot { name: name.into(), measure: Arc::new(measure), decay: None, debias: true }
}

impl Snapshot {
    /// Records a decaying average instead, as [`ema`](crate::ema) computes it: Optax's `measure_with_ema`.
    #[must_use]
    pub fn ema(self, decay: f64) -> Self {
        Self { decay: Some(decay), ..self }
    }

    /// Whether to correct the bias of the average, which starts at zero. Default: true.
    #[must_use]
    pub fn debias(self, debias: bool) -> Self {
        Self { debias, ..self }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("name", &self.name).field("ema", &self.decay).finish_non_exhaustive()
    }
}

impl GradientTransformation for Snapshot {
    type State = SnapshotState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        check_decay("decay", self.decay.unwrap_or(0.))?;
        Ok(SnapshotState {
            measurements: BTreeMap::from([(self.name.clone(), Scalar::new(f64::NAN)?)]),
            count: self.decay.map(|_| Count::zero()).transpose()?,
            ema: self.decay.map(|_| Scalar::new(0.)).transpose()?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        Ok(updates.tensors(move |updates, _| {
            let mut value = (self.measure)(&updates)?;
            if let (Some(decay), Some(count), Some(ema)) = (self.decay, &mut state.count, &mut state.ema) {
                let average = decay * ema.get()? + (1. - decay) * value;
                ema.set(average)?;
                let t = count.advance()?;
                value = if self.debias { average / bias_correction(decay, t) } else { average };
            }
            state.measurements.values_mut().try_for_each(|measurement| measurement.set(value))?;
            Ok(updates)
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}
