//! Optimizers as data: what a configuration file says.

use serde::{Deserialize, Serialize};
use treex_core::{Result, path, prelude::*};

use crate::alias::adam::adam;
use crate::alias::adamw::adamw;
use crate::alias::sgd::sgd;
use crate::boxed::Boxed;
use crate::schedule::ScheduleConfig;
use crate::transformation::GradientTransformation;

/// An optimizer, chosen by its name; what is left out has the default of the function of that name, and what is
/// not known is an error.
///
/// ```
/// use treex_optim::{Optimizer, OptimizerConfig};
///
/// let text = r#"{
///     "name": "adamw",
///     "learning_rate": { "name": "warmup_cosine", "peak": 1e-3, "warmup_steps": 100, "decay_steps": 10000 },
///     "decay": "**.kernel"
/// }"#;
/// let config: OptimizerConfig = serde_json::from_str(text)?;
/// let optimizer = Optimizer::new(config.build()?);
/// # let _ = optimizer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// [`sgd`](crate::sgd).
    Sgd {
        /// The learning rate.
        learning_rate: ScheduleConfig,
        /// How much of the sum of gradients is kept at each step.
        #[serde(default)]
        momentum: Option<f64>,
        /// Whether the momentum looks one step ahead.
        #[serde(default)]
        nesterov: bool,
    },
    /// [`adam`](crate::adam).
    Adam {
        /// The learning rate.
        learning_rate: ScheduleConfig,
        /// What the average of the gradients keeps.
        #[serde(default = "default_b1")]
        b1: f64,
        /// What the average of the squares keeps.
        #[serde(default = "default_b2")]
        b2: f64,
        /// Added to the root.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Whether the average of the gradients looks one step ahead.
        #[serde(default)]
        nesterov: bool,
    },
    /// [`adamw`](crate::adamw).
    AdamW {
        /// The learning rate.
        learning_rate: ScheduleConfig,
        /// What the average of the gradients keeps.
        #[serde(default = "default_b1")]
        b1: f64,
        /// What the average of the squares keeps.
        #[serde(default = "default_b2")]
        b2: f64,
        /// Added to the root.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Whether the average of the gradients looks one step ahead.
        #[serde(default)]
        nesterov: bool,
        /// By how much of itself a parameter decays, times the learning rate.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
        /// The paths of what decays, as in [`path()`]; everything if left out.
        #[serde(default)]
        decay: Option<String>,
    },
}

impl OptimizerConfig {
    /// The transformation to give to an [`Optimizer`](crate::Optimizer).
    ///
    /// # Errors
    /// If a number is outside of what it may be.
    pub fn build(&self) -> Result<Boxed> {
        let built = match self {
            Self::Sgd { learning_rate, momentum, nesterov } => {
                let sgd = sgd(learning_rate.build());
                match momentum {
                    Some(momentum) => sgd.momentum(*momentum).nesterov(*nesterov).boxed(),
                    None => sgd.boxed(),
                }
            }
            Self::Adam { learning_rate, b1, b2, eps, nesterov } => {
                adam(learning_rate.build()).b1(*b1).b2(*b2).eps(*eps).nesterov(*nesterov).boxed()
            }
            Self::AdamW { learning_rate, b1, b2, eps, nesterov, weight_decay, decay } => {
                let adamw = adamw(learning_rate.build()).b1(*b1).b2(*b2).eps(*eps).nesterov(*nesterov);
                let adamw = adamw.weight_decay(*weight_decay);
                match decay {
                    Some(glob) => adamw.decay(path(glob)).boxed(),
                    None => adamw.boxed(),
                }
            }
        };
        // What `init` would report of the numbers is known without a model.
        built.init(&().flatten())?;
        Ok(built)
    }
}

fn default_b1() -> f64 {
    0.9
}

fn default_b2() -> f64 {
    0.999
}

fn default_eps() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    1e-4
}
