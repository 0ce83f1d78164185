//! Against Optax's values, in f64 (`fixtures/optax.json` and `fixtures/transforms.json`, written by the
//! scripts beside them): every case that the transformations of this crate can express. `schedules.rs`,
//! `losses.rs` and `projections.rs` read the rest of the first.

#![allow(clippy::unwrap_used)]

mod table;

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use table::{Row, all, golden, options};
use treex_core::autograd::with_reference;
use treex_core::{Leaf, Leaves, Parameter, path, prelude::*};
use treex_optim::engine::Updates;
use treex_optim::*;
use treex_testing::compare::{assert_close, distance, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{numbers, tensor};

/// Optax sums in f64 in another order than Candle; nothing else differs.
const F64: f64 = 1e-10;

/// Steps in f32, each rounding at 6e-8 relative: values are around 1, and Adam divides by a root.
const F32: f64 = 5e-6;

#[derive(Clone, Debug, TreeObject)]
struct Params {
    a: Leaf<Parameter>,
    b: Leaf<Parameter>,
}

fn leaf(value: &Value, dtype: DType) -> Leaf<Parameter> {
    Leaf::new(tensor(value).to_dtype(dtype).unwrap()).unwrap()
}

impl Params {
    fn read(leaves: &Value, dtype: DType) -> Self {
        Self { a: leaf(&leaves[0], dtype), b: leaf(&leaves[1], dtype) }
    }
}

fn read_list(leaves: &Value, dtype: DType) -> Vec<Leaf<Parameter>> {
    leaves.as_array().unwrap().iter().map(|value| leaf(value, dtype)).collect()
}

/// The tolerance of a case against Optax's f64.
fn tolerance(name: &str, dtype: DType) -> f64 {
    let of_type = if dtype == DType::F64 { F64 } else { F32 };
    match name {
        // Optax computes the decay of factored averages in f32: 4e-8 of the average.
        _ if name.contains("factored_rms(") || name.starts_with("adafactor") => of_type.max(1e-7),
        // A state in f32 meets f32 constants in Optax, and f64 ones here.
        _ if name.contains("dtype=f32") => of_type.max(5e-7),
        _ => of_type,
    }
}

/// Every step of each case against Optax's updates: `updates` by itself, and an optimizer.
fn check<T: Tree>(rows: Vec<Row>, fixture: &Value, read: fn(&Value, DType) -> T, dtype: DType) {
    let mut wrong = Vec::new();
    for (name, transformation) in rows {
        let mut check = |found: &[f64], expected: &[f64], what: String| {
            let distance = distance(found, expected);
            if distance > tolerance(name, dtype) {
                wrong.push(format!("{name}, {what}: off by {distance:e}"));
            }
        };
        let case = &fixture["transforms"][name];
        assert!(!case.is_null(), "there is no case `{name}` in the fixture");
        let expected = case.get("updates").unwrap_or(case);
        let mut params = read(&fixture["meta"]["params"], dtype);
        let mut through_optimizer = params.clone();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        let mut state = transformation.init(&params.flatten()).unwrap();
        let steps = fixture["meta"]["grads"].as_array().unwrap();
        for (step, grads) in steps.iter().enumerate() {
            let grads = read(grads, dtype);
            let extra = Extra::value(3. - 0.3 * step as f64);
            let updates = Updates::new(grads.flatten(), params.flatten()).with_extra(extra);
            let updates = transformation.update(updates, &mut state).unwrap().compute().unwrap();
            let found: Vec<f64> = updates.tensors().flat_map(values).collect();
            check(&found, &numbers(&expected[step]), format!("updates {step}"));
            let added = params.flatten().combine(&updates, |p, u| Ok((p + u)?)).unwrap();
            params = params.unflatten(&added).unwrap();
            optimizer.update_with(&grads, &mut through_optimizer, &extra).unwrap();
        }
        let found: Vec<f64> = through_optimizer.flatten().tensors().flat_map(values).collect();
        let added: Vec<f64> = params.flatten().tensors().flat_map(values).collect();
        check(&found, &added, "by an optimizer".to_owned());
        if let Some(end) = case.get("final_params") {
            check(&found, &numbers(end), "final parameters".to_owned());
        }
        assert_eq!(optimizer.step_count().unwrap(), steps.len() as u64);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn transforms() -> Value {
    fixture!("transforms.json")
}

#[test]
fn transformations_in_f64() {
    check(golden(), &fixture!("optax.json"), Params::read, DType::F64);
}

#[test]
fn transformations_in_f32() {
    check(golden(), &fixture!("optax.json"), Params::read, DType::F32);
}

#[test]
fn options_and_ranks_in_f64() {
    check(options(), &transforms(), read_list, DType::F64);
}

#[test]
fn options_and_ranks_in_f32() {
    let mut rows = options();
    // JAX draws other numbers in f32; the doctest of `noisy_sgd` has those.
    rows.retain(|(name, _)| !name.contains("nois"));
    check(rows, &transforms(), read_list, DType::F32);
}

/// A factored matrix, and its state. Optax's decay in f32 again.
#[test]
fn adafactor_keeps_rows_and_columns() {
    let fixture = &fixture!("optax.json")["adafactor_4x5(lr=.1,min_dim=4), g_t=cos(W*(t+1))"];
    let mut w = leaf(&fixture["W"], DType::F64);
    let start = w.get().unwrap().copy().unwrap();
    let mut optimizer = Optimizer::new(adafactor(0.1).min_dim_size_to_factor(4)).init(&w).unwrap();
    for (step, expected) in fixture["updates"].as_array().unwrap().iter().enumerate() {
        let before = w.get().unwrap().copy().unwrap();
        let grads = Leaf::new((&start * (step + 1) as f64).unwrap().cos().unwrap()).unwrap();
        optimizer.update(&grads, &mut w).unwrap();
        let update = (w.get().unwrap() - before).unwrap();
        assert_close(&values(&update), &numbers(expected), 1e-7, &format!("update {step}"));
    }
    let kept = |part: &str| -> Vec<f64> {
        let state = optimizer.filter(path(format!("state.0.{part}.**"))).flatten();
        state.tensors().flat_map(values).collect()
    };
    assert_close(&kept("v_row"), &numbers(&fixture["v_row"]), 1e-7, "rows");
    assert_close(&kept("v_col"), &numbers(&fixture["v_col"]), 1e-7, "columns");
    assert!(kept("v").is_empty());
}

/// What Optax says with masks and labels, two optimizers with filters say here: `wrt` is their `freeze` and
/// `partition`.
#[test]
fn parts_of_a_model() {
    let fixture = fixture!("optax.json");
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

/// Every case is tested: those that are not here are tested elsewhere.
#[test]
fn every_fixture_case_is_tested() {
    let names = |fixture: &Value| -> BTreeSet<String> {
        fixture["transforms"].as_object().unwrap().keys().cloned().collect()
    };
    let tested = |rows: Vec<Row>| -> BTreeSet<String> {
        let names: BTreeSet<_> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names.len(), rows.len(), "a name occurs twice");
        names
    };
    let elsewhere = [
        "masked(scale(-1),a)",
        "freeze(a)",
        "selective_transform(sgd .1, freeze a)",
        "partition(a:adam(.1),b:sgd(.1,.9))",
        "flatten(adam(.1))",
        "conditionally_transform(scale 2, step<3)",
        "conditionally_mask(scale 2, step<3)",
        "MultiSteps(adam(.1),3)",
        "MultiSteps(adam(.1),2,sum)",
        "apply_if_finite(adam(.1),2)",
        "scale_by_lbfgs(memory_size=3)",
        "acprop(.01)",
        "ademamix(.01)",
        "simplified_ademamix(.01)",
        "adopt(.01)",
        "adopt(.01,nesterov,noclip)",
        "cocob()",
        "dadapt_adamw()",
        "dog()",
        "dog(learning_rate .1)",
        "dowg()",
        "madgrad(.01)",
        "mechanize(sgd(.1))",
        "momo()",
        "momo(adapt_lb,wd)",
        "momo_adam()",
        "momo_adam(adapt_lb,wd)",
        "muon(.01)",
        "muon(.01,dion,aol)",
        "muon(.01,schatten,consistent_rms=.2)",
        "muon(.01,spectral,adaptive,no nesterov)",
        "prodigy()",
        "prodigy(safeguard,wd)",
        "schedule_free_sgd(.1,warmup 2,wd)",
        "schedule_free_adamw(.1)",
        "reduce_on_plateau",
        "sam(sgd .1, normalize+sgd .05)",
        "galore(.01,rank=1)",
    ];
    let mut of_optax = tested(golden());
    of_optax.extend(elsewhere.map(str::to_owned));
    assert_eq!(of_optax, names(&fixture!("optax.json")));
    assert_eq!(tested(options()), names(&transforms()));
}

/// Leaves of all sorts: longer than a vector register and a cache's chunk, without elements, without
/// dimensions.
fn sorts(first: f64, dtype: DType) -> Vec<Leaf<Parameter>> {
    let shapes: [&[usize]; 7] = [&[37, 61], &[3, 2, 5], &[33], &[], &[1], &[0, 3], &[0]];
    let mut value = first;
    let mut next = || {
        value += 0.7;
        value.sin() + 0.1
    };
    let leaf = |dims: &&[usize]| {
        let values: Vec<f64> = (0..dims.iter().product::<usize>()).map(|_| next()).collect();
        let values = Tensor::from_vec(values, *dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        Leaf::new(values.to_device(device()).unwrap()).unwrap()
    };
    // On a device Candle does not cast what has no elements.
    let has_kernels = |dims: &&&[usize]| device().is_cpu() || !dims.contains(&0);
    shapes.iter().filter(has_kernels).map(leaf).collect()
}

/// The engine and the reference operations, from the same state at every step.
fn check_reference(dtype: DType, tolerance: f64) {
    let mut wrong = Vec::new();
    for (name, transformation) in all() {
        let mut params = sorts(0.3, dtype).flatten();
        let mut state = transformation.init(&params).unwrap();
        for step in 0..4 {
            let grads = sorts(1.7 + 0.37 * f64::from(step), dtype).flatten();
            let extra = Extra::value(3. - 0.3 * f64::from(step));
            let run = |state: &mut BoxedState| {
                let updates = Updates::new(grads.clone(), params.clone()).with_extra(extra);
                transformation.update(updates, state).unwrap().compute().unwrap()
            };
            let mut of_reference = state.clone();
            let reference = with_reference(|| run(&mut of_reference));
            let updates = run(&mut state);
            let all = |updates: &Leaves, state: &BoxedState| -> Vec<f64> {
                updates.tensors().chain(state.flatten().tensors()).flat_map(values).collect()
            };
            let distance = distance(&all(&updates, &state), &all(&reference, &of_reference));
            if distance > tolerance {
                wrong.push(format!("{name} in {dtype:?}, step {step}: off by {distance:e}"));
            }
            params =
                params.combine(&updates, |p, u| Ok((p + u.to_dtype(p.dtype())?)?.contiguous()?)).unwrap();
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_engine_matches_the_reference_operations() {
    check_reference(DType::F64, 1e-12);
    // Norms are summed in another order, in f32 within a chunk; and Adam divides by a root.
    check_reference(DType::F32, 2e-6);
    // The same, since all is computed in f32.
    check_reference(DType::BF16, 2e-6);
}

#[test]
fn examples_are_clipped_by_themselves() {
    let fixture = transforms();
    let grads = read_list(&fixture["examples"], DType::F64);
    let check = |name: &str, sum: &Vec<Leaf<Parameter>>, counts: &[usize]| {
        let expected = &fixture["per_example"][name];
        let found: Vec<f64> = sum.flatten().tensors().flat_map(values).collect();
        assert_close(&found, &numbers(&expected["sum"]), 1e-12, name);
        let counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        assert_close(&counts, &numbers(&expected["count"]), 0., name);
    };
    for (name, clip) in [("global(1.5)", 1.5), ("global(0)", 0.), ("global(inf)", f64::INFINITY)] {
        let (sum, count) = per_example_global_norm_clip(&grads, clip).unwrap();
        check(name, &sum, &[count]);
    }
    for (name, uniform) in [("layer(1.5)", true), ("layer(1.5, uniform=False)", false)] {
        let (sum, counts) = per_example_layer_norm_clip(&grads, 1.5, uniform).unwrap();
        check(name, &sum, &counts);
    }
    assert!(per_example_global_norm_clip(&grads, f64::NAN).is_err());
    let uneven = read_list(&fixture["meta"]["params"], DType::F64);
    let error = per_example_layer_norm_clip(&uneven, 1., true).unwrap_err().to_string();
    assert!(error.contains("expected 2 examples on the first axis, found shape [3]"), "{error}");
}

fn one_update(transformation: impl GradientTransformation, dims: &[usize], g: &[f64]) -> Vec<f64> {
    let tensor = |values: &[f64]| Tensor::from_slice(values, dims, device()).unwrap();
    let grads = Leaf::<Parameter>::new(tensor(g)).unwrap().flatten();
    let mut state = transformation.init(&grads).unwrap();
    let updates = transformation.update(Updates::new(grads.clone(), grads), &mut state).unwrap();
    let updates = updates.compute().unwrap();
    updates.tensors().flat_map(values).collect()
}

/// The outputs of Flax's kernels are their last axis.
#[test]
fn gradients_are_centered_for_each_output() {
    let g = [1., 2., 3., 4., 6., 8.];
    assert_eq!(one_update(centralize(), &[2, 3], &g), [-1.5, -2., -2.5, 1.5, 2., 2.5]);
    assert_eq!(one_update(centralize().output_axis(0), &[2, 3], &g), [-1., 0., 1., -2., 0., 2.]);
    assert_eq!(one_update(centralize(), &[3, 1, 2], &[1., 2., 4., 6., 7., 1.]), [-3., -1., 0., 3., 3., -2.]);
    assert_eq!(one_update(centralize(), &[6], &g), g);
}

/// Optax fails here.
#[test]
fn sm3_takes_a_number_for_a_vector() {
    assert_eq!(one_update(scale_by_sm3(), &[], &[3.]), one_update(scale_by_sm3(), &[1], &[3.]));
    let mut x: Leaf<Parameter> = Leaf::new(Tensor::new(3f32, device()).unwrap()).unwrap();
    let mut optimizer = Optimizer::new(sm3(0.1)).init(&x).unwrap();
    optimizer.update(&x.clone(), &mut x).unwrap();
    assert!((x.get().unwrap().to_scalar::<f32>().unwrap() - 2.99).abs() < 1e-6);
}

/// PyTorch's `Rprop(lr=0.1)` on the square of 1 and of 0.25, by hand: it is not one step late.
#[test]
fn rprop_steps_at_once() {
    let mut x: Leaf<Parameter> = Leaf::new(Tensor::new(&[1f64, 0.25], device()).unwrap()).unwrap();
    let mut optimizer = Optimizer::new(rprop(0.1)).init(&x).unwrap();
    let expected = [[0.9, 0.15], [0.78, 0.03], [0.636, -0.114], [0.4632, -0.114], [0.25584, -0.042]];
    for expected in expected {
        optimizer.update(&x.clone(), &mut x).unwrap();
        assert_close(&x.get().unwrap().to_vec1::<f64>().unwrap(), &expected, 1e-12, "rprop");
    }
}

#[test]
fn nan_is_found_and_dropped() {
    let nan = f64::NAN;
    assert_eq!(one_update(zero_nans(), &[3], &[nan, f64::INFINITY, -1.]), [0., f64::INFINITY, -1.]);
    let mut pair = (0..2)
        .map(|_| Leaf::new(Tensor::new(&[1f32, 2.], device()).unwrap()).unwrap())
        .collect::<Vec<Leaf<Parameter>>>();
    let mut optimizer = Optimizer::new(zero_nans()).init(&pair).unwrap();
    let found = |optimizer: &Optimizer<_>| -> Vec<f64> {
        optimizer.filter(path("state.**")).flatten().tensors().flat_map(values).collect()
    };
    let mut grads = pair.clone();
    grads[1] = Leaf::new(Tensor::new(&[0f32, f32::NAN], device()).unwrap()).unwrap();
    optimizer.update(&grads, &mut pair).unwrap();
    assert_eq!(found(&optimizer), [0., 1.]);
    optimizer.update(&pair.clone(), &mut pair).unwrap();
    assert_eq!(found(&optimizer), [0., 0.]);
    assert_eq!(values(&pair[1].get().unwrap()), [2., 4.]);
}

#[test]
fn units_of_many_dimensions_need_an_axis() {
    let leaf: Leaf<Parameter> =
        Leaf::new(Tensor::ones((1, 2, 1, 2, 1, 2), DType::F32, device()).unwrap()).unwrap();
    let error = adaptive_grad_clip(0.1).init(&leaf.flatten()).unwrap_err().to_string();
    assert!(error.contains("expected at most 5 dimensions, found [1, 2, 1, 2, 1, 2]"), "{error}");
    assert!(adaptive_grad_clip(0.1).axis([0, 5]).init(&leaf.flatten()).is_ok());
    let error = adaptive_grad_clip(0.1).axis([6]).init(&leaf.flatten()).unwrap_err().to_string();
    assert!(error.contains("found [6]"), "{error}");
    let error = centralize().output_axis(-7).init(&leaf.flatten()).unwrap_err().to_string();
    assert!(error.contains("expected an axis of 6, found -7"), "{error}");
}

/// Zeros are within every norm. Optax divides 0 by 0.
#[test]
fn clipping_to_nothing_keeps_zeros() {
    let leaf = |values: &[f32]| Leaf::<Parameter>::new(Tensor::new(values, device()).unwrap()).unwrap();
    for (gradient, expected) in [([0f32, 0.], [0., 0.]), ([3., 4.], [0., 0.])] {
        for clip in [clip_by_global_norm(0.).boxed(), adaptive_grad_clip(0.).boxed(), clip(0.).boxed()] {
            let (grads, params) = (leaf(&gradient).flatten(), leaf(&[1., 1.]).flatten());
            let mut state = clip.init(&params).unwrap();
            let updates = clip.update(Updates::new(grads, params), &mut state).unwrap().compute().unwrap();
            assert_eq!(updates.tensors().flat_map(values).collect::<Vec<_>>(), expected, "{clip:?}");
        }
    }
    let examples = leaf(&[0., 0.]).get().unwrap().reshape((2, 1)).unwrap();
    let (sum, _) = per_example_global_norm_clip(&Leaf::<Parameter>::new(examples).unwrap(), 0.).unwrap();
    assert_eq!(values(&sum.get().unwrap()), [0.]);
}
