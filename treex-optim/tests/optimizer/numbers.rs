//! The element types of an optimizer's state, and the numbers that it returns.

use super::*;
use treex_optim::engine::Updates;

/// Only the state is rounded.
#[test]
fn moments_have_the_requested_type() {
    if is_skipped(SKIPS, "moments_have_the_requested_type") {
        return;
    }
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
    // The first update of momentum is the gradient, unrounded.
    let x: Leaf<Parameter> = leaf(&[0.1], DType::F32);
    let momentum = trace(0.9).accumulator_dtype(half);
    let mut state = momentum.init(&x.flatten()).unwrap();
    let updates =
        momentum.update(Updates::new(x.flatten(), x.flatten()), &mut state).unwrap().compute().unwrap();
    assert_eq!(updates.tensors().next().unwrap().to_vec1::<f32>().unwrap(), [0.1]);
}

/// The moments of f64 parameters in half precision are rounded once, in loops over slices as in operations on tensors:
/// a first moment above the middle of two numbers, by less than f32 sees, is the upper one.
#[test]
fn narrow_moments_of_f64_parameters_are_rounded_once() {
    for (half, spacing) in [(DType::BF16, 2f64.powi(-7)), (DType::F16, 2f64.powi(-10))] {
        let run = || {
            let mut x: Leaf<Parameter> = leaf(&[1., 1., 1.], DType::F64);
            let mut optimizer =
                Optimizer::new(sgd(0.1).momentum(0.9).accumulator_dtype(half)).init(&x).unwrap();
            let (middle, little) = (1. + spacing / 2., 2f64.powi(-50));
            let grads = leaf(&[middle + little, middle, middle - little], DType::F64);
            optimizer.update(&grads, &mut x).unwrap();
            let state = optimizer.filter(path("state.**"));
            state.flatten().tensors().flat_map(treex_testing::compare::values).collect::<Vec<_>>()
        };
        assert_eq!(run(), [1. + spacing, 1., 1.], "{half:?}");
        assert_eq!(treex_core::autograd::with_reference(run), [1. + spacing, 1., 1.], "{half:?}");

        // And parameters in half precision with gradients in f64.
        let run = || {
            let mut x: Leaf<Parameter> = leaf(&[1.], half);
            let mut optimizer = Optimizer::new(sgd(-1.)).init(&x).unwrap();
            optimizer.update(&leaf(&[spacing / 2. + 2f64.powi(-50)], DType::F64), &mut x).unwrap();
            values(&x)
        };
        assert_eq!(run(), [1. + spacing], "{half:?}");
        assert_eq!(treex_core::autograd::with_reference(run), [1. + spacing], "{half:?}");
    }
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

/// In bf16, 0.999 is 1 and a moment never decays; so moments and arithmetic are in f32.
#[test]
fn half_precision_parameters_have_moments_in_f32() {
    if is_skipped(SKIPS, "half_precision_parameters_have_moments_in_f32") {
        return;
    }
    for (name, transformation) in all() {
        let (mut half, mut single) = (model(DType::BF16), model(DType::BF16));
        single = single.into_dtype(DType::F32).unwrap();
        let mut of_half = Optimizer::new(transformation.clone()).init(&half).unwrap();
        let mut of_single = Optimizer::new(transformation).init(&single).unwrap();
        for step in 0..3 {
            let grads = gradient(&half, step);
            let mut same = grads.clone();
            same = same.into_dtype(DType::F32).unwrap();
            step_with(&mut of_half, &mut half, &grads);
            step_with(&mut of_single, &mut single, &same);
        }
        assert_eq!(half.x.dtype(), Some(DType::BF16), "{name}");
        let types: Vec<_> = of_half.leaves().iter().filter_map(|(_, _, leaf)| leaf.dtype()).collect();
        // Other leaves are counts, keys and flags of NaN.
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

/// An optimizer can be a field of a tree.
#[test]
fn model_and_optimizer_form_one_tree() {
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
    let many = Leaf::<Parameter>::new(Tensor::full(1e-3f32, 20_000_000, device()).unwrap()).unwrap();
    assert!((global_norm(&many).unwrap() / 20f64.sqrt() - 1.).abs() < 1e-6);
    let ones = Leaf::<Parameter>::new(Tensor::ones(100_000, DType::BF16, device()).unwrap()).unwrap();
    assert_eq!(global_norm(&ones).unwrap(), 100_000f64.sqrt());
    let mixed = (
        leaf::<Parameter>(&[3.], DType::F32),
        leaf::<Parameter>(&[4.], DType::F64),
        leaf::<Parameter>(&[], DType::F32),
    );
    assert_eq!(global_norm(&mixed).unwrap(), 5.);
    assert_eq!(global_norm(&mixed.filter(OptState)).unwrap(), 0.);
}

/// A diverged gradient is not hidden by a transformation, but for those that are there to do so.
#[test]
fn a_gradient_of_nan_is_seen() {
    let mut hidden = Vec::new();
    for (name, transformation) in all() {
        let mut model = model(DType::F32);
        let mut optimizer = Optimizer::new(transformation).init(&model).unwrap();
        train(&mut optimizer, &mut model, 0..1);
        let mut grads = gradient(&model, 1);
        grads.x = leaf(&[f64::NAN, 0.1, 0.2], DType::F32);
        for _ in 0..2 {
            step_with(&mut optimizer, &mut model, &grads);
        }
        if values(&model.x).iter().all(|value| value.is_finite()) {
            hidden.push(name);
        }
    }
    assert_eq!(hidden, ["set_to_zero()", "zero_nans()", "centered"]);
}

/// As in Optax, NaN propagates.
#[test]
fn clipping_propagates_nan() {
    let clip = |values: &[f64], max_norm: f64| -> Vec<f64> {
        let leaf: Leaf<Parameter> = leaf(values, DType::F64);
        let transformation = clip_by_global_norm(max_norm);
        transformation.init(&leaf.flatten()).unwrap();
        let updates = Updates::new(leaf.flatten(), leaf.flatten());
        let clipped = transformation.update(updates, &mut ()).unwrap().compute().unwrap();
        clipped.get(0).unwrap().to_vec1().unwrap()
    };
    assert_eq!(clip(&[3., 4.], 5.5), [3., 4.]);
    assert_close(&clip(&[3., 4.], 1.), &[0.6, 0.8], 1e-15, "clipped");
    assert!(clip(&[f64::NAN, 1.], 1.).iter().all(|value| value.is_nan()));
    let infinite = clip(&[f64::INFINITY, 1.], 1.);
    assert!(infinite[0].is_nan() && infinite[1] == 0.);
    // Within every norm; Optax divides 0 by 0.
    assert_eq!(clip(&[0., 0.], 0.), [0., 0.]);
}
