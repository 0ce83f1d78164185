//! The contracts of every optimizer: one table of transformations, one test for each contract.

#![allow(clippy::unwrap_used)]

mod in_place;
mod misuse;
mod numbers;
#[path = "../table/mod.rs"]
mod table;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use table::{all, descents};
use treex_core::{
    BatchStat, ErrorKind, KindTag, Leaf, Load, OptState, Parameter, Result, Rng, by, path, prelude::*,
};
use treex_optim::*;
use treex_testing::compare::{self, assert_close};
use treex_testing::{NO_ELEMENTS, Skips, device, is_skipped};

/// The simulated device takes milliseconds for each step.
const SKIPS: Skips = &[
    (
        "converges_on_a_parabola",
        "10,000 steps for each optimizer; its first steps are compared in other tests",
    ),
    (
        "converges_on_rosenbrock",
        "10,000 steps for each optimizer; its first steps are compared in other tests",
    ),
    ("half_precision_parameters_have_moments_in_f32", NO_ELEMENTS),
    ("moments_have_the_requested_type", NO_ELEMENTS),
];

/// Leaves of all sorts: only those from `x` to `empty` can be trained.
#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Model {
    x: Leaf<Parameter>,
    layers: Vec<Leaf<Parameter>>,
    kernel: Leaf<Parameter>,
    empty: Leaf<Parameter>,
    ids: Leaf<Parameter>,
    mean: Leaf<BatchStat>,
    key: Leaf<Rng>,
}

fn leaf<K: treex_core::Kind>(values: &[f64], dtype: DType) -> Leaf<K> {
    let values = Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    Leaf::new(values.to_device(device()).unwrap()).unwrap()
}

fn model(dtype: DType) -> Model {
    Model {
        x: leaf(&[-1., 10., 1.], dtype),
        layers: vec![leaf(&[2.], dtype), leaf(&[0.5, -0.25], dtype)],
        kernel: Leaf::new(
            leaf::<Parameter>(&[0.1, -0.2, 0.3, -0.4, 0.5, -0.6], dtype)
                .get()
                .unwrap()
                .reshape((3, 2))
                .unwrap(),
        )
        .unwrap(),
        empty: leaf(&[], dtype),
        ids: leaf(&[3., 1.], DType::I64),
        mean: leaf(&[0.5], dtype),
        key: leaf(&[1., 2.], DType::U32),
    }
}

/// Different at each step, and nowhere zero.
fn gradient(model: &Model, step: usize) -> Model {
    let mut value = 0.3 + step as f64;
    let grads = model.filter(Parameter & by(|leaf| leaf.dtype().is_some_and(|dtype| dtype.is_float())));
    grads
        .map(|leaf| {
            let values: Vec<f64> =
                (0..leaf.elem_count()).map(|index| (value + 0.7 * index as f64).sin() + 0.1).collect();
            value += 1.;
            let values = Tensor::from_vec(values, leaf.shape(), &Device::Cpu)?.to_dtype(leaf.dtype())?;
            Ok(values.to_device(device())?)
        })
        .unwrap()
}

fn train<T: GradientTransformation>(
    optimizer: &mut Optimizer<T>,
    model: &mut Model,
    steps: std::ops::Range<usize>,
) {
    for step in steps {
        step_with(optimizer, model, &gradient(model, step));
    }
}

/// One step, with a value of the loss for transformations that need it.
fn step_with<T: GradientTransformation>(optimizer: &mut Optimizer<T>, model: &mut Model, grads: &Model) {
    optimizer.update_with(grads, model, &Extra::value(3.)).unwrap();
}

fn values(leaf: &Leaf<Parameter>) -> Vec<f64> {
    leaf.get().unwrap().to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The names of the leaves of the state.
fn names(optimizer: &impl Tree) -> Vec<String> {
    optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect()
}

/// Minimizes a function, given with its gradient, from `start`, and returns the final point.
fn descend(
    transformation: Boxed,
    dtype: DType,
    start: &[f64],
    steps: usize,
    function: fn(&[f64]) -> (f64, Vec<f64>),
) -> Vec<f64> {
    let mut x: Leaf<Parameter> = leaf(start, dtype);
    let mut optimizer = Optimizer::new(transformation).init(&x).unwrap();
    for _ in 0..steps {
        let (value, grads) = function(&values(&x));
        optimizer.update_with(&leaf(&grads, dtype), &mut x, &Extra::value(value)).unwrap();
    }
    values(&x)
}

fn parabola(x: &[f64]) -> (f64, Vec<f64>) {
    let goal = [1., -1., 1.];
    let from: Vec<_> = x.iter().zip(goal).map(|(x, goal)| x - goal).collect();
    (from.iter().map(|x| x * x).sum(), from.iter().map(|x| 2. * x).collect())
}

fn rosenbrock(x: &[f64]) -> (f64, Vec<f64>) {
    let (far, valley) = (1. - x[0], x[1] - x[0] * x[0]);
    (far * far + 100. * valley * valley, vec![-2. * far - 400. * x[0] * valley, 200. * valley])
}

#[test]
fn converges_on_a_parabola() {
    if is_skipped(SKIPS, "converges_on_a_parabola") {
        return;
    }
    for (name, transformation, _) in descents() {
        for dtype in [DType::F32, DType::F64] {
            let found = descend(transformation.clone(), dtype, &[-1., 10., 1.], 10_000, parabola);
            assert_close(&found, &[1., -1., 1.], 3e-2, name);
        }
    }
}

#[test]
fn converges_on_rosenbrock() {
    if is_skipped(SKIPS, "converges_on_rosenbrock") {
        return;
    }
    for (name, transformation, steps) in descents() {
        for dtype in [DType::F32, DType::F64] {
            if let Some(steps) = steps {
                let found = descend(transformation.clone(), dtype, &[0., 0.], steps, rosenbrock);
                assert_close(&found, &[1., 1.], 3e-2, name);
            }
        }
    }
}

#[test]
fn resuming_from_a_saved_state_is_bit_identical() {
    let folder = tempfile::tempdir().unwrap();
    for (name, transformation) in all() {
        let mut whole = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&whole).unwrap();
        train(&mut optimizer, &mut whole, 0..3);
        optimizer.save(folder.path().join("optimizer")).unwrap();
        whole.save(folder.path().join("model")).unwrap();

        let mut resumed = model(DType::F32);
        let mut loaded = Optimizer::new(transformation).init(&resumed).unwrap();
        resumed.load(folder.path().join("model")).unwrap();
        loaded.load(folder.path().join("optimizer")).unwrap();
        assert_eq!(loaded.step_count().unwrap(), 3, "{name}");

        train(&mut optimizer, &mut whole, 3..6);
        train(&mut loaded, &mut resumed, 3..6);
        assert_eq!(whole, resumed, "{name}");
        assert_eq!(optimizer.flatten(), loaded.flatten(), "{name}");
    }
}

#[test]
fn every_leaf_of_an_optimizer_is_of_kind_opt_state() {
    for (name, transformation) in all() {
        let model = model(DType::F32);
        let optimizer = Optimizer::new(transformation).init(&model).unwrap();
        assert!(optimizer.leaves().iter().all(|(_, kind, _)| *kind == KindTag::of::<OptState>()), "{name}");
        assert_eq!(optimizer.filter(OptState).flatten(), optimizer.flatten(), "{name}");
        assert!(optimizer.initialized(), "{name}");
    }
}

#[test]
fn the_names_in_a_state() {
    let model = model(DType::F32);
    let expected = [
        "step",
        "state.0.count",
        "state.0.mu.x",
        "state.0.mu.layers.0",
        "state.0.mu.layers.1",
        "state.0.mu.kernel",
        "state.0.mu.empty",
        "state.0.nu.x",
        "state.0.nu.layers.0",
        "state.0.nu.layers.1",
        "state.0.nu.kernel",
        "state.0.nu.empty",
    ];
    assert_eq!(names(&Optimizer::new(adam(0.1)).init(&model).unwrap()), expected);
    assert_eq!(names(&Optimizer::new(adam(0.1).boxed()).init(&model).unwrap()), expected);
    let scheduled =
        Optimizer::new(sgd(cosine_decay(0.1, 9)).momentum(0.9)).wrt(path("x")).init(&model).unwrap();
    assert_eq!(names(&scheduled), ["step", "state.0.trace.x", "state.1.count"]);
    assert_eq!(names(&Optimizer::new(sgd(0.1)).init(&model).unwrap()), ["step"]);
}

/// Transformations without updates.
fn stands_still(name: &str) -> bool {
    name == "set_to_zero()"
}

#[test]
fn unselected_leaves_stay_bit_identical() {
    for (name, transformation) in all() {
        let before = model(DType::F32);
        let mut after = before.clone();
        let mut optimizer = Optimizer::new(transformation).wrt(path("layers.**")).init(&before).unwrap();
        let mut moved = [false; 2];
        for step in 0..5 {
            train(&mut optimizer, &mut after, step..step + 1);
            let layers = after.layers.iter().zip(&before.layers);
            moved.iter_mut().zip(layers).for_each(|(moved, (after, before))| *moved |= after != before);
        }
        assert!(names(&optimizer).iter().all(|name| !name.ends_with(".x")), "{name}");
        assert_eq!(after.filter(!path("layers.**")), before.filter(!path("layers.**")), "{name}");
        assert_eq!(moved, [!stands_still(name); 2], "{name}");
    }
}

#[test]
fn initialized_with_the_model_or_its_parameters_is_the_same() {
    for (name, transformation) in all() {
        let model = model(DType::F32);
        let whole = Optimizer::new(transformation.clone()).init(&model).unwrap();
        let parameters = Optimizer::new(transformation).init(&model.filter(Parameter)).unwrap();
        assert_eq!(whole.flatten(), parameters.flatten(), "{name}");
    }
}

#[test]
fn a_filtered_tree_is_updated_as_the_model_is() {
    for (name, transformation) in all() {
        let mut whole = model(DType::F32);
        let mut params = whole.filter(Parameter);
        let mut optimizer = Optimizer::new(transformation).init(&whole).unwrap();
        let mut other = optimizer.clone();
        train(&mut optimizer, &mut whole, 0..2);
        train(&mut other, &mut params, 0..2);
        assert_eq!(whole.filter(Parameter), params, "{name}");
        assert_eq!(optimizer.flatten(), other.flatten(), "{name}");
    }
}

#[test]
fn training_is_deterministic() {
    for (name, transformation) in all() {
        let run = || {
            let mut model = model(DType::F32);
            let mut optimizer = Optimizer::new(transformation.clone()).init(&model).unwrap();
            train(&mut optimizer, &mut model, 0..5);
            (model, optimizer.flatten())
        };
        assert!(run() == run(), "{name}");
    }
}

#[test]
fn clones_are_snapshots() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let (mut older_model, mut older_optimizer) = (model.clone(), optimizer.clone());
        let bits = |model: &Model, optimizer: &Optimizer<Boxed>| {
            let (model, optimizer) = (model.flatten(), optimizer.flatten());
            model.tensors().chain(optimizer.tensors()).map(compare::values).collect::<Vec<_>>()
        };
        let before = bits(&older_model, &older_optimizer);
        train(&mut optimizer, &mut model, 2..30);
        assert_eq!(bits(&older_model, &older_optimizer), before, "{name}");
        train(&mut older_optimizer, &mut older_model, 2..30);
        assert_eq!(older_model, model, "{name}");
        assert_eq!(older_optimizer.flatten(), optimizer.flatten(), "{name}");
    }
}

#[test]
fn a_missing_gradient_skips_its_leaf() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let (before, state) = (model.clone(), optimizer.filter(path("**.x")).flatten());
        for step in 2..5 {
            let grads = gradient(&model, step).filter(!path("x"));
            step_with(&mut optimizer, &mut model, &grads);
        }
        assert_eq!(model.x, before.x, "{name}");
        assert_eq!(optimizer.filter(path("**.x")).flatten(), state, "{name}");
        assert_eq!(model.layers == before.layers, stands_still(name), "{name}");
        assert_eq!(optimizer.step_count().unwrap(), 5, "{name}");
    }
}

/// Momentum continues, moments and weights decay where the gradient is zero.
#[test]
fn a_zero_gradient_is_a_step() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let state = |optimizer: &Optimizer<Boxed>| optimizer.filter(path("**.x")).flatten();
        let (before, state_before) = (model.x.clone(), state(&optimizer));
        let zeros = gradient(&model, 2).map(|leaf| Ok(leaf.zeros_like()?)).unwrap();
        step_with(&mut optimizer, &mut model, &zeros);
        // Sums are unchanged.
        let sums = ["scale_by_rss", "adagrad", "apply_every", "zero_nans"];
        let has_moments =
            state_before.tensors().next().is_some() && !sums.iter().any(|sum| name.starts_with(sum));
        if has_moments || name == "add_decayed_weights(.1)" {
            assert!(model.x != before || state(&optimizer) != state_before, "{name}");
        }
    }
}

#[test]
fn a_functional_update_leaves_its_inputs_unchanged() {
    for (name, transformation) in all() {
        let mut trained = model(DType::F32);
        let params = trained.filter(Parameter);
        let mut optimizer = Optimizer::new(transformation).init(&params).unwrap();
        let mut other = optimizer.clone();
        let grads = gradient(&trained, 0);
        let mut new = params.clone();
        step_with(&mut optimizer, &mut new, &grads);
        assert_eq!(params, model(DType::F32).filter(Parameter), "{name}");
        step_with(&mut other, &mut trained, &grads);
        assert_eq!(new, trained.filter(Parameter), "{name}");
    }
}
