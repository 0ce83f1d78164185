//! Filters, numbers and fields that would do nothing are errors.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use candle_core::Tensor;
use serde_json::{Value, json};
use treex_core::{Error, Leaf, Parameter, TreePart, by, path, prelude::*};
use treex_optim::*;
use treex_testing::device;

#[derive(Clone, Debug, TreeObject)]
struct Layer {
    kernel: Leaf<Parameter>,
    bias: Leaf<Parameter>,
}

fn model() -> Vec<Layer> {
    let leaf = |values: &[f32]| Leaf::new(Tensor::new(values, device()).unwrap()).unwrap();
    vec![Layer { kernel: leaf(&[1., -2.]), bias: leaf(&[0.5]) }]
}

fn refused(transformation: Boxed) -> Error {
    Optimizer::new(transformation).init(&model()).unwrap_err()
}

/// A filter that selects nothing, in every place that takes one.
#[test]
fn a_filter_that_selects_nothing() {
    let typo = || path("**.kernl");
    let config: OptimizerConfig =
        serde_json::from_str(r#"{"name": "adamw", "learning_rate": 0.1, "weight_decay_mask": "**.kernl"}"#)
            .unwrap();
    let decays: Vec<Boxed> = vec![
        add_decayed_weights(0.1).mask(typo()).boxed(),
        adamw(0.1).weight_decay_mask(typo()).boxed(),
        adabelief(0.1).weight_decay_mask(typo()).boxed(),
        adadelta(0.1).weight_decay_mask(typo()).boxed(),
        adafactor(0.1).weight_decay_mask(typo()).boxed(),
        adamaxw(0.1).weight_decay_mask(typo()).boxed(),
        adan(0.1).weight_decay_mask(typo()).boxed(),
        lamb(0.1).weight_decay_mask(typo()).boxed(),
        lars(0.1).weight_decay_mask(typo()).boxed(),
        lion(0.1).weight_decay_mask(typo()).boxed(),
        nadamw(0.1).weight_decay_mask(typo()).boxed(),
        multi_steps(adamw(0.1).weight_decay_mask(typo()), 2).boxed(),
        config.build().unwrap(),
    ];
    for transformation in decays {
        let text = format!("{transformation:?}");
        assert_eq!(
            refused(transformation).to_string(),
            "the mask of the weight decay does nothing: `path(\"**.kernl\")` selects no leaf that is trained: \
             expected at least one leaf, found none of 2 (nearest: `0.kernel`); correct the filter, or remove it",
            "{text}"
        );
    }
    let rate = sgd(0.1);
    let square = || DimensionNumbers::new([0], [1]);
    let others: Vec<(Boxed, &str)> = vec![
        (lars(0.1).trust_ratio_mask(typo()).boxed(), "the mask of the trust ratio"),
        (scale_by_trust_ratio().mask(typo()).boxed(), "the mask of the trust ratio"),
        (masked(scale(2.), typo()).boxed(), "`masked`"),
        (only(rate.clone(), typo()).boxed(), "`only` or `freeze`"),
        (chain((freeze(typo()), rate.clone())).boxed(), "`only` or `freeze`"),
        (muon(0.1).orthogonalize(typo()).boxed(), "`masked`"),
        (muon(0.1).weight_dimension_numbers(typo(), square()).boxed(), "`masked`"),
        (muon(0.1).orthogonalize(TreePart).weight_dimension_numbers(typo(), square()).boxed(), "`masked`"),
        (scale_by_shape().weight_dimension_numbers(typo(), square()).boxed(), "`weight_dimension_numbers`"),
        (galore(0.1).weight_dimension_numbers(typo(), square()).boxed(), "`weight_dimension_numbers`"),
        (
            partition().group("first", typo(), rate.clone()).group("rest", TreePart, rate.clone()).boxed(),
            "the group `first` of the partition",
        ),
        (
            multi_transform([("all", rate.clone().boxed()), ("al", rate.clone().boxed())], |_| "all").boxed(),
            "the group `al` of the partition",
        ),
    ];
    for (transformation, what) in others {
        let text = refused(transformation).to_string();
        assert!(text.starts_with(&format!("{what} does nothing: `")), "{text}");
    }
    let text = Optimizer::new(rate.clone()).wrt(typo()).init(&model()).unwrap_err().to_string();
    assert!(text.contains("found 2 leaves, 2 of them differentiable (nearest: `0.kernel`)"), "{text}");

    // A group that can have no leaves, since those before it have them all.
    let shadowed =
        partition().group("all", TreePart, rate.clone()).group("kernels", path("**.kernel"), rate.clone());
    let text = refused(shadowed.boxed()).to_string();
    assert!(
        text.starts_with("the group `kernels` of the partition does nothing: groups before it"),
        "{text}"
    );
}

/// What a model may lack is no mistake: defaults, and a last group for the rest.
#[test]
fn what_selects_nothing_by_itself() {
    let rate = sgd(0.1);
    let fine: Vec<Boxed> = vec![
        muon(0.1).boxed(),
        muon(0.1).orthogonalize(TreePart).boxed(),
        freeze(TreePart).boxed(),
        partition().group("all", TreePart, rate.clone()).group("rest", TreePart, rate.clone()).boxed(),
        chain((freeze(by(|leaf| leaf.rank() == Some(1))), rate)).boxed(),
    ];
    for transformation in fine {
        Optimizer::new(transformation).init(&model()).unwrap();
    }
    // A frozen leaf may be trained later, by an optimizer that is reconciled.
    let mut model = model();
    model.freeze(path("**.kernel")).unwrap();
    Optimizer::new(adamw(0.1).weight_decay_mask(path("**.kernel"))).init(&model).unwrap();
}

#[test]
fn a_number_that_a_schedule_sets_is_not_written() {
    let numbers = [("rate", linear(0.4, 0.1, 3).into()), ("momentum", 0.9.into())];
    let injected =
        inject_hyperparams(numbers, |now| Ok(sgd(now.get("rate")?).momentum(now.get("momentum")?)));
    let mut model = model();
    let mut optimizer = Optimizer::new(injected).init(&model).unwrap();
    let text = optimizer.set_hyperparam("rate", 1.).unwrap_err().to_string();
    assert_eq!(
        text,
        "`rate` has a schedule, which sets it at each step at `state.scheduled.rate`; give `inject_hyperparams` a \
         number to write it, or change the schedule"
    );
    optimizer.set_hyperparam("momentum", 0.).unwrap();
    let grads = model.clone();
    for _ in 0..2 {
        optimizer.update(&grads, &mut model).unwrap();
    }
    // The rate of the last step, and of the next one.
    assert!((optimizer.hyperparam("rate").unwrap() - 0.3).abs() < 1e-15);
    assert!((optimizer.learning_rate().unwrap().unwrap() - 0.2).abs() < 1e-15);
    assert_eq!(optimizer.hyperparam("momentum").unwrap(), 0.);
}

#[test]
fn a_hyperparameter_that_is_not_read() {
    let unread =
        inject_hyperparams([("rate", 0.1.into()), ("momentm", 0.9.into())], |now| Ok(sgd(now.get("rate")?)));
    assert_eq!(
        refused(unread.boxed()).to_string(),
        "the hyperparameter `momentm` does nothing: expected the closure of `inject_hyperparams` to read each, found \
         {\"rate\"}; read it with `now.get(\"momentm\")?`, or remove it"
    );
    let twice =
        inject_hyperparams([("rate", 0.1.into()), ("rate", 0.2.into())], |now| Ok(sgd(now.get("rate")?)));
    let text = refused(twice.boxed()).to_string();
    assert!(text.starts_with("two hyperparameters are named `rate`"), "{text}");
}

/// Every field of every schedule, in every other: it is unknown, or it changes the schedule.
#[test]
fn a_field_that_a_schedule_does_not_have() {
    let warm = json!({"peak": 0.1, "warmup_steps": 2, "decay_steps": 9});
    let curves = [
        json!({"name": "linear", "init": 1.0, "end": 0.5, "steps": 9}),
        json!({"name": "polynomial", "init": 1.0, "end": 0.5, "steps": 9}),
        json!({"name": "piecewise_constant", "init": 1.0, "boundaries_and_scales": [[2, 0.5]]}),
        json!({"name": "piecewise_interpolate", "interpolate_type": "linear", "init": 1.0,
               "boundaries_and_scales": [[2, 0.5]]}),
        json!({"name": "exponential_decay", "init": 1.0, "steps": 9, "rate": 0.5}),
        json!({"name": "cosine_decay", "init": 1.0, "decay_steps": 9}),
        json!({"name": "linear_onecycle", "steps": 9, "peak": 1.0}),
        json!({"name": "cosine_onecycle", "steps": 9, "peak": 1.0}),
        json!({"name": "warmup_constant", "peak": 1.0, "warmup_steps": 9}),
        json!({"name": "warmup_cosine", "peak": 1.0, "warmup_steps": 2, "decay_steps": 9}),
        json!({"name": "warmup_exponential_decay", "peak": 1.0, "warmup_steps": 2, "steps": 9, "rate": 0.5}),
        json!({"name": "sgdr", "cycles": [warm]}),
        json!({"name": "join_schedules", "schedules": [0.5, 0.1], "boundaries": [3]}),
    ];
    let others = [
        ("power", json!(3.0)),
        ("begin", json!(3)),
        ("staircase", json!(true)),
        ("end", json!(0.25)),
        ("alpha", json!(0.25)),
        ("exponent", json!(3.0)),
        ("pct_start", json!(0.4)),
        ("pct_final", json!(0.7)),
        ("div_factor", json!(3.0)),
        ("final_div_factor", json!(3.0)),
        ("init", json!(0.125)),
        ("interpolate_type", json!("cosine")),
        ("boundaries", json!([4])),
        ("rate", json!(0.7)),
    ];
    let read = |curve: &Value| serde_json::from_value::<CurveConfig>(curve.clone());
    let mut rejected = BTreeSet::new();
    for curve in &curves {
        let plain = format!("{:?}", read(curve).unwrap().build());
        for (field, value) in &others {
            let mut longer = curve.clone();
            longer[field] = value.clone();
            match read(&longer) {
                Ok(built) => assert_ne!(format!("{:?}", built.build()), plain, "{longer}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(&format!("unknown field `{field}`")), "{longer}: {text}");
                    rejected.insert(format!("{}.{field}", curve["name"].as_str().unwrap()));
                }
            }
        }
        // A schedule is written as it is read.
        let again = serde_json::to_value(read(curve).unwrap()).unwrap();
        assert_eq!(read(&again).unwrap(), read(curve).unwrap());
    }
    assert!(
        rejected.contains("linear.power") && rejected.contains("cosine_onecycle.pct_final"),
        "{rejected:?}"
    );
    let powered = CurveConfig::Linear(polynomial(1., 0., 3., 9));
    assert!(
        serde_json::to_string(&powered).unwrap_err().to_string().contains("use `CurveConfig::Polynomial`")
    );
}
