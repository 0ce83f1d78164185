//! Optax for Candle: gradient transformations, schedules and losses, and an optimizer that is a tree.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_optim::{Optimizer, adamw, chain, clip_by_global_norm, mse, prelude::*, warmup_cosine};
//!
//! // A model is a tree: here a line, a pair of leaves.
//! let zero = Tensor::new(0f32, &Device::Cpu)?;
//! let mut line = (Leaf::<Parameter>::new(&zero)?, Leaf::<Parameter>::new(&zero)?);
//! let x = (Tensor::arange(0f32, 8., &Device::Cpu)? / 8.)?;
//! let y = ((&x * 1.4)? - 0.3)?;
//!
//! // An optimizer is a chain of transformations: clip, then Adam with a decay that spares the offset.
//! let adamw = adamw(warmup_cosine(0.1, 10, 400)).weight_decay(1e-4).decay(path("0"));
//! let mut optimizer = Optimizer::new(chain((clip_by_global_norm(1.0), adamw))).init(&line)?;
//! assert_eq!(optimizer.learning_rate()?, Some(0.0));
//!
//! for _ in 0..400 {
//!     let (_, gradient) = line.value_and_grad(Parameter, |(slope, offset)| {
//!         mse(&x.broadcast_mul(&slope.get()?)?.broadcast_add(&offset.get()?)?, &y)
//!     })?;
//!     optimizer.update(&gradient, &mut line)?; // in place
//! }
//! assert!((line.0.get()?.to_scalar::<f32>()? - 1.4).abs() < 1e-2);
//!
//! // It is its own state, and a tree: it is saved, loaded and printed like the model.
//! let names: Vec<_> = optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect();
//! assert_eq!(names[..4], ["step", "state.1.0.count", "state.1.0.mu.0", "state.1.0.mu.1"]);
//! # Ok::<(), Error>(())
//! ```
//!
//! The modules, in reading order: `transformation` (what a rule is), `transform` (the rules, one a file),
//! `chain`, `alias` (optimizers with names), `optimizer`; beside them [`schedule`], [`losses`],
//! [`projections`], [`linear_algebra`] and [`perturbations`], and, for rules of one's own, [`numerics`] and
//! [`tree`].

mod alias;
mod boxed;
mod chain;
mod config;
mod count;
pub mod engine;
mod host;
pub mod linear_algebra;
pub mod losses;
pub mod numerics;
mod optimizer;
pub mod perturbations;
pub mod projections;
pub mod schedule;
mod selection;
mod transform;
mod transformation;
pub mod tree;

pub use alias::adam::{Adam, adam};
pub use alias::adamw::{AdamW, adamw};
pub use alias::sgd::{Sgd, sgd};
pub use boxed::{Boxed, BoxedState};
pub use chain::{Chain, chain};
pub use config::OptimizerConfig;
pub use count::Count;
pub use losses::{
    Loss, Over, Reduction, binary_dice_loss, cosine_distance, cosine_similarity, ctc_loss, dice_loss,
    generalized_kl_divergence, hinge_loss, huber_loss, kl_divergence, kl_divergence_with_log_targets,
    l2_loss, log_cosh, mse, multiclass_generalized_dice_loss, multiclass_hinge_loss,
    multiclass_perceptron_loss, multiclass_sparsemax_loss, ntxent, perceptron_loss, poly_loss_cross_entropy,
    ranking_softmax_loss, safe_softmax_cross_entropy, sigmoid_binary_cross_entropy, sigmoid_focal_loss,
    smooth_labels, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, sparsemax_loss,
    squared_error, triplet_margin_loss,
};
pub use numerics::global_norm;
pub use optimizer::Optimizer;
pub use schedule::{
    CosineDecay, CosineOnecycle, Curve, CurveConfig, ExponentialDecay, Interpolation, JoinSchedules,
    LinearOnecycle, PiecewiseConstant, PiecewiseInterpolate, Polynomial, Schedule, ScheduleConfig, Sgdr,
    WarmupConstant, WarmupCosineDecay, WarmupExponentialDecay, constant, cosine_decay, cosine_onecycle,
    exponential_decay, join_schedules, linear, linear_onecycle, piecewise_constant, piecewise_interpolate,
    polynomial, sgdr, warmup_constant, warmup_cosine, warmup_cosine_decay, warmup_exponential_decay,
};
pub use transform::add_decayed_weights::{AddDecayedWeights, AddDecayedWeightsState, add_decayed_weights};
pub use transform::clip_by_global_norm::{ClipByGlobalNorm, clip_by_global_norm};
pub use transform::scale::{Scale, scale};
pub use transform::scale_by_adam::{ScaleByAdam, ScaleByAdamState, scale_by_adam};
pub use transform::scale_by_learning_rate::{
    ScaleByLearningRate, ScaleByLearningRateState, scale_by_learning_rate,
};
pub use transform::scale_by_schedule::{ScaleBySchedule, ScaleByScheduleState, scale_by_schedule};
pub use transform::trace::{Trace, TraceState, trace};
pub use transformation::{Extra, GradientTransformation};

/// What a program beside its own model needs of trees: `use treex_optim::prelude::*`.
pub mod prelude {
    pub use treex_core::{
        BatchStat, Error, Leaf, OptState, Parameter, Result, Rng, State, by, exactly, path, prelude::*,
    };
}
