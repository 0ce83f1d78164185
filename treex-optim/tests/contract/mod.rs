//! Shared by the tests of combinators and contributed optimizers: Optax's numbers, and their contracts.

#![allow(dead_code)] // each of them needs a part

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::autograd::with_reference;
use treex_core::{Leaf, Leaves, Parameter, path, prelude::*};
use treex_optim::engine::Updates;
use treex_optim::{Boxed, Extra, GradientTransformation, Optimizer};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{numbers, tensor};

/// Optax sums in f64 in another order than Candle; nothing else differs.
pub(crate) const F64: f64 = 1e-10;

#[derive(Clone, Debug, PartialEq, TreeObject)]
pub(crate) struct Params {
    pub(crate) a: Leaf<Parameter>,
    pub(crate) b: Leaf<Parameter>,
}

impl Params {
    pub(crate) fn read(leaves: &Value, dtype: DType) -> Self {
        let leaf = |index: usize| Leaf::new(tensor(&leaves[index]).to_dtype(dtype).unwrap()).unwrap();
        Self { a: leaf(0), b: leaf(1) }
    }
}

/// What Optax computed beyond that: `fixtures/contrib.json`, written by `fixtures/contrib.py`.
pub(crate) fn contrib() -> Value {
    fixture!("contrib.json")
}

/// The gradients of a step, with a NaN or an infinity if the case has one.
fn gradients(meta: &Value, case: &Value, step: usize) -> Params {
    let mut grads = Params::read(&meta["grads"][step], DType::F64);
    let broken =
        case["broken"].as_array().is_some_and(|steps| steps.iter().any(|s| s.as_u64() == Some(step as u64)));
    if broken {
        let mut b = values(&grads.b.get().unwrap());
        b[1] = f64::NAN;
        grads.b = Leaf::new(Tensor::new(b, device()).unwrap()).unwrap();
    }
    grads
}

/// The loss of the fixture at a step.
pub(crate) fn extra<'e>(step: usize) -> Extra<'e> {
    Extra::value(3. - 0.3 * step as f64)
}

/// The numbers of updates, zeros where there is none.
pub(crate) fn update_values(updates: &Leaves, params: &Leaves) -> Vec<f64> {
    let at = |index: usize| match updates.get(index) {
        Some(update) => values(update),
        None => vec![0.; params.get(index).unwrap().elem_count()],
    };
    (0..updates.len()).flat_map(at).collect()
}

/// The updates of each step, and the parameters after the last one, are those of a case.
pub(crate) fn assert_golden(meta: &Value, case: &Value, name: &str, transformation: &Boxed, tolerance: f64) {
    assert!(case.is_object(), "there is no case `{name}` in the fixture");
    let mut params = Params::read(&meta["params"], DType::F64);
    let mut through_optimizer = params.clone();
    let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
    let mut state = transformation.init(&params.flatten()).unwrap();
    for step in 0..meta["grads"].as_array().unwrap().len() {
        let grads = gradients(meta, case, step);
        let flat = params.flatten();
        let updates = Updates::new(grads.flatten(), flat.clone()).with_extra(extra(step));
        let updates = transformation.update(updates, &mut state).unwrap().compute().unwrap();
        let expected = numbers(&case["updates"][step]);
        assert_close(
            &update_values(&updates, &flat),
            &expected,
            tolerance,
            &format!("{name}, updates {step}"),
        );
        let added = flat.combine(&updates, |p, u| Ok((p + u)?)).unwrap();
        params = params.updated(&params.unflatten(&added).unwrap()).unwrap();
        optimizer.update_with(&grads, &mut through_optimizer, &extra(step)).unwrap();
    }
    let expected = numbers(&case["final_params"]);
    assert_close(
        &tree_values(&through_optimizer),
        &expected,
        tolerance,
        &format!("{name}, final parameters"),
    );
    assert_eq!(optimizer.step_count().unwrap(), meta["grads"].as_array().unwrap().len() as u64);
}

fn train(optimizer: &mut Optimizer<Boxed>, params: &mut Params, meta: &Value, steps: std::ops::Range<usize>) {
    for step in steps {
        let dtype = params.a.dtype().unwrap();
        let grads = Params::read(&meta["grads"][step], dtype);
        optimizer.update_with(&grads, params, &extra(step)).unwrap();
    }
}

/// The loops over memory and operations on tensors agree.
pub(crate) fn assert_as_plain(
    meta: &Value,
    name: &str,
    transformation: &Boxed,
    dtype: DType,
    tolerance: f64,
) {
    let run = || {
        let mut params = Params::read(&meta["params"], dtype);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        train(&mut optimizer, &mut params, meta, 0..6);
        [tree_values(&params), tree_values(&optimizer)].concat()
    };
    assert_close(&run(), &with_reference(run), tolerance, &format!("{name}, against plain operations"));
}

/// Saved after some steps, loaded and continued, the bits are those of a training that was not interrupted.
pub(crate) fn assert_resumes(meta: &Value, name: &str, transformation: &Boxed) {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let mut whole = Params::read(&meta["params"], dtype);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&whole).unwrap();
        train(&mut optimizer, &mut whole, meta, 0..4);
        optimizer.save(folder.path().join("optimizer")).unwrap();
        whole.save(folder.path().join("model")).unwrap();

        let mut resumed = Params::read(&meta["params"], dtype);
        let mut loaded = Optimizer::new(transformation.clone()).init(&resumed).unwrap();
        resumed.load(folder.path().join("model")).unwrap();
        loaded.load(folder.path().join("optimizer")).unwrap();
        train(&mut optimizer, &mut whole, meta, 4..6);
        train(&mut loaded, &mut resumed, meta, 4..6);
        assert_eq!(whole, resumed, "{name} {dtype:?}");
        assert_eq!(optimizer.flatten(), loaded.flatten(), "{name} {dtype:?}");
    }
}

/// A leaf without a gradient is unchanged, with its part of the state.
pub(crate) fn assert_skips_missing(meta: &Value, name: &str, transformation: &Boxed) {
    let mut params = Params::read(&meta["params"], DType::F32);
    let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
    train(&mut optimizer, &mut params, meta, 0..2);
    // The start of an ascent is stored for every leaf.
    let own = || path("**.b") & !path("**.cache.**");
    let (before, state) = (params.clone(), optimizer.filter(own()).flatten());
    let copy = |leaves: &Leaves| leaves.tensors().map(values).collect::<Vec<_>>();
    let state_values = copy(&state);
    for step in 2..6 {
        let grads = Params::read(&meta["grads"][step], DType::F32).filter(path("a"));
        optimizer.update_with(&grads, &mut params, &extra(step)).unwrap();
    }
    assert_eq!(params.b, before.b, "{name}");
    assert_eq!(copy(&optimizer.filter(own()).flatten()), state_values, "{name}");
    assert_eq!(optimizer.step_count().unwrap(), 6, "{name}");
}

/// All contracts but Optax's numbers.
pub(crate) fn assert_contracts(meta: &Value, name: &str, transformation: &Boxed) {
    assert_as_plain(meta, name, transformation, DType::F64, 1e-12);
    // Two ways to round in f32, over six steps of numbers around 1.
    assert_as_plain(meta, name, transformation, DType::F32, 2e-5);
    assert_resumes(meta, name, transformation);
    assert_skips_missing(meta, name, transformation);
}

/// A scalar NaN.
pub(crate) fn nan_like(tensor: &Tensor) -> Tensor {
    (tensor * f64::NAN).unwrap()
}
