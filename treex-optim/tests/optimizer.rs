//! What every optimizer promises: one table of transformations, one test for each promise.

#![allow(clippy::unwrap_used)]

mod table;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use table::{all, descents};
use treex_core::{
    BatchStat, ErrorKind, KindTag, Leaf, Load, OptState, Parameter, Result, Rng, by, path, prelude::*,
};
use treex_optim::*;

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
    Leaf::new(Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
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
            Ok(Tensor::from_vec(values, leaf.shape(), &Device::Cpu)?.to_dtype(leaf.dtype())?)
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

/// One step, with a value of the loss for those who ask for it.
fn step_with<T: GradientTransformation>(optimizer: &mut Optimizer<T>, model: &mut Model, grads: &Model) {
    optimizer.update_with(grads, model, &Extra::value(3.)).unwrap();
}

fn values(leaf: &Leaf<Parameter>) -> Vec<f64> {
    leaf.get().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The names of the leaves that the state has.
fn names(optimizer: &impl Tree) -> Vec<String> {
    optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect()
}

/// Goes downhill from `start` on a function that is given with its gradient, and returns where it ends.
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

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance, "{what}: {found:?} is not {expected:?}");
    }
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
    for (name, transformation, _) in descents() {
        for dtype in [DType::F32, DType::F64] {
            let found = descend(transformation.clone(), dtype, &[-1., 10., 1.], 10_000, parabola);
            assert_close(&found, &[1., -1., 1.], 3e-2, name);
        }
    }
}

#[test]
fn converges_on_rosenbrock() {
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
fn saved_loaded_and_continued_is_not_interrupted() {
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
        assert_eq!(loaded.step().unwrap(), 3, "{name}");

        train(&mut optimizer, &mut whole, 3..6);
        train(&mut loaded, &mut resumed, 3..6);
        assert_eq!(whole, resumed, "{name}");
        assert_eq!(optimizer.flatten(), loaded.flatten(), "{name}");
    }
}

#[test]
fn every_leaf_of_an_optimizer_is_its_state() {
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

/// What gives no updates.
fn stands_still(name: &str) -> bool {
    name == "set_to_zero()"
}

#[test]
fn what_was_not_selected_stays_bit_for_bit() {
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
fn the_same_again_gives_the_same_bits() {
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
            let copy =
                |leaf: &Tensor| leaf.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let leaves: Vec<Vec<f64>> =
                model.flatten().tensors().chain(optimizer.flatten().tensors()).map(copy).collect();
            leaves
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
        assert_eq!(optimizer.step().unwrap(), 5, "{name}");
    }
}

/// Momentum coasts, moments fade and weights decay where the gradient is zero.
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
        // Sums stay as they are.
        let sums = ["scale_by_rss", "adagrad", "apply_every", "zero_nans"];
        let has_moments =
            state_before.tensors().next().is_some() && !sums.iter().any(|sum| name.starts_with(sum));
        if has_moments || name == "add_decayed_weights(.1)" {
            assert!(model.x != before || state(&optimizer) != state_before, "{name}");
        }
    }
}

#[test]
fn a_functional_update_leaves_what_it_got() {
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

/// Where the leaf's numbers lie in memory.
fn address(leaf: &Leaf<Parameter>) -> usize {
    let tensor = leaf.get().unwrap();
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr().addr(),
        _ => panic!("an f32 tensor on the CPU"),
    }
}

#[test]
fn a_tree_that_nobody_else_holds_is_written_in_place() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        let before = [address(&model.x), address(&model.layers[1])];
        train(&mut optimizer, &mut model, 0..30);
        assert_eq!([address(&model.x), address(&model.layers[1])], before, "{name}");
        let snapshot = model.clone();
        train(&mut optimizer, &mut model, 30..31);
        assert_ne!(address(&model.x), before[0], "{name}");
        assert_eq!(address(&snapshot.x), before[0], "{name}");
    }
}

/// The gradient's closure is over, so the model is held once again.
#[test]
fn a_training_step_writes_in_place() -> Result<()> {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model)?;
    let before = address(&model.x);
    for _ in 0..10 {
        let (_, grads) = model.value_and_grad(path("x"), |model| Ok(model.x.get()?.sqr()?.sum_all()?))?;
        optimizer.update(&grads, &mut model)?;
    }
    assert_eq!(address(&model.x), before);
    Ok(())
}

/// Gradients come as views, of a transposed product for instance.
#[test]
fn a_gradient_may_be_a_view() {
    for (name, transformation) in all() {
        let whole = Tensor::arange(0f32, 6., &Device::Cpu)
            .unwrap()
            .affine(0.3, -0.8)
            .unwrap()
            .reshape((3, 2))
            .unwrap();
        let view = whole.t().unwrap();
        let copy = view.contiguous().unwrap();
        let train = |gradient: &Tensor| {
            let mut w: Vec<Leaf<Parameter>> =
                vec![Leaf::new(Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap()];
            let mut optimizer = Optimizer::new(transformation.clone()).init(&w).unwrap();
            let lent = w.flatten().apply(|_| Ok(gradient.clone())).unwrap();
            let grads = w.unflatten(&lent).unwrap();
            for _ in 0..3 {
                optimizer.update_with(&grads, &mut w, &Extra::value(3.)).unwrap();
            }
            (w, optimizer.flatten())
        };
        assert!(train(&view) == train(&copy), "{name}");
    }
}

/// Gradients in the memory of a state that is written in the same step, each in that of the other leaf.
#[test]
fn what_is_read_may_be_what_another_leaf_writes() {
    for len in [3, 100_000] {
        let of =
            |value: f32| Leaf::<Parameter>::new(Tensor::full(value, len, &Device::Cpu).unwrap()).unwrap();
        let params = vec![of(0.), of(0.)].flatten();
        let transformation = trace(0.5);
        let mut state = transformation.init(&params).unwrap();
        state.trace.store(&vec![of(1.), of(2.)].flatten()).unwrap();
        let crossed = state.trace.rebuild(|index| Ok(state.trace.get(1 - index).cloned())).unwrap();
        let found = transformation.updates(crossed, &mut state, &params, &Extra::default()).unwrap();
        for (index, expected) in [2.5, 2.].into_iter().enumerate() {
            for leaves in [&found, &state.trace] {
                let found = leaves.get(index).unwrap().to_vec1::<f32>().unwrap();
                assert!(
                    found.iter().all(|x| *x == expected),
                    "{len} elements: {} is not {expected}",
                    found[0]
                );
            }
        }
    }
}

/// Leaves that threads share, and those of which a thread gets many, against operations on whole tensors.
#[test]
fn leaves_of_all_sizes_step_as_whole_tensors_do() {
    // A rounding of f32 at the size of the parameters; of bf16, a step of the smallest difference there.
    for (dtype, tolerance) in [(DType::F32, 3e-7), (DType::F64, 1e-12), (DType::BF16, 8e-3)] {
        let sizes = [1, 100_000, 0, 70_001, 31, 32, 33, 1024, 1025];
        let part = |salt: f64| -> Vec<Leaf<Parameter>> {
            let value = |i: usize, size: usize| (i as f64 * 0.37 + size as f64 + salt).sin();
            sizes
                .iter()
                .map(|&size| leaf(&(0..size).map(|i| value(i, size)).collect::<Vec<_>>(), dtype))
                .collect()
        };
        let (start, grads) = (part(0.), part(1.));
        let train = || {
            let mut model = start.clone();
            let transformation = chain((clip_by_global_norm(1.), adamw(1e-2).weight_decay(0.1)));
            let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
            for _ in 0..3 {
                optimizer.update(&grads, &mut model).unwrap();
            }
            model
        };
        let (fast, plain) = (train(), treex_core::compute::with_plain(train));
        for ((fast, plain), start) in fast.iter().zip(&plain).zip(&start) {
            assert_close(&values(fast), &values(plain), tolerance, dtype.as_str());
            assert!(fast != start || values(fast).is_empty());
        }
    }
}

/// What `attempt` reports, after which model and optimizer must be as they were.
#[track_caller]
fn refused<T: GradientTransformation>(
    optimizer: &mut Optimizer<T>,
    model: &mut Model,
    attempt: impl FnOnce(&mut Optimizer<T>, &mut Model) -> Result<()>,
) -> treex_core::Error {
    let (model_before, state_before) = (model.clone(), optimizer.clone());
    let error = attempt(optimizer, model).unwrap_err();
    assert_eq!(*model, model_before);
    assert_eq!(optimizer.flatten(), state_before.flatten());
    error
}

#[test]
fn another_structure_is_refused() {
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let grads = gradient(&model, 2);

        let mut longer = model.clone();
        longer.layers.push(leaf(&[1.], DType::F32));
        let error =
            refused(&mut optimizer, &mut longer, |optimizer, longer| optimizer.update(&grads, longer));
        assert_eq!(error.kind(), ErrorKind::Structure, "{name}");
        let text = "the model has another structure, from leaf 3 on at `kernel`: expected `kernel` of kind `Parameter`, \
                    found `layers.2` of kind `Parameter`; pass the model that the optimizer was initialized with, or \
                    a filtered tree of it; after surgery, initialize the optimizer again";
        assert_eq!(error.to_string(), text);

        let longer_grads = gradient(&longer, 2);
        let error =
            refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&longer_grads, model));
        assert!(
            error.to_string().starts_with("the gradient has another structure, from leaf 3 on at `kernel`"),
            "{error}"
        );

        let mut wider = model.clone();
        wider.layers[1] = leaf(&[1., 2., 3.], DType::F32);
        let error = refused(&mut optimizer, &mut wider, |optimizer, wider| optimizer.update(&grads, wider));
        let text = "a leaf of the model has another shape than at the optimizer's `init` at `layers.1`: expected [2], \
                    found [3]; a changed model needs an optimizer that is initialized with it";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Shape, text.to_owned()), "{name}");

        let wider_grads = gradient(&wider, 2);
        let error =
            refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&wider_grads, model));
        assert!(error.to_string().starts_with("a leaf of the gradient has another shape"), "{error}");

        let mut without = model.filter(!path("x"));
        let error =
            refused(&mut optimizer, &mut without, |optimizer, without| optimizer.update(&grads, without));
        let text = "a leaf has a gradient, and the model has no value for it at `x`; update the whole model, or filter \
                    the gradient in the same way";
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FilteredOut, text.to_owned()), "{name}");
    }
}

#[test]
fn a_state_that_was_taken_apart_is_refused() {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    train(&mut optimizer, &mut model, 0..2);
    let grads = gradient(&model, 2);
    let mut without = optimizer.filter(!path("state.0.nu.x"));
    let error = refused(&mut without, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "the state holds nothing for a parameter that has a gradient at `x`; `init` with the model that is \
                trained, and update with the whole state";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::FilteredOut, text.to_owned()));
}

#[test]
fn the_state_of_another_optimizer_is_not_loaded() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let model = model(DType::F32);
    Optimizer::new(sgd(0.1).momentum(0.9)).init(&model).unwrap().save(file.path()).unwrap();
    let mut optimizer = Optimizer::new(adam(0.1)).init(&model).unwrap();
    let before = optimizer.flatten();
    let error = optimizer.load(file.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("state.0.count"), "{error}");
    assert!(optimizer.load_with(file.path(), &Load::strict().allow_missing(OptState)).is_err());
    assert_eq!(optimizer.flatten(), before);
}

#[test]
fn what_was_not_initialized_is_refused() {
    let mut model = model(DType::F32);
    let grads = gradient(&model, 0);
    let mut optimizer = Optimizer::new(adam(0.1));
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "the optimizer has no state yet; call `let mut optimizer = optimizer.init(&model)?` first";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Uninitialized, text.to_owned()));
    assert_eq!(optimizer.step().unwrap_err().kind(), ErrorKind::Uninitialized);
    assert_eq!(optimizer.learning_rate().unwrap_err().kind(), ErrorKind::Uninitialized);

    let unfilled = Model {
        x: Leaf::param(|_, shape, dtype| Ok(Tensor::zeros(shape, dtype, &Device::Cpu)?), 3, DType::F32),
        ..model
    };
    let error = Optimizer::new(adam(0.1)).init(&unfilled).unwrap_err();
    let text = "a leaf of kind `Parameter` has no value yet, so it cannot be trained at `x`; call `let model = \
                model.init(seed, &device)?` before the optimizer's `init`";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Uninitialized, text.to_owned()));
    assert!(Optimizer::new(adam(0.1)).wrt(path("layers.**")).init(&unfilled).is_ok());
}

#[test]
fn nothing_to_train_is_an_error() {
    let model = model(DType::F32);
    for nothing in [path("nowhere"), path("ids"), path("mean")] {
        let error = Optimizer::new(adam(0.1)).wrt(nothing).init(&model).unwrap_err();
        assert!(error.to_string().starts_with("nothing to train: `path("), "{error}");
    }
}

#[test]
fn rates_that_are_no_numbers_are_refused() {
    let mut model = model(DType::F32);
    for rate in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY] {
        let error = Optimizer::new(adam(rate)).init(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("expected a finite number"), "{error}");
        assert!(Optimizer::new(sgd(rate)).init(&model).is_err());
        assert!(Optimizer::new(chain((scale(rate),))).init(&model).is_err());
        assert!(Optimizer::new(adamw(0.1).weight_decay(rate)).init(&model).is_err());
    }
    let broken = Schedule::new("broken", |count| if count < 2 { 0.1 } else { f64::NAN });
    let mut optimizer = Optimizer::new(adam(broken)).init(&model).unwrap();
    train(&mut optimizer, &mut model, 0..2);
    let grads = gradient(&model, 2);
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "`learning_rate` is `broken`, which is no number to step by at step 2: expected a finite number, found \
                NaN; correct the schedule; steps are counted from 0";
    assert_eq!(error.to_string(), text);
    assert!(optimizer.learning_rate().is_err());
}

#[test]
fn options_outside_of_what_they_may_be_are_refused() {
    let model = model(DType::F32);
    let nan = f64::NAN;
    let wrong = [
        adam(0.1).b1(1.).boxed(),
        adam(0.1).mu_dtype(DType::I64).boxed(),
        adabelief(0.1).eps(-1.).boxed(),
        adabelief(0.1).eps_root(nan).boxed(),
        adabelief(0.1).weight_decay(nan).boxed(),
        adadelta(0.1).rho(1.).boxed(),
        adadelta(0.1).eps(-1.).boxed(),
        adafactor(0.1).decay_rate(nan).boxed(),
        adafactor(0.1).eps(-1.).boxed(),
        adafactor(0.1).clipping_threshold(0.).boxed(),
        adafactor(0.1).momentum(-0.1).boxed(),
        adafactor(0.1).dtype_momentum(Some(DType::U8)).boxed(),
        adafactor(0.1).weight_decay_rate(nan).boxed(),
        adagrad(0.1).initial_accumulator_value(-1.).boxed(),
        adagrad(0.1).eps(nan).boxed(),
        adamax(0.1).b1(-0.1).boxed(),
        adamax(0.1).b2(nan).boxed(),
        adamaxw(0.1).eps(-1.).boxed(),
        adan(0.1).b1(1.).boxed(),
        adan(0.1).b2(1.).boxed(),
        adan(0.1).b3(1.).boxed(),
        adan(0.1).eps(nan).boxed(),
        adan(0.1).eps_root(-1.).boxed(),
        amsgrad(0.1).b2(1.).boxed(),
        amsgrad(0.1).eps(-1.).boxed(),
        amsgrad(0.1).mu_dtype(DType::U32).boxed(),
        fromage(0.1).min_norm(-1.).boxed(),
        fromage(nan).boxed(),
        lamb(0.1).b1(2.).boxed(),
        lars(0.1).trust_coefficient(nan).boxed(),
        lars(0.1).eps(-1.).boxed(),
        lars(0.1).momentum(nan).boxed(),
        lion(0.1).b1(1.).boxed(),
        lion(0.1).b2(-0.1).boxed(),
        lion(0.1).smooth_beta(nan).boxed(),
        lion(0.1).mu_dtype(DType::I64).boxed(),
        noisy_sgd(0.1, 0).eta(-1.).boxed(),
        noisy_sgd(0.1, 0).gamma(nan).boxed(),
        novograd(0.1).b1(1.).boxed(),
        novograd(0.1).b2(nan).boxed(),
        novograd(0.1).weight_decay(nan).boxed(),
        optimistic_adam(nan).boxed(),
        optimistic_gradient_descent(0.1).beta(nan).boxed(),
        polyak_sgd().f_min(nan).boxed(),
        polyak_sgd().max_learning_rate(f64::INFINITY).boxed(),
        polyak_sgd().eps(-1.).boxed(),
        radam(0.1).b1(1.).boxed(),
        radam(0.1).threshold(3.9).boxed(),
        rmsprop(0.1).decay(1.).boxed(),
        rmsprop(0.1).initial_scale(-1.).boxed(),
        rmsprop(0.1).eps(nan).boxed(),
        rprop(-0.1).boxed(),
        rprop(0.1).eta_minus(nan).boxed(),
        rprop(0.1).eta_plus(-1.).boxed(),
        rprop(0.1).min_step_size(-1.).boxed(),
        rprop(0.1).min_step_size(2.).max_step_size(1.).boxed(),
        sgd(0.1).momentum(0.9).accumulator_dtype(DType::I64).boxed(),
        sign_sgd(nan).boxed(),
        signum(0.1).beta(1.).boxed(),
        sm3(0.1).momentum(1.).boxed(),
        scale_by_sm3().b2(1.1).boxed(),
        scale_by_sm3().eps(nan).boxed(),
        yogi(0.1).b1(1.).boxed(),
        yogi(0.1).initial_accumulator_value(nan).boxed(),
        adaptive_grad_clip(-1.).boxed(),
        adaptive_grad_clip(0.1).eps(nan).boxed(),
        apply_every(0).boxed(),
        clip(-1.).boxed(),
        clip_by_block_rms(nan).boxed(),
        normalize_by_update_norm().scale_factor(nan).boxed(),
        normalize_by_update_norm().eps(-1.).boxed(),
        scale_by_distance_over_gradients().reps_rel(-1.).boxed(),
        scale_by_distance_over_gradients().global_scale(nan).boxed(),
        scale_by_distance_over_gradients().param_dtype(DType::I64).boxed(),
        scale_by_factored_rms().decay_rate_fn(nan).boxed(),
        scale_by_param_block_norm().min_scale(-1.).boxed(),
        scale_by_param_block_rms().min_scale(nan).boxed(),
        adam(0.1).b2(-0.1).boxed(),
        adam(0.1).eps(f64::NAN).boxed(),
        adam(0.1).eps_root(-1.).boxed(),
        sgd(0.1).momentum(f64::NAN).boxed(),
        clip_by_global_norm(-1.).boxed(),
        sgd(cosine_decay(0.1, 0)).boxed(),
    ];
    for transformation in wrong {
        assert_eq!(Optimizer::new(transformation).init(&model).unwrap_err().kind(), ErrorKind::Argument);
    }
    let error = Optimizer::new(adamw(warmup_cosine(1e-3, 100, 100))).init(&model).unwrap_err();
    let text = "`decay_steps` of `warmup_cosine(0.001, 100, 100)` is too small: expected more than 100, found 100; \
                `decay_steps` counts every step up to the end, those of the warm-up too";
    assert_eq!(error.to_string(), text);
}

/// Without one there is no step, and nothing is written.
#[test]
fn polyak_asks_for_the_value_of_the_loss() {
    let mut model = model(DType::F32);
    let mut optimizer = Optimizer::new(polyak_sgd()).init(&model).unwrap();
    let grads = gradient(&model, 0);
    let error = refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&grads, model));
    let text = "Polyak's step size needs the value of the loss; call `optimizer.update_with(&grads, &mut model, \
                &Extra::value(loss))`";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Argument, text.to_owned()));
}

/// Only what is kept is rounded.
#[test]
fn moments_are_kept_in_the_type_that_is_asked_for() {
    let half = DType::BF16;
    let cases = [
        (adam(0.1).mu_dtype(half).boxed(), "**.mu.x"),
        (adamw(0.1).mu_dtype(half).boxed(), "**.mu.x"),
        (amsgrad(0.1).mu_dtype(half).boxed(), "**.mu.x"),
        (lion(0.1).mu_dtype(half).boxed(), "**.mu.x"),
        (novograd(0.1).mu_dtype(half).boxed(), "**.mu.x"),
        (sgd(0.1).momentum(0.9).accumulator_dtype(half).boxed(), "**.trace.x"),
        (signum(0.1).accumulator_dtype(half).boxed(), "**.ema.x"),
        (adafactor(0.1).momentum(0.9).dtype_momentum(half).boxed(), "**.ema.x"),
        (scale_by_distance_over_gradients().param_dtype(half).boxed(), "**.init_params.x"),
    ];
    for (transformation, glob) in cases {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..3);
        let kept = optimizer.filter(path(glob)).flatten();
        let types: Vec<_> = kept.tensors().map(Tensor::dtype).collect();
        assert_eq!(types, [DType::BF16], "{transformation:?}");
    }
    // The first update of momentum is the gradient, whatever is kept of it.
    let x: Leaf<Parameter> = leaf(&[0.1], DType::F32);
    let momentum = trace(0.9).accumulator_dtype(half);
    let mut state = momentum.init(&x.flatten()).unwrap();
    let updates = momentum.updates(x.flatten(), &mut state, &x.flatten(), &Extra::default()).unwrap();
    assert_eq!(updates.tensors().next().unwrap().to_vec1::<f32>().unwrap(), [0.1]);
}

#[test]
fn the_learning_rate_is_that_of_the_next_step() {
    let mut model = model(DType::F32);
    let clipped = chain((clip_by_global_norm(1.), adamw(warmup_cosine(0.1, 2, 10))));
    let mut optimizer = Optimizer::new(clipped.boxed()).init(&model).unwrap();
    for expected in [0., 0.05, 0.1] {
        assert_eq!(optimizer.learning_rate().unwrap(), Some(expected));
        let before = model.x.clone();
        train(&mut optimizer, &mut model, 0..1);
        assert_eq!(model.x == before, expected == 0.);
    }
    let without = Optimizer::new(scale_by_adam()).init(&model).unwrap();
    assert_eq!(without.learning_rate().unwrap(), None);
}

/// In bf16, 0.999 is 1 and a moment never fades; so the moments are f32, and so is the arithmetic.
#[test]
fn half_precision_parameters_have_moments_in_f32() {
    for (name, transformation) in all() {
        let (mut half, mut single) = (model(DType::BF16), model(DType::BF16));
        single.to_dtype(DType::F32).unwrap();
        let mut of_half = Optimizer::new(transformation.clone()).init(&half).unwrap();
        let mut of_single = Optimizer::new(transformation).init(&single).unwrap();
        for step in 0..3 {
            let grads = gradient(&half, step);
            let mut same = grads.clone();
            same.to_dtype(DType::F32).unwrap();
            step_with(&mut of_half, &mut half, &grads);
            step_with(&mut of_single, &mut single, &same);
        }
        assert_eq!(half.x.dtype(), Some(DType::BF16), "{name}");
        let types: Vec<_> = of_half.leaves().iter().filter_map(|(_, _, leaf)| leaf.dtype()).collect();
        // Beside the moments there are counts, keys and whether there were NaN.
        let expected = [DType::F32, DType::I64, DType::U32, DType::U8];
        assert!(types.iter().all(|dtype| expected.contains(dtype)), "{name}: {types:?}");
        // Three roundings of parameters to 8 bits, each by half a unit.
        let largest = values(&single.x).iter().fold(10f64, |largest, x| largest.max(x.abs()));
        assert_close(&values(&half.x), &values(&single.x), 3. * largest / 256., name);
    }
    let mut x: Leaf<Parameter> = leaf(&[1.], DType::BF16);
    let mut optimizer = Optimizer::new(scale_by_adam()).init(&x).unwrap();
    for gradient in [1., 0.] {
        for _ in 0..100 {
            optimizer.update(&leaf(&[gradient], DType::BF16), &mut x).unwrap();
        }
    }
    let nu = optimizer.filter(path("state.nu.**")).flatten();
    let nu: Vec<f32> = nu.tensors().next().unwrap().to_vec1().unwrap();
    let expected = (1. - 0.999f64.powi(100)) * 0.999f64.powi(100);
    assert!((f64::from(nu[0]) - expected).abs() < 1e-6, "{nu:?} {expected}");
}

/// An optimizer is a field like any other.
#[test]
fn a_training_is_one_tree() {
    #[derive(Clone, TreeObject)]
    struct Training {
        model: Model,
        optimizer: Optimizer<Adam>,
    }

    let file = tempfile::NamedTempFile::new().unwrap();
    let start = || {
        let model = model(DType::F32);
        Training { optimizer: Optimizer::new(adam(0.1)).init(&model).unwrap(), model }
    };
    let mut training = start();
    train(&mut training.optimizer, &mut training.model, 0..3);
    training.save(file.path()).unwrap();
    let mut resumed = start();
    resumed.load(file.path()).unwrap();
    assert_eq!(resumed.flatten(), training.flatten());
    assert!(names(&training).contains(&"optimizer.state.0.nu.layers.1".to_owned()));
    assert!(training.tabulate().contains("Optimizer"));
}

#[test]
fn one_plan_serves_any_type_with_these_leaves() {
    let mut pair: (Leaf<Parameter>, Leaf<Parameter>) = (leaf(&[1.], DType::F32), leaf(&[2., 3.], DType::F32));
    let mut optimizer = Optimizer::new(sgd(1.)).init(&pair).unwrap();
    let mut list = vec![leaf::<Parameter>(&[1.], DType::F32), leaf(&[2., 3.], DType::F32)];
    optimizer.update(&pair.clone(), &mut pair).unwrap();
    optimizer.update(&list.clone(), &mut list).unwrap();
    assert_eq!(values(&pair.1), [0., 0.]);
    assert_eq!(values(&list[0]), [0.]);
}

#[test]
fn the_global_norm_is_summed_wide() {
    // 20 million numbers of 1e-3 in f32: their squares sum to 20, which f32 alone misses by 0.7 %.
    let many = Leaf::<Parameter>::new(Tensor::full(1e-3f32, 20_000_000, &Device::Cpu).unwrap()).unwrap();
    assert!((global_norm(&many).unwrap() / 20f64.sqrt() - 1.).abs() < 1e-6);
    let ones = Leaf::<Parameter>::new(Tensor::ones(100_000, DType::BF16, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(global_norm(&ones).unwrap(), 100_000f64.sqrt());
    let mixed = (
        leaf::<Parameter>(&[3.], DType::F32),
        leaf::<Parameter>(&[4.], DType::F64),
        leaf::<Parameter>(&[], DType::F32),
    );
    assert_eq!(global_norm(&mixed).unwrap(), 5.);
    assert_eq!(global_norm(&mixed.filter(OptState)).unwrap(), 0.);
}

/// As in Optax: nothing is hidden.
#[test]
fn clipping_shows_what_is_not_a_number() {
    let clip = |values: &[f64], max_norm: f64| -> Vec<f64> {
        let leaf: Leaf<Parameter> = leaf(values, DType::F64);
        let transformation = clip_by_global_norm(max_norm);
        transformation.init(&leaf.flatten()).unwrap();
        let clipped =
            transformation.updates(leaf.flatten(), &mut (), &leaf.flatten(), &Default::default()).unwrap();
        clipped.get(0).unwrap().to_vec1().unwrap()
    };
    assert_eq!(clip(&[3., 4.], 5.5), [3., 4.]);
    assert_close(&clip(&[3., 4.], 1.), &[0.6, 0.8], 1e-15, "clipped");
    assert!(clip(&[f64::NAN, 1.], 1.).iter().all(|value| value.is_nan()));
    let infinite = clip(&[f64::INFINITY, 1.], 1.);
    assert!(infinite[0].is_nan() && infinite[1] == 0.);
    assert!(clip(&[0., 0.], 0.).iter().all(|value| value.is_nan()));
}
