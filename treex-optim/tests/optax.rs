//! What Optax itself computed, in f64 (`fixtures/optax.json`, written by `fixtures/optax.py`): every case
//! that the transformations of this crate can express. `schedules.rs`, `losses.rs` and `projections.rs` read
//! the rest of it.

#![allow(clippy::unwrap_used)]

mod oracle;

use candle_core::DType;
use oracle::{assert_close, numbers, optax, tensor, values};
use serde_json::Value;
use treex_core::{Leaf, Parameter, path, prelude::*};
use treex_optim::{
    Boxed, Extra, GradientTransformation, Optimizer, Schedule, adam, adamw, add_decayed_weights, chain,
    clip_by_global_norm, scale, scale_by_adam, scale_by_schedule, sgd, trace, warmup_cosine_decay,
};

/// Optax sums in f64 in another order than Candle; nothing else differs.
const F64: f64 = 1e-10;

/// Six steps in f32, each rounding at 6e-8 relative: values are around 1, and Adam divides by a root.
const F32: f64 = 5e-6;

#[derive(Clone, Debug, TreeObject)]
struct Params {
    a: Leaf<Parameter>,
    b: Leaf<Parameter>,
}

impl Params {
    fn read(leaves: &Value, dtype: DType) -> Self {
        let leaf = |index: usize| Leaf::new(tensor(&leaves[index]).to_dtype(dtype).unwrap()).unwrap();
        Self { a: leaf(0), b: leaf(1) }
    }
}

/// The transformation for each case of `transforms`. `mask a` there is `path("a")` here.
fn transformations() -> Vec<(&'static str, Boxed)> {
    // Optax counts steps in i32, and a schedule that divides such a count computes in f32, in an f64 run too.
    let exact = Schedule::from(warmup_cosine_decay(0., 0.1, 2, 5, 0.01));
    let rate = Schedule::new("warmup_cosine_decay in f32", move |count| f64::from(exact.value(count) as f32));
    let falling = |first: f64| Schedule::new("first / (1 + c)", move |count| first / (1. + count as f64));
    vec![
        ("identity", chain(()).boxed()),
        ("scale(-0.5)", scale(-0.5).boxed()),
        ("scale_by_adam()", scale_by_adam().boxed()),
        ("scale_by_adam(nesterov)", scale_by_adam().nesterov(true).boxed()),
        ("scale_by_adam(eps_root=1e-3)", scale_by_adam().eps_root(1e-3).boxed()),
        ("scale_by_schedule(1/(1+c))", scale_by_schedule(falling(1.)).boxed()),
        ("trace(.9)", trace(0.9).boxed()),
        ("trace(.9,nesterov)", trace(0.9).nesterov(true).boxed()),
        ("add_decayed_weights(.1)", add_decayed_weights(0.1).boxed()),
        ("add_decayed_weights(.1,mask a)", add_decayed_weights(0.1).to(path("a")).boxed()),
        ("add_decayed_weights(schedule .1/(1+c))", add_decayed_weights(falling(0.1)).boxed()),
        ("clip_by_global_norm(1.)", clip_by_global_norm(1.).boxed()),
        (
            "chain(clip_gn 1, adamw(sched))",
            chain((clip_by_global_norm(1.), adamw(rate.clone()).weight_decay(0.01))).boxed(),
        ),
        // Optax puts the options into the state here; the numbers are those of the optimizer inside.
        ("inject_hyperparams(adamw)(sched)", adamw(rate).weight_decay(0.01).boxed()),
        ("adam(.1)", adam(0.1).boxed()),
        ("nadam(.1)", adam(0.1).nesterov(true).boxed()),
        ("adamw(.1)", adamw(0.1).boxed()),
        ("adamw(.1,wd=.1,mask a)", adamw(0.1).weight_decay(0.1).decay(path("a")).boxed()),
        ("nadamw(.1)", adamw(0.1).nesterov(true).boxed()),
        ("sgd(.1)", sgd(0.1).boxed()),
        ("sgd(.1,.9)", sgd(0.1).momentum(0.9).boxed()),
        ("sgd(.1,.9,nesterov)", sgd(0.1).momentum(0.9).nesterov(true).boxed()),
    ]
}

fn check_transformations(dtype: DType, tolerance: f64) {
    let fixture = optax();
    for (name, transformation) in transformations() {
        let case = &fixture["transforms"][name];
        assert!(case.is_object(), "there is no case `{name}` in the fixture");
        let mut params = Params::read(&fixture["meta"]["params"], dtype);
        let mut through_optimizer = params.clone();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        let mut state = transformation.init(&params.flatten()).unwrap();
        for (step, grads) in fixture["meta"]["grads"].as_array().unwrap().iter().enumerate() {
            let grads = Params::read(grads, dtype);
            let extra = Extra::value(3. - 0.3 * step as f64);
            let updates =
                transformation.updates(grads.flatten(), &mut state, &params.flatten(), &extra).unwrap();
            let found: Vec<f64> = updates.tensors().flat_map(values).collect();
            assert_close(
                &found,
                &numbers(&case["updates"][step]),
                tolerance,
                &format!("{name}, updates {step}"),
            );
            let added = params.flatten().combine(&updates, |p, u| Ok((p + u)?)).unwrap();
            params = params.unflatten(&added).unwrap();
            optimizer.update_with(&grads, &mut through_optimizer, &extra).unwrap();
        }
        let found: Vec<f64> = through_optimizer.flatten().tensors().flat_map(values).collect();
        assert_close(
            &found,
            &numbers(&case["final_params"]),
            tolerance,
            &format!("{name}, final parameters"),
        );
        assert_eq!(optimizer.step().unwrap(), 6);
    }
}

#[test]
fn transformations_in_f64() {
    check_transformations(DType::F64, F64);
}

#[test]
fn transformations_in_f32() {
    check_transformations(DType::F32, F32);
}

/// What Optax says with masks and labels, two optimizers with filters say here: `wrt` is their `freeze` and
/// `partition`.
#[test]
fn parts_of_a_model() {
    let fixture = optax();
    let cases: [(&str, Vec<(&str, Boxed)>); 3] = [
        ("freeze(a)", vec![("b", chain(()).boxed())]),
        ("selective_transform(sgd .1, freeze a)", vec![("b", sgd(0.1).boxed())]),
        (
            "partition(a:adam(.1),b:sgd(.1,.9))",
            vec![("a", adam(0.1).boxed()), ("b", sgd(0.1).momentum(0.9).boxed())],
        ),
    ];
    for (name, parts) in cases {
        let case = &fixture["transforms"][name];
        let mut params = Params::read(&fixture["meta"]["params"], DType::F64);
        let mut optimizers: Vec<_> = parts
            .into_iter()
            .map(|(part, transformation)| {
                Optimizer::new(transformation).wrt(path(part)).init(&params).unwrap()
            })
            .collect();
        for grads in fixture["meta"]["grads"].as_array().unwrap() {
            let grads = Params::read(grads, DType::F64);
            for optimizer in &mut optimizers {
                optimizer.update(&grads, &mut params).unwrap();
            }
        }
        let found: Vec<f64> = params.flatten().tensors().flat_map(values).collect();
        assert_close(&found, &numbers(&case["final_params"]), F64, name);
    }
}
