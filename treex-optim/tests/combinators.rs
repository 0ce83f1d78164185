//! Combinators: Optax's numbers (`fixtures/optax.json`), and combinators that Optax does not have.

#![allow(clippy::unwrap_used)]

mod contract;

use candle_core::{DType, Tensor};
use contract::{F64, Params, assert_contracts, assert_golden, contrib, extra, nan_like};
use treex_core::{ErrorKind, Leaf, Parameter, TreePart, path, prelude::*};
use treex_optim::{
    Boxed, DynamicLossScale, GradientTransformation, Optimizer, Schedule, Skip, adam, adamw, apply_if_finite,
    chain, clip_by_global_norm, conditionally_mask, conditionally_transform, flatten, freeze,
    inject_hyperparams, linear, lookahead, masked, master_weights, monitor_norm, multi_steps,
    multi_transform, named_chain, only, params_ema, partition, piecewise_constant, scale, scale_by_adam, sgd,
    trace, warmup_cosine_decay,
};
use treex_testing::compare::{assert_close, tree_values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::numbers;

/// Optax's MultiSteps accumulates in f32 in an f64 run too.
const GATHERED: f64 = 2e-8;

/// The combinators under the names of their cases, with tolerances.
fn table() -> Vec<(&'static str, Boxed, f64)> {
    let exact = Schedule::from(warmup_cosine_decay(0., 0.1, 2, 5, 0.01));
    let rate = Schedule::new("warmup_cosine_decay in f32", move |count| f64::from(exact.value(count) as f32));
    let injected = inject_hyperparams([("learning_rate", rate), ("weight_decay", 0.01.into())], |now| {
        Ok(adamw(now.get("learning_rate")?).weight_decay(now.get("weight_decay")?))
    });
    let by_filter = partition().group("a", path("a"), adam(0.1)).group("b", TreePart, sgd(0.1).momentum(0.9));
    vec![
        ("masked(scale(-1),a)", masked(scale(-1.), path("a")).boxed(), F64),
        ("freeze(a)", freeze(path("a")).boxed(), F64),
        ("selective_transform(sgd .1, freeze a)", only(sgd(0.1), !path("a")).boxed(), F64),
        ("partition(a:adam(.1),b:sgd(.1,.9))", by_filter.boxed(), F64),
        ("flatten(adam(.1))", flatten(adam(0.1)).boxed(), F64),
        (
            "conditionally_transform(scale 2, step<3)",
            conditionally_transform(scale(2.), |step, _| step < 3).boxed(),
            F64,
        ),
        (
            "conditionally_mask(scale 2, step<3)",
            conditionally_mask(scale(2.), |step, _| step < 3).boxed(),
            F64,
        ),
        ("MultiSteps(adam(.1),3)", multi_steps(adam(0.1), 3).boxed(), GATHERED),
        ("MultiSteps(adam(.1),2,sum)", multi_steps(adam(0.1), 2).mean(false).boxed(), GATHERED),
        ("apply_if_finite(adam(.1),2)", apply_if_finite(adam(0.1), 2).boxed(), F64),
        ("inject_hyperparams(adamw)(sched)", injected.boxed(), F64),
    ]
}

/// The same for the cases of `contrib.json`.
fn beyond() -> Vec<(&'static str, Boxed)> {
    let frozen = partition().group("x", path("a"), adamw(0.1).weight_decay(0.1)).group(
        "y",
        TreePart,
        freeze(TreePart),
    );
    let growing = Schedule::new("1 + c", |count| 1. + count as f64);
    vec![
        ("apply_if_finite(adam(.1),5), broken", apply_if_finite(adam(0.1), 5).boxed()),
        (
            "MultiSteps(adam(.1),2,skip_not_finite), broken",
            multi_steps(adam(0.1), 2).skip(Skip::NotFinite).boxed(),
        ),
        ("MultiSteps(adam(.1),1+gradient_step)", multi_steps(adam(0.1), 1).every(growing).boxed()),
        (
            "MultiSteps(sgd(.1),2,skip_large_updates(5.5))",
            multi_steps(sgd(0.1), 2).skip(Skip::LargeUpdates { max_squared_norm: 5.5 }).boxed(),
        ),
        (
            "named_chain(clip(.3),adam(.1))",
            named_chain([("clip", clip_by_global_norm(0.3).boxed()), ("adam", adam(0.1).boxed())]).boxed(),
        ),
        (
            "chain(partition(a:adamw(.1,wd=.1),b:freeze),clip)",
            chain((frozen, clip_by_global_norm(0.05))).boxed(),
        ),
        (
            "conditionally_transform(adam(.1),step%2)",
            conditionally_transform(adam(0.1), |step, _| step % 2 == 1).boxed(),
        ),
    ]
}

/// More combinators, and nested ones.
fn more() -> Vec<(&'static str, Boxed)> {
    let labelled = multi_transform([("matrix", adam(0.1).boxed()), ("vector", sgd(0.1).boxed())], |leaf| {
        if leaf.rank() == Some(2) { "matrix" } else { "vector" }
    });
    vec![
        ("named", named_chain([("z", scale_by_adam().boxed()), ("a", scale(-0.1).boxed())]).boxed()),
        ("labelled", labelled.boxed()),
        ("skipping", multi_steps(adam(0.1), 2).skip(Skip::NotFinite).boxed()),
        ("more and more", multi_steps(adam(0.1), 1).every(piecewise_constant(1., [(2, 2.)])).boxed()),
        ("lookahead", lookahead(adam(0.1), 3, 0.5).boxed()),
        ("average", chain((adam(0.1), params_ema(0.9))).boxed()),
        ("average with a schedule", chain((adam(0.1), params_ema(linear(0., 0.9, 4)))).boxed()),
        ("monitored", chain((monitor_norm("gradient"), clip_by_global_norm(1.), sgd(0.1))).boxed()),
        ("masters", master_weights(adamw(0.1)).boxed()),
        (
            "frozen at last",
            chain((clip_by_global_norm(1.), trace(0.9), scale(-0.1), freeze(path("b")))).boxed(),
        ),
        ("nested", multi_steps(apply_if_finite(masked(adam(0.1), path("a")), 3), 2).boxed()),
        ("masked masters", master_weights(multi_steps(only(adam(0.1), path("a")), 2)).boxed()),
    ]
}

#[test]
fn matches_optax() {
    let fixture = fixture!("optax.json");
    for (name, transformation, tolerance) in table() {
        assert_golden(&fixture["meta"], &fixture["transforms"][name], name, &transformation, tolerance);
    }
    let contrib = contrib();
    for (name, transformation) in beyond() {
        assert_golden(&fixture["meta"], &contrib["transforms"][name], name, &transformation, F64);
    }
}

#[test]
fn contracts() {
    let fixture = fixture!("optax.json");
    let table = table().into_iter().map(|(name, transformation, _)| (name, transformation));
    for (name, transformation) in table.chain(more()) {
        if !name.starts_with("flatten") {
            assert_contracts(&fixture["meta"], name, &transformation);
        }
    }
}

fn start() -> Params {
    Params::read(&fixture!("optax.json")["meta"]["params"], DType::F64)
}

fn grads(step: usize) -> Params {
    Params::read(&fixture!("optax.json")["meta"]["grads"][step], DType::F64)
}

#[test]
fn lookahead_has_slow_parameters() {
    let fixture = fixture!("optax.json");
    let mut fast = start();
    let mut optimizer = Optimizer::new(lookahead(sgd(0.1), 3, 0.5)).init(&fast).unwrap();
    for (step, expected) in fixture["lookahead(sgd .1, 3, .5)"].as_array().unwrap().iter().enumerate() {
        optimizer.update(&grads(step), &mut fast).unwrap();
        assert_close(&tree_values(&fast), &numbers(&expected["fast"]), F64, "fast");
        assert_close(
            &tree_values(&optimizer.state().unwrap().slow),
            &numbers(&expected["slow"]),
            F64,
            "slow",
        );
        let slow = optimizer.eval_model(&fast).unwrap();
        assert_close(&tree_values(&slow), &numbers(&expected["slow"]), F64, "to evaluate");
    }
}

#[test]
fn lookahead_can_reset_the_fast_state() {
    let mut fast = start();
    let lookahead = lookahead(adam(0.1), 2, 0.3).reset_state(true);
    let mut optimizer = Optimizer::new(lookahead).init(&fast).unwrap();
    let case = &contrib()["lookahead(adam .1, 2, .3, reset)"];
    for (step, expected) in case.as_array().unwrap().iter().enumerate() {
        optimizer.update(&grads(step), &mut fast).unwrap();
        assert_close(&tree_values(&fast), &numbers(&expected["fast"]), F64, "fast");
        assert_close(
            &tree_values(&optimizer.state().unwrap().slow),
            &numbers(&expected["slow"]),
            F64,
            "slow",
        );
    }
}

/// Updates that are dropped inside a function of tensors are dropped from the step.
#[test]
fn dropped_updates_leave_parameters_unchanged() {
    let nested: [Boxed; 3] = [
        apply_if_finite(only(adam(0.1), path("a")), 2).boxed(),
        multi_steps(chain((freeze(path("b")), adamw(0.1))), 2).skip(Skip::NotFinite).boxed(),
        master_weights(chain((adamw(0.1), freeze(path("b"))))).boxed(),
    ];
    for transformation in nested {
        let mut params = start();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        for step in 0..4 {
            optimizer.update(&grads(step), &mut params).unwrap();
        }
        assert_eq!(params.b, start().b, "{transformation:?}");
        assert_ne!(params.a, start().a, "{transformation:?}");
    }
}

/// The parameters to evaluate with are those of the transformation inside.
#[test]
fn eval_model_finds_an_average_inside_a_wrapper() {
    let average = || chain((sgd(0.1), params_ema(0.5)));
    let trained = |transformation: Boxed| {
        let mut params = start();
        let mut optimizer = Optimizer::new(transformation).init(&params).unwrap();
        for step in 0..3 {
            optimizer.update(&grads(step), &mut params).unwrap();
        }
        let found = optimizer.eval_model(&params).unwrap();
        assert_ne!(tree_values(&found), tree_values(&params));
        tree_values(&found)
    };
    let expected = trained(average().boxed());
    for wrapped in [flatten(average()).boxed(), master_weights(average()).boxed()] {
        assert_close(&trained(wrapped.clone()), &expected, 1e-12, &format!("{wrapped:?}"));
    }
}

#[test]
fn averages_follow_the_parameters() {
    let mut params = start();
    let decays = [0., 0.3, 0.6, 0.9, 0.9, 0.9];
    let mut optimizer =
        Optimizer::new(chain((adam(0.1), params_ema(linear(0., 0.9, 3))))).init(&params).unwrap();
    let mut expected = tree_values(&params);
    assert_eq!(tree_values(&optimizer.eval_model(&params).unwrap()), expected);
    for (step, decay) in decays.into_iter().enumerate() {
        optimizer.update(&grads(step), &mut params).unwrap();
        let now = tree_values(&params);
        expected.iter_mut().zip(now).for_each(|(mean, p)| *mean = decay * *mean + (1. - decay) * p);
        assert_close(&tree_values(&optimizer.eval_model(&params).unwrap()), &expected, 1e-14, "the average");
    }
    // The trained model is unchanged, and `eval_model` without averages returns it.
    assert_ne!(tree_values(&params), expected);
    let plain = Optimizer::new(adam(0.1)).init(&params).unwrap();
    assert_eq!(plain.eval_model(&params).unwrap(), params);
}

/// A skipped step changes only counts of steps and of skipped gradients.
#[test]
fn skipped_steps_change_nothing() {
    let skipping: [Boxed; 4] = [
        apply_if_finite(adam(0.1), 2).boxed(),
        multi_steps(adam(0.1), 2).skip(Skip::NotFinite).boxed(),
        multi_steps(adam(0.1), 2).skip(Skip::LargeUpdates { max_squared_norm: 1e3 }).boxed(),
        chain((scale(1.), apply_if_finite(flatten(adamw(0.1)), 2))).boxed(),
    ];
    for transformation in skipping {
        let mut params = start();
        params.b = Leaf::new(Tensor::new(&[-0.0, 0.0, 1e-300, 3.], device()).unwrap()).unwrap();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        for step in 0..3 {
            optimizer.update(&grads(step), &mut params).unwrap();
        }
        let kept = path("**.mu.**") | path("**.nu.**") | path("**.acc_grads.**") | path("**.inner_state.**");
        let bits = |params: &Params, optimizer: &Optimizer<Boxed>| {
            let all = [tree_values(params), tree_values(&optimizer.filter(kept.clone()))].concat();
            all.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let before = bits(&params, &optimizer);
        let broken = grads(3).map(|leaf| Ok(nan_like(leaf))).unwrap();
        optimizer.update(&broken, &mut params).unwrap();
        let after = bits(&params, &optimizer);
        assert!(before == after, "{transformation:?}");
        assert_eq!(optimizer.step_count().unwrap(), 4);
    }
}

#[test]
fn too_many_errors_in_a_row_are_applied() {
    let mut params = start();
    let mut optimizer = Optimizer::new(apply_if_finite(sgd(0.1), 2)).init(&params).unwrap();
    let broken = grads(0).map(|leaf| Ok(nan_like(leaf))).unwrap();
    for (call, finite) in [true, true, false].into_iter().enumerate() {
        optimizer.update(&broken, &mut params).unwrap();
        assert_eq!(tree_values(&params).iter().all(|value| value.is_finite()), finite, "{call}");
    }
    let state = optimizer.state().unwrap();
    assert_eq!((state.notfinite_count.get().unwrap(), state.total_notfinite.get().unwrap()), (3, 3));
}

/// `multi_steps` equals training with larger batches.
#[test]
fn accumulated_steps_are_steps_of_the_mean() {
    let (mut gathered, mut whole) = (start(), start());
    let mut slow = Optimizer::new(multi_steps(adamw(0.1), 3)).init(&gathered).unwrap();
    let mut fast = Optimizer::new(adamw(0.1)).init(&whole).unwrap();
    for step in 0..6 {
        slow.update(&grads(step), &mut gathered).unwrap();
        if step % 3 == 2 {
            let mean = grads(step)
                .zip_map(&grads(step - 1), |a, b| Ok((a + b)?))
                .and_then(|sum| sum.zip_map(&grads(step - 2), |a, b| Ok(((a + b)? / 3.)?)))
                .unwrap();
            fast.update(&mean, &mut whole).unwrap();
        }
        assert_close(&tree_values(&gathered), &tree_values(&whole), 1e-12, "parameters");
    }
    let state = slow.state().unwrap();
    assert_eq!((state.mini_step.get().unwrap(), state.gradient_step.get().unwrap()), (0, 2));
}

#[test]
fn names_in_the_state() {
    let names = |transformation: Boxed| -> Vec<String> {
        let optimizer = Optimizer::new(transformation).init(&start()).unwrap();
        optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect()
    };
    assert_eq!(
        names(named_chain([("momentum", trace(0.9).boxed()), ("rate", scale(-0.1).boxed())]).boxed()),
        ["step", "state.momentum.trace.a", "state.momentum.trace.b"]
    );
    assert_eq!(
        names(partition().group("first", path("a"), trace(0.9)).group("rest", TreePart, trace(0.8)).boxed()),
        ["step", "state.first.trace.a", "state.rest.trace.b"]
    );
    assert_eq!(names(masked(trace(0.9), path("a")).boxed()), ["step", "state.trace.a"]);
    assert_eq!(
        names(multi_steps(trace(0.9), 2).boxed())[1..],
        [
            "state.mini_step",
            "state.gradient_step",
            "state.acc_grads.a",
            "state.acc_grads.b",
            "state.inner_state.trace.a",
            "state.inner_state.trace.b"
        ]
    );
}

#[test]
fn hyperparams_are_read_and_written_by_name() {
    let rate = |first: f64| {
        inject_hyperparams([("learning_rate", first.into()), ("momentum", 0.9.into())], |now| {
            Ok(sgd(now.get("learning_rate")?).momentum(now.get("momentum")?))
        })
    };
    let mut params = start();
    let groups = partition().group("first", path("a"), rate(0.1)).group("rest", TreePart, rate(0.2));
    let mut optimizer = Optimizer::new(groups).init(&params).unwrap();
    optimizer.update(&grads(0), &mut params).unwrap();
    assert_eq!(optimizer.hyperparam("first.learning_rate").unwrap(), 0.1);
    optimizer.set_hyperparam("rest.learning_rate", 0.).unwrap();
    let before = params.clone();
    optimizer.update(&grads(1), &mut params).unwrap();
    assert_ne!(params.a, before.a);
    assert_eq!(tree_values(&params.b), tree_values(&before.b));

    let text = optimizer.hyperparam("learning_rate").unwrap_err().to_string();
    assert_eq!(
        text,
        "the hyperparams of the optimizer have more than one number named `learning_rate`: expected the end of one \
         of [\"state.first.learning_rate\", \"state.first.momentum\", \"state.rest.learning_rate\", \
         \"state.rest.momentum\"]; write enough of the path to make it unique"
    );
    let text = optimizer.set_hyperparam("rate", 1.).unwrap_err().to_string();
    assert!(text.starts_with("the hyperparams of the optimizer have nothing named `rate`"), "{text}");
    assert!(optimizer.set_hyperparam("first.learning_rate", f64::NAN).is_err());
    let unknown = inject_hyperparams([("lr", 0.1.into())], |now| Ok(sgd(now.get("learning_rate")?)));
    let text = Optimizer::new(unknown).init(&params).unwrap_err().to_string();
    assert!(text.starts_with("unknown hyperparameter `learning_rate`: expected one of [\"lr\"]"), "{text}");
}

#[test]
fn misuse_is_an_error() {
    let refused = |transformation: Boxed| Optimizer::new(transformation).init(&start()).unwrap_err();
    let error = refused(partition().group("first", path("a"), sgd(0.1)).boxed());
    assert_eq!(
        error.to_string(),
        "a parameter belongs to no group of the partition at `b`: expected one of [\"first\"] to select it; \
         add a last group for the rest: `.group(\"rest\", TreePart, ...)`"
    );
    assert_eq!(error.kind(), ErrorKind::Argument);
    let twice = named_chain([("a", scale(1.).boxed()), ("a", scale(2.).boxed())]);
    assert!(refused(twice.boxed()).to_string().starts_with("two transformations are named `a`"));
    assert!(
        refused(lookahead(sgd(0.1), 0, 0.5).boxed()).to_string().starts_with("`sync_period` is too small")
    );
    assert!(refused(multi_steps(sgd(0.1), 0).boxed()).to_string().starts_with("`every_k` is too small"));
    assert!(refused(params_ema(f64::NAN).boxed()).to_string().starts_with("`decay` is"));
}

/// The masters equal f32 training with the same gradients, and the model has them rounded.
#[test]
fn masters_are_an_f32_training() {
    let meta = &fixture!("optax.json")["meta"];
    for half in [DType::BF16, DType::F16] {
        let mut rounded = Params::read(&meta["params"], half);
        let mut exact = Params::read(&meta["params"], half);
        exact = exact.into_dtype(DType::F32).unwrap();
        let mut optimizer = Optimizer::new(master_weights(adamw(1e-4))).init(&rounded).unwrap();
        let mut oracle = Optimizer::new(adamw(1e-4)).init(&exact).unwrap();
        for step in (0..60).map(|step| step % 6) {
            let grads = Params::read(&meta["grads"][step], half);
            optimizer.update(&grads, &mut rounded).unwrap();
            let mut wide = grads.clone();
            wide = wide.into_dtype(DType::F32).unwrap();
            oracle.update(&wide, &mut exact).unwrap();
        }
        assert_eq!(tree_values(&optimizer.state().unwrap().master), tree_values(&exact), "{half:?}");
        let mut expected = exact.clone();
        expected = expected.into_dtype(half).unwrap();
        assert_eq!(tree_values(&rounded), tree_values(&expected), "{half:?}");
        assert_eq!(rounded.a.dtype(), Some(half));
    }
    // A leaf in f32 has no master, and is trained directly.
    let mut mixed = Params::read(&meta["params"], DType::F32);
    mixed = mixed.into_dtype_where(path("a"), DType::BF16).unwrap();
    let mut alone = mixed.clone();
    let mut optimizer = Optimizer::new(master_weights(adam(0.1))).init(&mixed).unwrap();
    let mut oracle = Optimizer::new(adam(0.1)).init(&alone).unwrap();
    assert_eq!(optimizer.state().unwrap().master.tensors().count(), 1);
    for step in 0..6 {
        let grads = Params::read(&meta["grads"][step], DType::F32);
        optimizer.update(&grads, &mut mixed).unwrap();
        oracle.update(&grads, &mut alone).unwrap();
    }
    assert_eq!(mixed.b, alone.b);
}

#[test]
fn a_loss_scale_adapts() {
    let params = Params::read(&fixture!("optax.json")["meta"]["params"], DType::F16);
    let mut scale = DynamicLossScale::new().unwrap().init_scale(1e6).unwrap().growth_interval(3);
    let mut history = Vec::new();
    for _ in 0..8 {
        let (_, grads) = params
            .clone()
            .value_and_grad(Parameter, |params| {
                let loss = params.a.get()?.to_dtype(DType::F32)?.sqr()?.sum_all()?;
                scale.scale(&(loss + params.b.get()?.to_dtype(DType::F32)?.sqr()?.sum_all()?)?)
            })
            .unwrap();
        if let Some(grads) = scale.unscale(&grads).unwrap() {
            let expected = [[1., -2., 4.].as_slice(), &[3., 0.5, -1.5], &[2., -4., 0.2, 6.]].concat();
            assert_close(&tree_values(&grads), &expected, 4e-3, "the gradient of the loss itself");
        }
        history.push(scale.factor().unwrap());
    }
    let expected = [500_000., 250_000., 125_000., 62_500., 31_250., 15_625., 7812.5, 7812.5];
    assert_eq!(history, expected);
    assert_eq!(scale.skipped().unwrap(), 7);
    let mut good = DynamicLossScale::new().unwrap().growth_interval(2);
    for _ in 0..4 {
        good.unscale(&params).unwrap().unwrap();
    }
    assert_eq!(good.factor().unwrap(), 65536. * 4.);
    let folder = tempfile::tempdir().unwrap();
    good.save(folder.path().join("scale")).unwrap();
    let mut loaded = DynamicLossScale::new().unwrap();
    loaded.load(folder.path().join("scale")).unwrap();
    assert_eq!(loaded.flatten(), good.flatten());
    assert!(DynamicLossScale::new().unwrap().init_scale(0.).is_err());
}

#[test]
fn reconciled_after_surgery() {
    let leaf = |values: &[f64]| Leaf::<Parameter>::new(Tensor::new(values, device()).unwrap()).unwrap();
    let mut model = vec![leaf(&[1., 2.]), leaf(&[3.])];
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    let grads = model.clone();
    optimizer.update(&grads, &mut model).unwrap();

    let mut changed = vec![model[0].clone(), leaf(&[3., 4.]), leaf(&[5.])];
    let (mut next, report) = optimizer.reconcile(&changed).unwrap();
    let names = |paths: &[treex_core::Path]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&report.kept), ["step", "state.0.count", "state.0.mu.0", "state.0.nu.0"]);
    assert_eq!(names(&report.initialized), ["state.0.mu.1", "state.0.mu.2", "state.0.nu.1", "state.0.nu.2"]);
    assert!(report.dropped.is_empty());
    assert_eq!(next.step_count().unwrap(), 1);
    assert_close(&tree_values(&next.state().unwrap().0.mu), &[0.1, 0.2, 0., 0., 0.], 1e-15, "first moments");
    let before = optimizer.flatten();
    let grads = changed.clone();
    next.update(&grads, &mut changed).unwrap();
    assert_eq!(optimizer.flatten(), before);

    let (_, report) = next.reconcile(&changed[..1].to_vec()).unwrap();
    assert_eq!(names(&report.dropped), ["state.0.mu.1", "state.0.mu.2", "state.0.nu.1", "state.0.nu.2"]);
}

/// For an optimizer that evaluates the loss once, `minimize` is `value_and_grad` and `update`.
#[test]
fn minimize_is_value_and_grad_and_update() {
    let loss =
        |params: &mut Params| Ok((params.a.get()?.sqr()?.sum_all()? + params.b.get()?.exp()?.sum_all()?)?);
    let (mut by_minimize, mut by_update) = (start(), start());
    let mut one = Optimizer::new(adam(0.1)).init(&by_minimize).unwrap();
    let mut other = one.clone();
    for step in 0..4 {
        let value = one.minimize(&mut by_minimize, loss).unwrap();
        let (expected, grads) = by_update.value_and_grad(Parameter, loss).unwrap();
        assert_eq!(value, expected.to_scalar::<f64>().unwrap());
        other.update_with(&grads, &mut by_update, &extra(step)).unwrap();
        assert_eq!(by_minimize, by_update);
    }
}
