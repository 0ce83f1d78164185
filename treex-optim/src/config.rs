//! Optimizers as data, for configuration files.

use candle_core::DType;
use serde::{Deserialize, Deserializer, Serialize};
use treex_core::{PathGlob, Result, path, prelude::*};

use crate::alias::adabelief::adabelief;
use crate::alias::adadelta::adadelta;
use crate::alias::adafactor::adafactor;
use crate::alias::adagrad::adagrad;
use crate::alias::adam::adam;
use crate::alias::adamax::adamax;
use crate::alias::adamaxw::adamaxw;
use crate::alias::adamw::adamw;
use crate::alias::adan::adan;
use crate::alias::amsgrad::amsgrad;
use crate::alias::fromage::fromage;
use crate::alias::lamb::lamb;
use crate::alias::lars::lars;
use crate::alias::lion::lion;
use crate::alias::nadam::nadam;
use crate::alias::nadamw::nadamw;
use crate::alias::noisy_sgd::noisy_sgd;
use crate::alias::novograd::novograd;
use crate::alias::optimistic_adam::optimistic_adam;
use crate::alias::optimistic_adam_v2::optimistic_adam_v2;
use crate::alias::optimistic_gradient_descent::optimistic_gradient_descent;
use crate::alias::polyak_sgd::polyak_sgd;
use crate::alias::radam::radam;
use crate::alias::rmsprop::rmsprop;
use crate::alias::rprop::rprop;
use crate::alias::sgd::sgd;
use crate::alias::sign_sgd::sign_sgd;
use crate::alias::signum::signum;
use crate::alias::sm3::sm3;
use crate::alias::yogi::yogi;
use crate::contrib::acprop::acprop;
use crate::contrib::ademamix::ademamix;
use crate::contrib::adopt::adopt;
use crate::contrib::cocob::cocob;
use crate::contrib::dadapt_adamw::dadapt_adamw;
use crate::contrib::dog::{InitStep, dog};
use crate::contrib::dowg::dowg;
use crate::contrib::dpsgd::dpsgd;
use crate::contrib::galore::galore;
use crate::contrib::madgrad::madgrad;
use crate::contrib::momo::momo;
use crate::contrib::momo_adam::momo_adam;
use crate::contrib::muon::muon;
use crate::contrib::prodigy::prodigy;
use crate::contrib::schedule_free::{schedule_free_adamw, schedule_free_sgd};
use crate::contrib::simplified_ademamix::simplified_ademamix;
use crate::contrib::sophia::sophia;
use crate::linesearch::lbfgs::lbfgs;
use crate::schedule::{Schedule, ScheduleConfig};
use crate::transform::scale_by_lion::LionMode;
use crate::transform::scale_by_polyak::PolyakVariant;
use crate::transformation::Boxed;
use crate::transformation::GradientTransformation;

/// The configuration of each function: its name, its arguments, and the supported options.
macro_rules! optimizers {
    ($($name:literal $variant:ident = $function:ident($($argument:ident: $of:ty),*) {
        $($option:ident: $type:ty),* $(,)?
    })*) => {
        /// An optimizer, chosen by its name. The other fields are the arguments and options of the function
        /// of that name; a missing option has its default, and an unknown field is an error.
        ///
        /// ```
        /// use treex_optim::{Optimizer, OptimizerConfig};
        ///
        /// let text = r#"{
        ///     "name": "adamw",
        ///     "learning_rate": { "name": "warmup_cosine", "peak": 1e-3, "warmup_steps": 100, "decay_steps": 10000 },
        ///     "weight_decay_mask": "**.kernel"
        /// }"#;
        /// let config: OptimizerConfig = serde_json::from_str(text)?;
        /// let optimizer = Optimizer::new(config.build()?);
        /// # let _ = optimizer;
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", deny_unknown_fields)]
        #[non_exhaustive]
        pub enum OptimizerConfig {
            $(
                #[doc = concat!("[`", $name, "`](crate::", $name, "()).")]
                #[serde(rename = $name)]
                $variant {
                    $(
                        #[doc = concat!("The argument `", stringify!($argument), "`.")]
                        $argument: $of,
                    )*
                    $(
                        #[doc = concat!("The option `", stringify!($option), "`.")]
                        #[serde(
                            default,
                            deserialize_with = "given",
                            skip_serializing_if = "Option::is_none"
                        )]
                        $option: Option<$type>,
                    )*
                },
            )*
        }

        impl OptimizerConfig {
            fn transformation(&self) -> Boxed {
                match self {
                    $(Self::$variant { $($argument,)* $($option,)* } => {
                        let built = $function($($argument.value()),*);
                        $(let built = match $option {
                            Some(option) => built.$option(option.value()),
                            None => built,
                        };)*
                        built.boxed()
                    })*
                }
            }
        }
    };
}

optimizers! {
    "acprop" Acprop = acprop(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adabelief" Adabelief = adabelief(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, nesterov: bool,
        weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adadelta" Adadelta = adadelta(learning_rate: ScheduleConfig) {
        rho: f64, eps: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adafactor" Adafactor = adafactor(learning_rate: ScheduleConfig) {
        min_dim_size_to_factor: usize, decay_rate: f64, decay_offset: u64, multiply_by_parameter_scale: bool,
        clipping_threshold: Option<f64>, momentum: f64, dtype_momentum: FloatType,
        weight_decay_rate: ScheduleConfig, eps: f64, factored: bool, weight_decay_mask: String,
    }
    "adagrad" Adagrad = adagrad(learning_rate: ScheduleConfig) { initial_accumulator_value: f64, eps: f64 }
    "adam" Adam = adam(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType, nesterov: bool,
    }
    "adamax" Adamax = adamax(learning_rate: ScheduleConfig) { b1: f64, b2: f64, eps: f64 }
    "adamaxw" AdamaxW = adamaxw(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adamw" AdamW = adamw(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType, nesterov: bool,
        weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adan" Adan = adan(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, b3: f64, eps: f64, eps_root: f64, weight_decay: ScheduleConfig,
        weight_decay_mask: String,
    }
    "ademamix" Ademamix = ademamix(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, b3: ScheduleConfig, alpha: ScheduleConfig, eps: f64, eps_root: f64,
        mu_dtype: FloatType, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "adopt" Adopt = adopt(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, nesterov: bool, mu_dtype: FloatType,
    }
    "amsgrad" Amsgrad = amsgrad(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType, bias_correction_mu: bool,
        bias_correction_nu: bool,
    }
    "cocob" Cocob = cocob() {
        learning_rate: ScheduleConfig, alpha: f64, eps: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "dadapt_adamw" DAdaptAdamW = dadapt_adamw() {
        learning_rate: ScheduleConfig, b1: f64, b2: f64, eps: f64, estim_lr0: f64, weight_decay: f64,
    }
    "dog" Dog = dog() {
        learning_rate: ScheduleConfig, init_step: InitStep, eps: f64, weight_decay: f64, weight_decay_mask: String,
    }
    "dowg" Dowg = dowg() {
        learning_rate: ScheduleConfig, init_estim_sq_dist: f64, eps: f64, weight_decay: f64,
        weight_decay_mask: String,
    }
    "dpsgd" Dpsgd =
        dpsgd(learning_rate: ScheduleConfig, l2_norm_clip: f64, noise_multiplier: f64, key: u64) {
            momentum: f64, nesterov: bool,
        }
    "fromage" Fromage = fromage(learning_rate: ScheduleConfig) { min_norm: f64 }
    "galore" Galore = galore(learning_rate: ScheduleConfig) {
        rank: usize, update_proj_gap: u64, scale: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "lamb" Lamb = lamb(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "lars" Lars = lars(learning_rate: ScheduleConfig) {
        weight_decay: ScheduleConfig, weight_decay_mask: String, trust_coefficient: f64, eps: f64,
        trust_ratio_mask: String, momentum: f64, nesterov: bool,
    }
    "lbfgs" Lbfgs = lbfgs() {
        learning_rate: ScheduleConfig, memory_size: usize, scale_init_precond: bool,
    }
    "lion" Lion = lion(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, mu_dtype: FloatType, mode: LionMode, smooth_beta: f64,
        weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "madgrad" Madgrad = madgrad(learning_rate: ScheduleConfig) {
        momentum: f64, eps: f64, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "momo" Momo = momo() {
        learning_rate: ScheduleConfig, beta: f64, lower_bound: f64, weight_decay: f64, adapt_lower_bound: bool,
    }
    "momo_adam" MomoAdam = momo_adam() {
        learning_rate: ScheduleConfig, b1: f64, b2: f64, eps: f64, lower_bound: f64, weight_decay: f64,
        adapt_lower_bound: bool,
    }
    "muon" Muon = muon(learning_rate: ScheduleConfig) {
        beta: f64, nesterov: bool, adaptive: bool, consistent_rms: f64, output_first: bool,
        weight_decay: ScheduleConfig, weight_decay_mask: String, mu_dtype: FloatType, orthogonalize: String, adam_learning_rate: ScheduleConfig,
        adam_weight_decay: ScheduleConfig,
    }
    "nadam" Nadam = nadam(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType,
    }
    "nadamw" NadamW = nadamw(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType,
        weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "noisy_sgd" NoisySgd = noisy_sgd(learning_rate: ScheduleConfig, key: u64) { eta: f64, gamma: f64 }
    "novograd" Novograd = novograd(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, weight_decay: f64, mu_dtype: FloatType,
    }
    "optimistic_adam" OptimisticAdam = optimistic_adam(learning_rate: f64) {
        optimism: f64, b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType, nesterov: bool,
    }
    "optimistic_adam_v2" OptimisticAdamV2 = optimistic_adam_v2(learning_rate: ScheduleConfig) {
        alpha: f64, beta: f64, b1: f64, b2: f64, eps: f64, eps_root: f64, mu_dtype: FloatType, nesterov: bool,
    }
    "optimistic_gradient_descent" OptimisticGradientDescent =
        optimistic_gradient_descent(learning_rate: ScheduleConfig) { alpha: f64, beta: f64 }
    "polyak_sgd" PolyakSgd = polyak_sgd() {
        max_learning_rate: f64, scaling: ScheduleConfig, f_min: f64, eps: f64, variant: PolyakVariant,
    }
    "prodigy" Prodigy = prodigy() {
        learning_rate: ScheduleConfig, b1: f64, b2: f64, b3: f64, eps: f64, estim_lr0: f64, estim_lr_coef: f64,
        weight_decay: f64, safeguard_warmup: bool,
    }
    "radam" Radam = radam(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, threshold: f64, nesterov: bool,
    }
    "rmsprop" Rmsprop = rmsprop(learning_rate: ScheduleConfig) {
        decay: f64, eps: f64, initial_scale: f64, eps_in_sqrt: bool, centered: bool, momentum: f64,
        nesterov: bool, bias_correction: bool,
    }
    "rprop" Rprop = rprop(learning_rate: f64) {
        eta_minus: f64, eta_plus: f64, min_step_size: f64, max_step_size: f64, lagged: bool,
    }
    "schedule_free_adamw" ScheduleFreeAdamW = schedule_free_adamw(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, weight_decay: f64, weight_lr_power: f64, state_dtype: FloatType,
    }
    "schedule_free_sgd" ScheduleFreeSgd = schedule_free_sgd(learning_rate: ScheduleConfig) {
        b1: f64, weight_decay: f64, weight_lr_power: f64, state_dtype: FloatType,
    }
    "sgd" Sgd = sgd(learning_rate: ScheduleConfig) {
        momentum: f64, nesterov: bool, accumulator_dtype: FloatType,
    }
    "sign_sgd" SignSgd = sign_sgd(learning_rate: ScheduleConfig) {}
    "signum" Signum = signum(learning_rate: ScheduleConfig) { beta: f64, accumulator_dtype: FloatType }
    "simplified_ademamix" SimplifiedAdemamix = simplified_ademamix(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, alpha: ScheduleConfig, eps: f64, eps_root: f64, weight_decay: ScheduleConfig,
        weight_decay_mask: String,
    }
    "sm3" Sm3 = sm3(learning_rate: ScheduleConfig) { momentum: f64 }
    "sophia" Sophia = sophia(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, gamma: f64, clip_threshold: Option<f64>, update_interval: u64,
        mu_dtype: FloatType, weight_decay: ScheduleConfig, weight_decay_mask: String,
    }
    "yogi" Yogi = yogi(learning_rate: ScheduleConfig) {
        b1: f64, b2: f64, eps: f64, eps_root: f64, initial_accumulator_value: f64,
    }
}

impl OptimizerConfig {
    /// The transformation to give to an [`Optimizer`](crate::Optimizer).
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn build(&self) -> Result<Boxed> {
        let built = self.transformation();
        // Options can be checked without a model.
        built.init(&().flatten())?;
        Ok(built)
    }
}

/// The element type of a moment, in a configuration file: `bf16` for instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // named after the types
pub enum FloatType {
    BF16,
    F16,
    F32,
    F64,
}

/// A field of a configuration, converted to the argument of the function that it configures.
trait Setting {
    type Value;

    fn value(&self) -> Self::Value;
}

macro_rules! as_it_is {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            type Value = Self;

            fn value(&self) -> Self {
                *self
            }
        }
    )*};
}

as_it_is!(bool, f64, u64, usize, Option<f64>, InitStep, LionMode, PolyakVariant);

impl Setting for ScheduleConfig {
    type Value = Schedule;

    fn value(&self) -> Schedule {
        self.build()
    }
}

/// Paths, as in [`path()`].
impl Setting for String {
    type Value = PathGlob;

    fn value(&self) -> PathGlob {
        path(self)
    }
}

impl Setting for FloatType {
    type Value = DType;

    fn value(&self) -> DType {
        match self {
            Self::BF16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

/// Deserializes a present field, so that `null` is a value: `None` for options that take one, otherwise an
/// error.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
