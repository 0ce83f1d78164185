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
//! // An optimizer is a chain of transformations: clipping, then Adam with a decay of the slope alone.
//! let adamw = adamw(warmup_cosine(0.1, 10, 400)).weight_decay(1e-4).weight_decay_mask(path("0"));
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
//! // It is its own state, and a tree: save, load and print it like the model.
//! let names: Vec<_> = optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect();
//! assert_eq!(names[..4], ["step", "state.1.0.count", "state.1.0.mu.0", "state.1.0.mu.1"]);
//! # Ok::<(), Error>(())
//! ```
//!
//! The modules, in reading order: `transformation` (the trait), `step_size` (the learning rate), `transform` (transformations, one a file),
//! `chain`, `combinators` (transformations of transformations: for some leaves, at some steps), `alias`
//! (named optimizers), `contrib` (newer ones), `linesearch` (L-BFGS), `optimizer`. Independent of these:
//! [`schedule`], [`losses`], [`projections`], [`linear_algebra`], [`perturbations`] and clipping
//! `per_example`. For transformations of your own: [`engine`], [`numerics`] and [`tree`].
//!
//! Some names are those of Optax and also of a layer in treex-nn (`Flatten`, `identity`, `normalize`). No
//! prelude exports them: write `treex_optim::normalize()` where both crates are used.

#![forbid(unsafe_code)]

#[macro_use]
mod alias;
mod chain;
mod combinators;
mod config;
mod constant;
mod contrib;
pub mod engine;
mod extra;

pub mod linear_algebra;
mod linesearch;
mod loss_scale;
pub mod losses;
mod micro_grad;
mod microbatch;
mod named_numbers;
pub mod numerics;
mod optimizer;
mod parameters;
mod per_example;
pub mod perturbations;
pub mod projections;
mod reconcile;
mod scalar;
pub mod schedule;
pub mod second_order;
mod selection;
mod step_size;
mod transfer;
mod transform;
mod transformation;
pub mod tree;

pub use alias::adabelief::{Adabelief, adabelief};
pub use alias::adadelta::{Adadelta, adadelta};
pub use alias::adafactor::{Adafactor, adafactor};
pub use alias::adagrad::{Adagrad, adagrad};
pub use alias::adam::{Adam, adam};
pub use alias::adamax::{Adamax, adamax};
pub use alias::adamaxw::{AdamaxW, adamaxw};
pub use alias::adamw::{AdamW, adamw};
pub use alias::adan::{Adan, adan};
pub use alias::amsgrad::{Amsgrad, amsgrad};
pub use alias::fromage::{Fromage, fromage};
pub use alias::lamb::{Lamb, lamb};
pub use alias::lars::{Lars, lars};
pub use alias::lion::{Lion, lion};
pub use alias::nadam::nadam;
pub use alias::nadamw::nadamw;
pub use alias::noisy_sgd::{NoisySgd, noisy_sgd};
pub use alias::novograd::{Novograd, novograd};
pub use alias::optimistic_adam::{OptimisticAdam, optimistic_adam};
pub use alias::optimistic_adam_v2::{OptimisticAdamV2, optimistic_adam_v2};
pub use alias::optimistic_gradient_descent::{OptimisticGradientDescent, optimistic_gradient_descent};
pub use alias::polyak_sgd::{PolyakSgd, polyak_sgd};
pub use alias::radam::{Radam, radam};
pub use alias::rmsprop::{Rmsprop, rmsprop};
pub use alias::rprop::{Rprop, rprop};
pub use alias::sgd::{Sgd, sgd};
pub use alias::sign_sgd::{SignSgd, sign_sgd};
pub use alias::signum::{Signum, signum};
pub use alias::sm3::{Sm3, sm3};
pub use alias::yogi::{Yogi, yogi};
pub use candle_core as candle; // its types are part of this API
pub use chain::{Chain, chain};
pub use combinators::apply_if_finite::{ApplyIfFinite, ApplyIfFiniteState, apply_if_finite};
pub use combinators::conditionally::{
    Conditionally, ConditionallyState, conditionally_mask, conditionally_transform,
};
pub use combinators::flatten::{Flatten, FlattenState, flatten};
pub use combinators::inject_hyperparams::{
    Hyperparams, InjectHyperparams, InjectHyperparamsState, inject_hyperparams,
};
pub use combinators::lookahead::{Lookahead, LookaheadState, lookahead};
pub use combinators::masked::{Masked, Only, freeze, masked, only};
pub use combinators::master_weights::{MasterWeights, MasterWeightsState, master_weights};
pub use combinators::monitor::{MonitorNorm, MonitorState, monitor_norm};
pub use combinators::multi_steps::{MultiSteps, MultiStepsState, Skip, multi_steps};
pub use combinators::named_chain::{NamedChain, named_chain};
pub use combinators::params_ema::{ParamsEma, ParamsEmaState, params_ema};
pub use combinators::partition::{Partition, multi_transform, partition};
pub use combinators::snapshot::{Snapshot, SnapshotState, snapshot};
pub use config::{FloatType, OptimizerConfig};
pub use contrib::acprop::{Acprop, ScaleByAcprop, ScaleByAcpropState, acprop, scale_by_acprop};
pub use contrib::ademamix::{Ademamix, ScaleByAdemamix, ScaleByAdemamixState, ademamix, scale_by_ademamix};
pub use contrib::adopt::{Adopt, ScaleByAdopt, ScaleByAdoptState, adopt, scale_by_adopt};
pub use contrib::cocob::{Cocob, CocobState, ScaleByCocob, cocob, scale_by_cocob};
pub use contrib::dadapt_adamw::{DAdaptAdamW, DAdaptAdamWState, dadapt_adamw};
pub use contrib::dimension_numbers::DimensionNumbers;
pub use contrib::dog::{Dog, DogState, InitStep, ScaleByDog, dog, scale_by_dog};
pub use contrib::dowg::{Dowg, DowgState, ScaleByDowg, dowg, scale_by_dowg};
pub use contrib::dpsgd::{
    DifferentiallyPrivateAggregate, DifferentiallyPrivateAggregateState, Dpsgd,
    differentially_private_aggregate, dpsgd,
};
pub use contrib::galore::{Galore, GaloreState, ScaleByGalore, galore, scale_by_galore};
pub use contrib::gauss_newton_bartlett::{GaussNewtonBartlett, gauss_newton_bartlett};
pub use contrib::hutchinson::{Hutchinson, HutchinsonState, hutchinson_estimator_diag_hessian};
pub use contrib::madgrad::{Madgrad, MadgradState, ScaleByMadgrad, madgrad, scale_by_madgrad};
pub use contrib::mechanize::{MechanicState, Mechanize, mechanize};
pub use contrib::momo::{Momo, MomoState, momo};
pub use contrib::momo_adam::{MomoAdam, MomoAdamState, momo_adam};
pub use contrib::muon::{
    Muon, MuonForMatrices, ScaleByMuon, ScaleByMuonState, ScaleByShape, muon, scale_by_muon, scale_by_shape,
};
pub use contrib::newton_schulz::{NewtonSchulz, Preconditioning, newton_schulz};
pub use contrib::normalize::{Normalize, normalize};
pub use contrib::prodigy::{Prodigy, ProdigyState, prodigy};
pub use contrib::reduce_on_plateau::{ReduceOnPlateau, ReduceOnPlateauState, reduce_on_plateau};
pub use contrib::sam::{Sam, SamState, sam};
pub use contrib::schedule_free::{
    ScheduleFree, ScheduleFreeAdamW, ScheduleFreeSgd, ScheduleFreeState, schedule_free, schedule_free_adamw,
    schedule_free_sgd,
};
pub use contrib::simplified_ademamix::{
    ScaleBySimplifiedAdemamix, ScaleBySimplifiedAdemamixState, SimplifiedAdemamix,
    scale_by_simplified_ademamix, simplified_ademamix,
};
pub use contrib::sophia::{ScaleBySophia, Sophia, SophiaState, scale_by_sophia, sophia};
pub use extra::{Extra, GradientFn, HvpFn, ValueFn};
pub use linesearch::backtracking::{
    BacktrackingState, ScaleByBacktrackingLinesearch, scale_by_backtracking_linesearch,
};
pub use linesearch::lbfgs::{Lbfgs, lbfgs};
pub use linesearch::scale_by_lbfgs::{ScaleByLbfgs, ScaleByLbfgsState, scale_by_lbfgs};
pub use linesearch::zoom::{ZoomState, scale_by_zoom_linesearch};
pub use linesearch::zoom_options::{InitialGuess, ScaleByZoomLinesearch};
pub use loss_scale::DynamicLossScale;
pub use losses::{
    Loss, Over, Reduction, binary_dice_loss, cosine_distance, cosine_similarity, ctc_loss, dice_loss,
    generalized_kl_divergence, hinge_loss, huber_loss, kl_divergence, kl_divergence_with_log_targets,
    l2_loss, log_cosh, mse, multiclass_generalized_dice_loss, multiclass_hinge_loss,
    multiclass_perceptron_loss, multiclass_sparsemax_loss, ntxent, perceptron_loss, poly_loss_cross_entropy,
    ranking_softmax_loss, safe_softmax_cross_entropy, sigmoid_binary_cross_entropy, sigmoid_focal_loss,
    smooth_labels, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, sparsemax_loss,
    squared_error, triplet_margin_loss,
};
pub use micro_grad::micro_grad;
pub use microbatch::{Accumulator, microbatch};
pub use numerics::global_norm;
pub use optimizer::Optimizer;
pub use parameters::{apply_updates, incremental_update, periodic_update};
pub use per_example::{per_example_global_norm_clip, per_example_layer_norm_clip};
pub use reconcile::Reconciled;
pub use scalar::{Count, Scalar};
pub use schedule::{
    CosineDecay, CosineOnecycle, Curve, CurveConfig, ExponentialDecay, Interpolation, JoinSchedules,
    LinearOnecycle, PiecewiseConstant, PiecewiseInterpolate, Polynomial, Schedule, ScheduleConfig, Sgdr,
    WarmupConstant, WarmupCosineDecay, WarmupExponentialDecay, constant, cosine_decay, cosine_onecycle,
    exponential_decay, join_schedules, linear, linear_onecycle, piecewise_constant, piecewise_interpolate,
    polynomial, sgdr, warmup_constant, warmup_cosine, warmup_cosine_decay, warmup_exponential_decay,
};
pub use step_size::StepSize;
pub use transform::adaptive_grad_clip::{AdaptiveGradClip, adaptive_grad_clip};
pub use transform::add_decayed_weights::{AddDecayedWeights, AddDecayedWeightsState, add_decayed_weights};
pub use transform::add_noise::{AddNoise, AddNoiseState, add_noise};
pub use transform::apply_every::{ApplyEvery, ApplyEveryState, apply_every};
pub use transform::centralize::{Centralize, centralize};
pub use transform::clip::{Clip, clip};
pub use transform::clip_by_block_rms::{ClipByBlockRms, clip_by_block_rms};
pub use transform::clip_by_global_norm::{ClipByGlobalNorm, clip_by_global_norm};
pub use transform::ema::{Ema, EmaState, ema};
pub use transform::identity::{Identity, identity};
pub use transform::keep_params_nonnegative::{KeepParamsNonnegative, keep_params_nonnegative};
pub use transform::normalize_by_update_norm::{NormalizeByUpdateNorm, normalize_by_update_norm};
pub use transform::scale::{Scale, scale};
pub use transform::scale_by_adadelta::{ScaleByAdadelta, ScaleByAdadeltaState, scale_by_adadelta};
pub use transform::scale_by_adam::{ScaleByAdam, ScaleByAdamState, scale_by_adam};
pub use transform::scale_by_adamax::{ScaleByAdamax, ScaleByAdamaxState, scale_by_adamax};
pub use transform::scale_by_adan::{ScaleByAdan, ScaleByAdanState, scale_by_adan};
pub use transform::scale_by_amsgrad::{ScaleByAmsgrad, ScaleByAmsgradState, scale_by_amsgrad};
pub use transform::scale_by_belief::{ScaleByBelief, ScaleByBeliefState, scale_by_belief};
pub use transform::scale_by_distance_over_gradients::{
    ScaleByDistanceOverGradients, ScaleByDistanceOverGradientsState, scale_by_distance_over_gradients,
};
pub use transform::scale_by_factored_rms::{
    ScaleByFactoredRms, ScaleByFactoredRmsState, scale_by_factored_rms,
};
pub use transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
pub use transform::scale_by_lion::{LionMode, ScaleByLion, ScaleByLionState, scale_by_lion};
pub use transform::scale_by_novograd::{ScaleByNovograd, ScaleByNovogradState, scale_by_novograd};
pub use transform::scale_by_optimistic_gradient::{
    ScaleByOptimisticGradient, ScaleByOptimisticGradientState, scale_by_optimistic_gradient,
};
pub use transform::scale_by_param_block_norm::{ScaleByParamBlockNorm, scale_by_param_block_norm};
pub use transform::scale_by_param_block_rms::{ScaleByParamBlockRms, scale_by_param_block_rms};
pub use transform::scale_by_polyak::{PolyakVariant, ScaleByPolyak, scale_by_polyak};
pub use transform::scale_by_radam::{ScaleByRadam, ScaleByRadamState, scale_by_radam};
pub use transform::scale_by_rms::{ScaleByRms, ScaleByRmsState, scale_by_rms, scale_by_stddev};
pub use transform::scale_by_rprop::{ScaleByRprop, ScaleByRpropState, scale_by_rprop};
pub use transform::scale_by_rss::{ScaleByRss, ScaleByRssState, scale_by_rss};
pub use transform::scale_by_schedule::{ScaleBySchedule, ScaleByScheduleState, scale_by_schedule};
pub use transform::scale_by_sign::{ScaleBySign, scale_by_sign};
pub use transform::scale_by_sm3::{ScaleBySm3, ScaleBySm3State, scale_by_sm3};
pub use transform::scale_by_trust_ratio::{ScaleByTrustRatio, scale_by_trust_ratio};
pub use transform::scale_by_yogi::{ScaleByYogi, ScaleByYogiState, scale_by_yogi};
pub use transform::set_to_zero::{SetToZero, set_to_zero};
pub use transform::trace::{Trace, TraceState, trace};
pub use transform::zero_nans::{ZeroNans, ZeroNansState, zero_nans};
pub use transformation::{Boxed, BoxedState, GradientTransformation, Member, Stateless};
pub use treex_core; // the derive names it in a crate that depends on this one alone

/// The items of treex-core that a training program needs: `use treex_optim::prelude::*`.
pub mod prelude {
    pub use treex_core::{
        BatchStat, Error, Leaf, OptState, Parameter, Result, Rng, State, by, exactly, path, prelude::*,
    };
}
