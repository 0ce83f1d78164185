//! Every transformation and every optimizer of this crate, for the tests that hold for all of them.

#![allow(dead_code)] // each of them needs a part

use candle_core::DType;
use treex_core::{Filter, by, path};
use treex_optim::*;

/// A name and its transformation.
pub(crate) type Row = (&'static str, Boxed);

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    let descents = descents().into_iter().map(|(name, transformation, _)| (name, transformation));
    golden().into_iter().chain(options()).chain(descents).collect()
}

/// The leaf `a` of the fixtures, and some of the leaves of other models, in which a filter must select something.
fn first() -> impl Filter + Clone + Send + Sync + 'static {
    path("a") | path("layers.0") | path("0") | by(|leaf| leaf.segments().is_empty())
}

fn falling(first: f64) -> Schedule {
    Schedule::new("first / (1 + c)", move |count| first / (1. + count as f64))
}

/// The transformation for each case of `optax.json`. `mask a` there is [`first`] here.
pub(crate) fn golden() -> Vec<Row> {
    // Optax counts steps in i32, and a schedule that divides such a count computes in f32, in an f64 run too.
    let exact = Schedule::from(warmup_cosine_decay(0., 0.1, 2, 5, 0.01));
    let rate = Schedule::new("warmup_cosine_decay in f32", move |count| f64::from(exact.value(count) as f32));
    vec![
        ("identity", identity().boxed()),
        ("scale(-0.5)", scale(-0.5).boxed()),
        ("scale_by_rss()", scale_by_rss().boxed()),
        ("scale_by_rms()", scale_by_rms().boxed()),
        (
            "scale_by_rms(eps_in_sqrt=False,bias_correction=True)",
            scale_by_rms().eps_in_sqrt(false).bias_correction(true).boxed(),
        ),
        ("scale_by_stddev(decay=.9,initial_scale=1.)", scale_by_stddev().initial_scale(1.).boxed()),
        ("scale_by_adam()", scale_by_adam().boxed()),
        ("scale_by_adam(nesterov)", scale_by_adam().nesterov(true).boxed()),
        ("scale_by_adam(eps_root=1e-3)", scale_by_adam().eps_root(1e-3).boxed()),
        ("scale_by_amsgrad()", scale_by_amsgrad().boxed()),
        (
            "scale_by_amsgrad(no_bc)",
            scale_by_amsgrad().bias_correction_mu(false).bias_correction_nu(false).boxed(),
        ),
        ("scale_by_adamax()", scale_by_adamax().boxed()),
        ("scale_by_lion()", scale_by_lion().boxed()),
        ("scale_by_param_block_norm()", scale_by_param_block_norm().boxed()),
        ("scale_by_param_block_rms()", scale_by_param_block_rms().boxed()),
        ("scale_by_adadelta()", scale_by_adadelta().boxed()),
        ("scale_by_adan()", scale_by_adan().boxed()),
        ("scale_by_belief()", scale_by_belief().boxed()),
        ("scale_by_belief(nesterov)", scale_by_belief().nesterov(true).boxed()),
        ("scale_by_yogi()", scale_by_yogi().boxed()),
        ("scale_by_radam()", scale_by_radam().boxed()),
        ("scale_by_radam(b2=.9)", scale_by_radam().b2(0.9).boxed()),
        ("scale_by_rprop(0.1)", scale_by_rprop(0.1).lagged(true).boxed()),
        ("scale_by_sign()", scale_by_sign().boxed()),
        ("scale_by_schedule(1/(1+c))", scale_by_schedule(falling(1.)).boxed()),
        ("scale_by_trust_ratio()", scale_by_trust_ratio().boxed()),
        (
            "scale_by_trust_ratio(min_norm=10,tc=.5,eps=.1)",
            scale_by_trust_ratio().min_norm(10.).trust_coefficient(0.5).eps(0.1).boxed(),
        ),
        ("apply_every(3)", apply_every(3).boxed()),
        ("centralize()", centralize().output_axis(0).boxed()),
        ("scale_by_sm3()", scale_by_sm3().boxed()),
        ("scale_by_novograd(weight_decay=.01)", scale_by_novograd().weight_decay(0.01).boxed()),
        ("scale_by_optimistic_gradient(.7,.3)", scale_by_optimistic_gradient().alpha(0.7).beta(0.3).boxed()),
        ("scale_by_distance_over_gradients()", scale_by_distance_over_gradients().boxed()),
        ("scale_by_polyak()", scale_by_polyak().boxed()),
        (
            "scale_by_polyak(sps+,f_min=2.)",
            scale_by_polyak().f_min(2.).variant(PolyakVariant::SpsPlus).boxed(),
        ),
        ("normalize_by_update_norm()", normalize_by_update_norm().boxed()),
        ("scale_by_factored_rms(min_dim=2)", scale_by_factored_rms().min_dim_size_to_factor(2).boxed()),
        ("scale_by_factored_rms(default)", scale_by_factored_rms().boxed()),
        ("trace(.9)", trace(0.9).boxed()),
        ("trace(.9,nesterov)", trace(0.9).nesterov(true).boxed()),
        ("ema(.9)", ema(0.9).boxed()),
        ("ema(.9,debias=False)", ema(0.9).debias(false).boxed()),
        ("add_decayed_weights(.1)", add_decayed_weights(0.1).boxed()),
        ("add_decayed_weights(.1,mask a)", add_decayed_weights(0.1).mask(first()).boxed()),
        ("add_decayed_weights(schedule .1/(1+c))", add_decayed_weights(falling(0.1)).boxed()),
        ("clip(.3)", clip(0.3).boxed()),
        ("clip_by_block_rms(.4)", clip_by_block_rms(0.4).boxed()),
        ("clip_by_global_norm(1.)", clip_by_global_norm(1.).boxed()),
        ("adaptive_grad_clip(.1)", adaptive_grad_clip(0.1).boxed()),
        ("keep_params_nonnegative", chain((scale(-1.), keep_params_nonnegative())).boxed()),
        (
            "chain(clip_gn 1, adamw(sched))",
            chain((clip_by_global_norm(1.), adamw(rate.clone()).weight_decay(0.01))).boxed(),
        ),
        // Optax puts the options into the state here; the numbers are those of the optimizer inside.
        ("inject_hyperparams(adamw)(sched)", adamw(rate).weight_decay(0.01).boxed()),
        ("adabelief(.01)", adabelief(0.01).boxed()),
        ("adabelief(.01,wd=1e-2)", adabelief(0.01).weight_decay(1e-2).boxed()),
        ("adadelta(.1)", adadelta(0.1).boxed()),
        // Optax's rate of `None` does not flip the sign: ascent.
        ("adadelta()", adadelta(-1.).boxed()),
        ("adafactor(.01)", adafactor(0.01).boxed()),
        (
            "adafactor(.01,min_dim=2,momentum=.9,wd=1e-3)",
            adafactor(0.01).min_dim_size_to_factor(2).momentum(0.9).weight_decay_rate(1e-3).boxed(),
        ),
        ("adafactor()", adafactor(1.).boxed()),
        ("adagrad(.1)", adagrad(0.1).boxed()),
        ("adam(.1)", adam(0.1).boxed()),
        ("nadam(.1)", nadam(0.1).boxed()),
        ("adamw(.1)", adamw(0.1).boxed()),
        ("adamw(.1,wd=.1,mask a)", adamw(0.1).weight_decay(0.1).weight_decay_mask(first()).boxed()),
        ("nadamw(.1)", nadamw(0.1).boxed()),
        ("adamax(.1)", adamax(0.1).boxed()),
        ("adamaxw(.1)", adamaxw(0.1).boxed()),
        ("adan(.1)", adan(0.1).boxed()),
        ("adan(.1,wd=.1)", adan(0.1).weight_decay(0.1).boxed()),
        ("amsgrad(.1)", amsgrad(0.1).boxed()),
        ("fromage(.1)", fromage(0.1).boxed()),
        ("lamb(.01)", lamb(0.01).weight_decay(0.01).boxed()),
        ("lars(.1)", lars(0.1).weight_decay(0.01).boxed()),
        (
            "lars(.1,nesterov,mask a)",
            lars(0.1)
                .weight_decay(0.01)
                .weight_decay_mask(first())
                .trust_ratio_mask(first())
                .nesterov(true)
                .boxed(),
        ),
        ("lion(.01)", lion(0.01).boxed()),
        ("novograd(.01)", novograd(0.01).weight_decay(0.01).boxed()),
        ("optimistic_gradient_descent(.1)", optimistic_gradient_descent(0.1).boxed()),
        ("optimistic_adam(.1)", optimistic_adam(0.1).boxed()),
        ("optimistic_adam_v2(.1)", optimistic_adam_v2(0.1).boxed()),
        ("polyak_sgd()", polyak_sgd().boxed()),
        ("radam(.1)", radam(0.1).boxed()),
        ("rmsprop(.01)", rmsprop(0.01).boxed()),
        (
            "rmsprop(.01,centered,momentum=.9,nesterov)",
            rmsprop(0.01).centered(true).momentum(0.9).nesterov(true).initial_scale(1.).boxed(),
        ),
        ("rmsprop(.01,momentum=.9)", rmsprop(0.01).momentum(0.9).boxed()),
        ("rprop(.1)", rprop(0.1).lagged(true).boxed()),
        ("sgd(.1)", sgd(0.1).boxed()),
        ("sgd(.1,.9)", sgd(0.1).momentum(0.9).boxed()),
        ("sgd(.1,.9,nesterov)", sgd(0.1).momentum(0.9).nesterov(true).boxed()),
        ("sign_sgd(.1)", sign_sgd(0.1).boxed()),
        ("signum(.1)", signum(0.1).boxed()),
        ("sm3(.1)", sm3(0.1).boxed()),
        ("yogi(.1)", yogi(0.1).boxed()),
    ]
}

/// The transformation for each case of `transforms.json`.
pub(crate) fn options() -> Vec<Row> {
    let f32 = DType::F32;
    let halves = Schedule::new("0, 1/4, 1/2", |count| 0.25 * count.min(2) as f64);
    let rate = || falling(0.1);
    vec![
        ("set_to_zero()", set_to_zero().boxed()),
        ("add_noise(.1, .55, key 7)", add_noise(0.1, 0.55, 7).boxed()),
        ("noisy_sgd(.1, key 42)", noisy_sgd(0.1, 42).boxed()),
        ("clip(.5)", clip(0.5).boxed()),
        ("adaptive_grad_clip(.1)", adaptive_grad_clip(0.1).boxed()),
        ("adaptive_grad_clip(.2, eps=.5, axis=0)", adaptive_grad_clip(0.2).eps(0.5).axis([0]).boxed()),
        ("zero_nans()", zero_nans().boxed()),
        ("centralize()", centralize().output_axis(0).boxed()),
        ("apply_every(2)", apply_every(2).boxed()),
        ("ema(.9, accumulator_dtype=f32)", ema(0.9).accumulator_dtype(f32).boxed()),
        ("trace(.9, accumulator_dtype=f32)", trace(0.9).accumulator_dtype(f32).boxed()),
        (
            "normalize_by_update_norm(2., eps=.1)",
            normalize_by_update_norm().scale_factor(2.).eps(0.1).boxed(),
        ),
        ("scale_by_adam(.8, .9, mu_dtype=f32)", scale_by_adam().b1(0.8).b2(0.9).mu_dtype(f32).boxed()),
        ("scale_by_adamax(.8, .9, .1)", scale_by_adamax().b1(0.8).b2(0.9).eps(0.1).boxed()),
        ("scale_by_adadelta(.8, 1e-2)", scale_by_adadelta().rho(0.8).eps(1e-2).boxed()),
        (
            "scale_by_adan(.9, .8, .7, 1e-3, 1e-2)",
            scale_by_adan().b1(0.9).b2(0.8).b3(0.7).eps(1e-3).eps_root(1e-2).boxed(),
        ),
        (
            "scale_by_amsgrad(.8, .9, mu without correction)",
            scale_by_amsgrad().b1(0.8).b2(0.9).bias_correction_mu(false).boxed(),
        ),
        (
            "scale_by_belief(.8, .9, 1e-3, 1e-2)",
            scale_by_belief().b1(0.8).b2(0.9).eps(1e-3).eps_root(1e-2).boxed(),
        ),
        (
            "scale_by_distance_over_gradients(1e-2, .1, scale -2)",
            scale_by_distance_over_gradients().reps_rel(1e-2).eps(0.1).global_scale(-2.).boxed(),
        ),
        ("scale_by_factored_rms(min 2)", scale_by_factored_rms().min_dim_size_to_factor(2).boxed()),
        (
            "scale_by_factored_rms(min 2, .5, eps=1e-3)",
            scale_by_factored_rms().decay_rate(0.5).min_dim_size_to_factor(2).epsilon(1e-3).boxed(),
        ),
        (
            "scale_by_factored_rms(min 2, decay_rate_fn)",
            scale_by_factored_rms().min_dim_size_to_factor(2).decay_rate_fn(halves).boxed(),
        ),
        ("scale_by_learning_rate(.1, flip_sign=False)", scale_by_learning_rate(0.1).flip_sign(false).boxed()),
        (
            "scale_by_lion(.8, .9, smooth 2)",
            scale_by_lion().b1(0.8).b2(0.9).mode(LionMode::Smooth).smooth_beta(2.).boxed(),
        ),
        ("scale_by_lion(.8, .9, refined)", scale_by_lion().b1(0.8).b2(0.9).mode(LionMode::Refined).boxed()),
        ("scale_by_lion(mu_dtype=f32, smooth)", scale_by_lion().mu_dtype(f32).mode(LionMode::Smooth).boxed()),
        (
            "scale_by_novograd(.8, .5, 1e-2, 1e-3, .1)",
            scale_by_novograd().b1(0.8).b2(0.5).eps(1e-2).eps_root(1e-3).weight_decay(0.1).boxed(),
        ),
        ("scale_by_param_block_norm(2.)", scale_by_param_block_norm().min_scale(2.).boxed()),
        ("scale_by_param_block_rms(.6)", scale_by_param_block_rms().min_scale(0.6).boxed()),
        (
            "scale_by_polyak(f_min=2.9, max .1, eps=.1)",
            scale_by_polyak().f_min(2.9).max_learning_rate(0.1).eps(0.1).boxed(),
        ),
        (
            "scale_by_radam(.8, .5, 1e-2, 1e-3, nesterov)",
            scale_by_radam().b1(0.8).b2(0.5).eps(1e-2).eps_root(1e-3).nesterov(true).boxed(),
        ),
        ("scale_by_radam(b2=.9, threshold=4)", scale_by_radam().b2(0.9).threshold(4.).boxed()),
        (
            "scale_by_rms(.8, .1, initial 1, corrected)",
            scale_by_rms().decay(0.8).eps(0.1).initial_scale(1.).bias_correction(true).boxed(),
        ),
        (
            "scale_by_rprop(.1, .4, 1.5, .09, .12)",
            scale_by_rprop(0.1)
                .eta_minus(0.4)
                .eta_plus(1.5)
                .min_step_size(0.09)
                .max_step_size(0.12)
                .lagged(true)
                .boxed(),
        ),
        ("scale_by_rss(.5, .1)", scale_by_rss().initial_accumulator_value(0.5).eps(0.1).boxed()),
        ("scale_by_sign()", scale_by_sign().boxed()),
        ("scale_by_sm3()", scale_by_sm3().boxed()),
        ("scale_by_sm3(.5, .9, 1e-2)", scale_by_sm3().b1(0.5).b2(0.9).eps(1e-2).boxed()),
        (
            "scale_by_stddev(.8, .1, initial 2, corrected, eps outside)",
            scale_by_stddev()
                .decay(0.8)
                .eps(0.1)
                .initial_scale(2.)
                .eps_in_sqrt(false)
                .bias_correction(true)
                .boxed(),
        ),
        (
            "scale_by_trust_ratio(1., .5, .1)",
            scale_by_trust_ratio().min_norm(1.).trust_coefficient(0.5).eps(0.1).boxed(),
        ),
        (
            "scale_by_yogi(.8, .9, 1e-2, 1e-3, .1)",
            scale_by_yogi().b1(0.8).b2(0.9).eps(1e-2).eps_root(1e-3).initial_accumulator_value(0.1).boxed(),
        ),
        ("adabelief(schedule)", adabelief(rate()).boxed()),
        ("adadelta(.1, wd=.1, rho=.8)", adadelta(0.1).weight_decay(0.1).rho(0.8).boxed()),
        (
            "adafactor(schedule, min 2, no clipping, no scale)",
            adafactor(rate())
                .min_dim_size_to_factor(2)
                .clipping_threshold(None)
                .multiply_by_parameter_scale(false)
                .boxed(),
        ),
        (
            "adafactor(.1, not factored, wd=.1, clipping .5, eps=1e-3)",
            adafactor(0.1).factored(false).weight_decay_rate(0.1).clipping_threshold(0.5).eps(1e-3).boxed(),
        ),
        ("adamaxw(.1, wd=.1)", adamaxw(0.1).weight_decay(0.1).boxed()),
        ("amsgrad(schedule, eps_root=.1)", amsgrad(rate()).eps_root(0.1).boxed()),
        ("fromage(schedule, min_norm=2.)", fromage(rate()).min_norm(2.).boxed()),
        ("lamb(schedule, wd=.1)", lamb(rate()).weight_decay(0.1).boxed()),
        (
            "lars(schedule, wd=.1, trust .1, eps=.1, momentum .5)",
            lars(rate()).weight_decay(0.1).trust_coefficient(0.1).eps(0.1).momentum(0.5).boxed(),
        ),
        ("lion(schedule, wd=.1)", lion(rate()).weight_decay(0.1).boxed()),
        ("novograd(schedule, wd=.1)", novograd(rate()).weight_decay(0.1).boxed()),
        ("optimistic_adam(.1, optimism=.3)", optimistic_adam(0.1).optimism(0.3).boxed()),
        (
            "optimistic_adam_v2(schedule, .7, .3, no nesterov)",
            optimistic_adam_v2(rate()).alpha(0.7).beta(0.3).nesterov(false).boxed(),
        ),
        (
            "polyak_sgd(.1, schedule, sps+)",
            polyak_sgd().max_learning_rate(0.1).scaling(rate()).variant(PolyakVariant::SpsPlus).boxed(),
        ),
        (
            "rmsprop(schedule, eps outside, momentum .5, corrected)",
            rmsprop(rate()).eps_in_sqrt(false).momentum(0.5).bias_correction(true).boxed(),
        ),
        ("sgd(schedule, .9)", sgd(rate()).momentum(0.9).boxed()),
        ("signum(.1, .5)", signum(0.1).beta(0.5).boxed()),
        ("yogi(schedule)", yogi(rate()).boxed()),
    ]
}

/// Transformations that descend, and their number of steps on Rosenbrock's function; `None` for those that
/// cycle there, since all their steps have one size. Most rates are those of Optax's own tests.
pub(crate) fn descents() -> Vec<(&'static str, Boxed, Option<usize>)> {
    let halving = scale_by_schedule(linear(1., 0.5, 1_000));
    vec![
        ("sgd", sgd(1e-3).boxed(), Some(20_000)),
        ("momentum", sgd(1e-3).momentum(0.9).boxed(), Some(5_000)),
        ("nesterov", sgd(1e-3).momentum(0.9).nesterov(true).boxed(), Some(5_000)),
        ("sgd by parts", chain((None::<Trace>, trace(0.9), scale(-1e-3))).boxed(), Some(5_000)),
        ("scheduled momentum", chain((trace(0.9), halving, scale(-1e-3))).boxed(), Some(6_000)),
        ("l2 penalty", chain((add_decayed_weights(1e-4), sgd(1e-3).momentum(0.9))).boxed(), Some(5_000)),
        ("adam", adam(0.1).boxed(), Some(2_000)),
        ("nadam", nadam(0.01).boxed(), Some(10_000)),
        ("nadamw", nadamw(0.01).boxed(), Some(10_000)),
        ("adam by parts", chain((scale_by_adam(), scale(-0.1))).boxed(), Some(2_000)),
        ("adamw", adamw(0.1).boxed(), Some(2_000)),
        ("warm adamw", adamw(warmup_cosine(0.1, 100, 2_000)).boxed(), Some(2_000)),
        ("clipped adam", chain((clip_by_global_norm(1.), adam(0.01))).boxed(), Some(10_000)),
        ("one, boxed twice", chain((adam(0.1).boxed().boxed(),)).boxed(), Some(2_000)),
        ("adabelief", adabelief(1e-2).boxed(), Some(10_000)),
        ("adadelta", adadelta(0.1).boxed(), Some(10_000)),
        ("adafactor", adafactor(5e-3).boxed(), Some(10_000)),
        ("adagrad", adagrad(1.).boxed(), Some(10_000)),
        ("adamax", adamax(0.1).boxed(), Some(10_000)),
        ("adamaxw", adamaxw(0.1).boxed(), Some(10_000)),
        ("adan", adan(0.1).boxed(), Some(10_000)),
        ("amsgrad", amsgrad(0.1).boxed(), Some(10_000)),
        ("fromage", fromage(5e-3).boxed(), Some(10_000)),
        ("lamb", lamb(1e-3).boxed(), Some(10_000)),
        ("lars", lars(1.).boxed(), Some(10_000)),
        ("lion", lion(2e-3).weight_decay(1e-4).boxed(), Some(20_000)),
        ("noisy_sgd", noisy_sgd(1e-3, 0).eta(1e-4).boxed(), Some(20_000)),
        ("novograd", novograd(1e-3).boxed(), Some(10_000)),
        ("optimistic_adam", optimistic_adam(2e-3).boxed(), Some(10_000)),
        ("optimistic_adam_v2", optimistic_adam_v2(2e-3).boxed(), Some(10_000)),
        (
            "optimistic_gradient_descent",
            optimistic_gradient_descent(2e-3).alpha(0.7).beta(0.1).boxed(),
            Some(10_000),
        ),
        ("polyak_sgd", polyak_sgd().boxed(), Some(10_000)),
        ("radam", radam(5e-3).boxed(), Some(10_000)),
        ("rmsprop", rmsprop(5e-3).momentum(0.9).boxed(), Some(10_000)),
        ("rprop", rprop(0.1).boxed(), Some(10_000)),
        ("rprop, lagged", rprop(0.1).lagged(true).boxed(), Some(10_000)),
        ("sign_sgd", sign_sgd(1e-2).boxed(), None),
        ("signum", signum(1e-2).boxed(), None),
        ("sm3", sm3(1.).boxed(), Some(10_000)),
        ("yogi", yogi(0.1).boxed(), Some(10_000)),
        ("distance over gradients", chain((scale_by_distance_over_gradients(), scale(-1.))).boxed(), None),
        ("centered", chain((centralize(), zero_nans(), adam(0.01))).boxed(), Some(10_000)),
    ]
}
