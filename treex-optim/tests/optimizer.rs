//! What every optimizer promises: one table of transformations, one test for each promise.

#![allow(clippy::unwrap_used)]

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use treex_core::{
    BatchStat, ErrorKind, KindTag, Leaf, Load, OptState, Parameter, Result, Rng, by, path, prelude::*,
};
use treex_optim::{
    Adam, Boxed, GradientTransformation, Optimizer, Schedule, Trace, adam, adamw, add_decayed_weights, chain,
    clip_by_global_norm, cosine_decay, global_norm, linear, scale, scale_by_adam, scale_by_schedule, sgd,
    trace, warmup_cosine,
};

/// A name, a transformation that goes downhill, and the steps that it takes on Rosenbrock's function.
type Row = (&'static str, Boxed, usize);

fn table() -> Vec<Row> {
    let halving = scale_by_schedule(linear(1., 0.5, 1_000));
    vec![
        ("sgd", sgd(1e-3).boxed(), 20_000),
        ("momentum", sgd(1e-3).momentum(0.9).boxed(), 5_000),
        ("nesterov", sgd(1e-3).momentum(0.9).nesterov(true).boxed(), 5_000),
        ("sgd by parts", chain((None::<Trace>, trace(0.9), scale(-1e-3))).boxed(), 5_000),
        ("scheduled momentum", chain((trace(0.9), halving, scale(-1e-3))).boxed(), 6_000),
        ("l2 penalty", chain((add_decayed_weights(1e-4), sgd(1e-3).momentum(0.9))).boxed(), 5_000),
        ("adam", adam(0.1).boxed(), 2_000),
        ("nadam", adam(0.01).nesterov(true).boxed(), 10_000),
        ("adam by parts", chain((scale_by_adam(), scale(-0.1))).boxed(), 2_000),
        ("adamw", adamw(0.1).boxed(), 2_000),
        ("warm adamw", adamw(warmup_cosine(0.1, 100, 2_000)).boxed(), 2_000),
        ("clipped adam", chain((clip_by_global_norm(1.), adam(0.01))).boxed(), 10_000),
        ("one, boxed twice", chain((adam(0.1).boxed().boxed(),)).boxed(), 2_000),
    ]
}

/// Leaves of all sorts: only `x` and `layers` can be trained.
#[derive(Clone, Debug, PartialEq, TreeObject)]
struct Model {
    x: Leaf<Parameter>,
    layers: Vec<Leaf<Parameter>>,
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
        optimizer.update(&gradient(model, step), model).unwrap();
    }
}

fn values(leaf: &Leaf<Parameter>) -> Vec<f64> {
    leaf.get().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The names of the leaves that the state has.
fn names(optimizer: &impl Tree) -> Vec<String> {
    optimizer.leaves().iter().map(|(path, _, _)| path.to_string()).collect()
}

/// Goes downhill from `start` by the gradient that is given, and returns where it ends.
fn descend(
    row: &Row,
    dtype: DType,
    start: &[f64],
    steps: usize,
    gradient: fn(&[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut x: Leaf<Parameter> = leaf(start, dtype);
    let mut optimizer = Optimizer::new(row.1.clone()).init(&x).unwrap();
    for _ in 0..steps {
        let grads = leaf(&gradient(&values(&x)), dtype);
        optimizer.update(&grads, &mut x).unwrap();
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

#[test]
fn converges_on_a_parabola() {
    for row in table() {
        for dtype in [DType::F32, DType::F64] {
            let gradient = |x: &[f64]| x.iter().zip([1., -1., 1.]).map(|(x, goal)| 2. * (x - goal)).collect();
            let found = descend(&row, dtype, &[-1., 10., 1.], 5_000, gradient);
            assert_close(&found, &[1., -1., 1.], 3e-2, row.0);
        }
    }
}

#[test]
fn converges_on_rosenbrock() {
    for row in table() {
        for dtype in [DType::F32, DType::F64] {
            let gradient = |x: &[f64]| {
                let valley = x[1] - x[0] * x[0];
                vec![-2. * (1. - x[0]) - 400. * x[0] * valley, 200. * valley]
            };
            assert_close(&descend(&row, dtype, &[0., 0.], row.2, gradient), &[1., 1.], 3e-2, row.0);
        }
    }
}

#[test]
fn saved_loaded_and_continued_is_not_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, transformation, _) in table() {
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
    for (name, transformation, _) in table() {
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
        "state.0.mu.empty",
        "state.0.nu.x",
        "state.0.nu.layers.0",
        "state.0.nu.layers.1",
        "state.0.nu.empty",
    ];
    assert_eq!(names(&Optimizer::new(adam(0.1)).init(&model).unwrap()), expected);
    assert_eq!(names(&Optimizer::new(adam(0.1).boxed()).init(&model).unwrap()), expected);
    let scheduled =
        Optimizer::new(sgd(cosine_decay(0.1, 9)).momentum(0.9)).wrt(path("x")).init(&model).unwrap();
    assert_eq!(names(&scheduled), ["step", "state.0.trace.x", "state.1.count"]);
    assert_eq!(names(&Optimizer::new(sgd(0.1)).init(&model).unwrap()), ["step"]);
}

#[test]
fn what_was_not_selected_stays_bit_for_bit() {
    for (name, transformation, _) in table() {
        let before = model(DType::F32);
        let mut after = before.clone();
        let mut optimizer = Optimizer::new(transformation).wrt(path("layers.**")).init(&before).unwrap();
        train(&mut optimizer, &mut after, 0..3);
        assert!(names(&optimizer).iter().all(|name| !name.ends_with(".x")), "{name}");
        assert_eq!(after.filter(!path("layers.**")), before.filter(!path("layers.**")), "{name}");
        assert_ne!(after.layers[0], before.layers[0], "{name}");
        assert_ne!(after.layers[1], before.layers[1], "{name}");
    }
}

#[test]
fn initialized_with_the_model_or_its_parameters_is_the_same() {
    for (name, transformation, _) in table() {
        let model = model(DType::F32);
        let whole = Optimizer::new(transformation.clone()).init(&model).unwrap();
        let parameters = Optimizer::new(transformation).init(&model.filter(Parameter)).unwrap();
        assert_eq!(whole.flatten(), parameters.flatten(), "{name}");
    }
}

#[test]
fn a_filtered_tree_is_updated_as_the_model_is() {
    for (name, transformation, _) in table() {
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
    for (name, transformation, _) in table() {
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
    for (name, transformation, _) in table() {
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
        train(&mut optimizer, &mut model, 2..100);
        assert_eq!(bits(&older_model, &older_optimizer), before, "{name}");
        train(&mut older_optimizer, &mut older_model, 2..100);
        assert_eq!(older_model, model, "{name}");
        assert_eq!(older_optimizer.flatten(), optimizer.flatten(), "{name}");
    }
}

#[test]
fn a_missing_gradient_skips_its_leaf() {
    for (name, transformation, _) in table() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let (before, state) = (model.clone(), optimizer.filter(path("**.x")).flatten());
        for step in 2..5 {
            optimizer.update(&gradient(&model, step).filter(!path("x")), &mut model).unwrap();
        }
        assert_eq!(model.x, before.x, "{name}");
        assert_eq!(optimizer.filter(path("**.x")).flatten(), state, "{name}");
        assert_ne!(model.layers, before.layers, "{name}");
        assert_eq!(optimizer.step().unwrap(), 5, "{name}");
    }
}

/// Momentum coasts, moments fade and weights decay where the gradient is zero.
#[test]
fn a_zero_gradient_is_a_step() {
    let stepped = [
        sgd(0.1).momentum(0.9).boxed(),
        adamw(0.1).boxed(),
        chain((add_decayed_weights(0.1), sgd(0.1))).boxed(),
    ];
    for transformation in stepped {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation.clone()).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let before = model.x.clone();
        let zeros = gradient(&model, 2).map(|leaf| Ok(leaf.zeros_like()?)).unwrap();
        optimizer.update(&zeros, &mut model).unwrap();
        assert_ne!(model.x, before, "{transformation:?}");
    }
}

#[test]
fn a_functional_update_leaves_what_it_got() {
    for (name, transformation, _) in table() {
        let mut trained = model(DType::F32);
        let params = trained.filter(Parameter);
        let mut optimizer = Optimizer::new(transformation).init(&params).unwrap();
        let mut other = optimizer.clone();
        let grads = gradient(&trained, 0);
        let new = optimizer.update_functional(&grads, &params).unwrap();
        assert_eq!(params, model(DType::F32).filter(Parameter), "{name}");
        other.update(&grads, &mut trained).unwrap();
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
    for (name, transformation, _) in table() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        let before = [address(&model.x), address(&model.layers[1])];
        train(&mut optimizer, &mut model, 0..100);
        assert_eq!([address(&model.x), address(&model.layers[1])], before, "{name}");
        let snapshot = model.clone();
        train(&mut optimizer, &mut model, 100..101);
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
    for (name, transformation, _) in table() {
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
                optimizer.update(&grads, &mut w).unwrap();
            }
            (w, optimizer.flatten())
        };
        assert!(train(&view) == train(&copy), "{name}");
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
    for (name, transformation, _) in table() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..2);
        let grads = gradient(&model, 2);

        let mut longer = model.clone();
        longer.layers.push(leaf(&[1.], DType::F32));
        let error =
            refused(&mut optimizer, &mut longer, |optimizer, longer| optimizer.update(&grads, longer));
        assert_eq!(error.kind(), ErrorKind::Structure, "{name}");
        let text = "the model has another structure, from leaf 3 on at `empty`: expected `empty` of kind `Parameter`, \
                    found `layers.2` of kind `Parameter`; pass the model that the optimizer was initialized with, or \
                    a filtered tree of it; after surgery, initialize the optimizer again";
        assert_eq!(error.to_string(), text);

        let longer_grads = gradient(&longer, 2);
        let error =
            refused(&mut optimizer, &mut model, |optimizer, model| optimizer.update(&longer_grads, model));
        assert!(
            error.to_string().starts_with("the gradient has another structure, from leaf 3 on at `empty`"),
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
    let wrong = [
        adam(0.1).b1(1.).boxed(),
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
    for (name, transformation, _) in table() {
        let (mut half, mut single) = (model(DType::BF16), model(DType::BF16));
        single.to_dtype(DType::F32).unwrap();
        let mut of_half = Optimizer::new(transformation.clone()).init(&half).unwrap();
        let mut of_single = Optimizer::new(transformation).init(&single).unwrap();
        for step in 0..3 {
            let grads = gradient(&half, step);
            let mut same = grads.clone();
            same.to_dtype(DType::F32).unwrap();
            of_half.update(&grads, &mut half).unwrap();
            of_single.update(&same, &mut single).unwrap();
        }
        assert_eq!(half.x.dtype(), Some(DType::BF16), "{name}");
        let types: Vec<_> = of_half.leaves().iter().filter_map(|(_, _, leaf)| leaf.dtype()).collect();
        assert!(types.iter().all(|&dtype| dtype == DType::F32 || dtype == DType::I64), "{name}: {types:?}");
        // Three roundings of parameters up to 10 to 8 bits, each by half a unit.
        assert_close(&values(&half.x), &values(&single.x), 3. * 10. / 256., name);
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
