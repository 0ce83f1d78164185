//! Linear algebra, perturbations and assignments, against Optax, NumPy and SciPy.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor, Var};
use serde_json::Value;
use treex_core::{Error, Key, Leaf, Parameter, Result, prelude::*};
use treex_optim::linear_algebra::{
    InversePthRoot, PowerIteration, hungarian_algorithm, matrix_inverse_pth_root,
    matrix_inverse_pth_root_with, nnls, nnls_with, power_iteration, power_iteration_with, safe_norm,
    safe_norm_with, safe_root_mean_squares, scale_gradient,
};
use treex_optim::perturbations::{Noise, Perturbed, make_perturbed_fun};
use treex_optim::tree::Order;
use treex_testing::compare::{assert_close, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{Pair, assert_graded, numbers, pair, tensor};

/// Both sides compute in f64, in another order.
const F64: f64 = 1e-10;

fn fixture() -> Value {
    fixture!("trees.json")
}

#[test]
fn power_iterations() {
    let fixture = &fixture()["power_iteration"];
    let matrix = tensor(&fixture["matrix"]);
    let (value, vector) = power_iteration(&matrix).unwrap();
    assert_close(&[value], &numbers(&fixture["value"]), F64, "value");
    assert_close(&values(&vector), &numbers(&fixture["vector"]), F64, "vector");

    // By a product, from a vector, for some steps.
    let product = |v: &Leaf<Parameter>| Leaf::new(matrix.matmul(&v.get()?.unsqueeze(1)?)?.squeeze(1)?);
    let v0 = Leaf::new(tensor(&fixture["v0"])).unwrap();
    let options = PowerIteration::default().num_iters(3).error_tolerance(0.);
    let (value, vector) = power_iteration_with(product, &v0, options).unwrap();
    assert_close(&[value], &numbers(&fixture["few"]), F64, "few");
    assert_close(&values(&vector.get().unwrap()), &numbers(&fixture["few_vector"]), F64, "few");

    let (value, vector) = power_iteration(&matrix.zeros_like().unwrap()).unwrap();
    assert!(value == 0. && values(&vector).iter().all(|x| x.is_finite()));
}

/// Against NumPy's eigenvalues, up to the tolerance of the iteration, and against Optax, which computes in
/// f32.
#[test]
fn inverse_roots() {
    let fixture = fixture();
    let matrix = tensor(&fixture["power_iteration"]["matrix"]);
    for (p, expected) in fixture["matrix_inverse_pth_root"].as_object().unwrap() {
        let exponent = p.parse().unwrap();
        let (root, error) = matrix_inverse_pth_root(&matrix, exponent).unwrap();
        assert!(error <= 1e-6, "{p}: {error}");
        assert_close(&values(&root), &numbers(&expected["exact"]), 1e-5, p);
        let exact = InversePthRoot::default().error_tolerance(1e-13);
        let (root, _) = matrix_inverse_pth_root_with(&matrix, exponent, exact).unwrap();
        assert_close(&values(&root), &numbers(&expected["exact"]), F64, p);
        if let Some(optax) = expected.get("optax") {
            let (root, _) = matrix_inverse_pth_root(&matrix.to_dtype(DType::F32).unwrap(), exponent).unwrap();
            // Of a matrix whose eigenvalues span a factor of 30, in f32 on both sides.
            assert_close(&values(&root), &numbers(optax), 2e-4, p);
        }
    }
    let one = Tensor::new(&[[4f64]], device()).unwrap();
    let (root, _) = matrix_inverse_pth_root(&one, 2).unwrap();
    assert_close(&values(&root), &[(4f64 * (1. + 1e-6)).powf(-0.5)], 1e-15, "one");
    assert!(matrix_inverse_pth_root(&one, 0).is_err());
    assert!(matrix_inverse_pth_root(&Tensor::zeros((2, 3), DType::F32, device()).unwrap(), 2).is_err());
}

#[test]
fn least_squares() {
    let fixture = &fixture()["nnls"];
    let (a, b) = (tensor(&fixture["a"]), tensor(&fixture["b"]));
    assert_close(&values(&nnls(&a, &b, 10).unwrap()), &numbers(&fixture["ten"]), F64, "ten");
    let bounded = nnls_with(&a, &b, 10, Some(20.)).unwrap();
    assert_close(&values(&bounded), &numbers(&fixture["ten(L=20)"]), F64, "bounded");
    let column = b.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    let vector = nnls(&a, &column, 2000).unwrap();
    assert_eq!(vector.dims(), [3]);
    assert_close(&values(&vector), &numbers(&fixture["vector"]), F64, "vector");
    assert_close(&values(&vector), &numbers(&fixture["scipy"]), 1e-8, "SciPy");
    let zeros = nnls(&a.zeros_like().unwrap(), &column, 5).unwrap();
    assert_eq!(values(&zeros), [0.; 3]);
    let error = nnls(&a, &a.t().unwrap(), 5).unwrap_err().to_string();
    assert!(
        error.starts_with("`nnls` got a right side that does not fit: expected shape [6] or [6, k]"),
        "{error}"
    );
}

#[test]
fn safe_norms() {
    let fixture = &fixture()["safe_norm"];
    type Norm = fn(&Tensor) -> Result<Tensor>;
    let cases: [(&str, Norm); 8] = [
        ("all(.5)", |x| safe_norm(x, 0.5)),
        ("all(9)", |x| safe_norm(x, 9.)),
        ("axis 1(.3)", |x| safe_norm_with(x, 0.3, Order::L2, 1, false)),
        ("axis 0, kept(0)", |x| safe_norm_with(x, 0., Order::L2, 0, true)),
        ("order 1, axis 1(0)", |x| safe_norm_with(x, 0., Order::L1, 1, false)),
        ("order inf, axis 1(.2)", |x| safe_norm_with(x, 0.2, Order::Inf, 1, false)),
        ("rms(.5)", |x| safe_root_mean_squares(x, 0.5)),
        ("rms(2)", |x| safe_root_mean_squares(x, 2.)),
    ];
    assert_eq!(fixture.as_object().unwrap().len(), 1 + cases.len());
    for (name, norm) in cases {
        let x = Var::from_tensor(&tensor(&fixture["x"])).unwrap();
        let found = norm(&x).unwrap();
        assert_close(&values(&found), &numbers(&fixture[name]["value"]), F64, name);
        let weights = Tensor::arange(1f64, 1. + found.elem_count() as f64, device()).unwrap();
        let grads = (found.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap().backward().unwrap();
        assert_close(&values(grads.get(&x).unwrap()), &numbers(&fixture[name]["grad"]), F64, name);
    }
    let cube = Tensor::ones((2, 3, 4), DType::F32, device()).unwrap();
    assert_eq!(safe_norm_with(&cube, 0., Order::Inf, (2, 0), false).unwrap().dims(), [3]);
    assert_eq!(safe_norm_with(&cube, 0., Order::L2, (0, 1), true).unwrap().dims(), [1, 1, 4]);
    assert!(safe_norm(&cube.to_dtype(DType::U32).unwrap(), 0.).is_err());
}

#[test]
fn scaled_gradients_of_the_same_values() {
    let x = Var::new(&[[1f32, f32::INFINITY, -3.]], device()).unwrap();
    let y = scale_gradient(&x.t().unwrap(), -2.).unwrap();
    assert_eq!(values(&y), values(&x));
    let weights = Tensor::new(&[[1f32], [10.], [100.]], device()).unwrap();
    let grads = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(grads.get(&x).unwrap()), [-2., -20., -200.]);
}

/// A function of steps: the gradient comes from values alone.
fn steps(x: &Pair) -> Result<Pair> {
    let count = x.0.get()?.gt(0.1)?.to_dtype(DType::F64)?.sum_all()?;
    let mut sorted = x.1.get()?.to_vec1::<f64>()?;
    sorted.sort_by(|a, b| b.total_cmp(a));
    let sorted = (Tensor::new(sorted, device())? * Tensor::new(&[1f64, 2., 3.], device())?)?;
    Ok((Leaf::new(count)?, Leaf::new(sorted)?))
}

type Steps = fn(&Pair) -> Result<Pair>;

#[test]
fn perturbed_functions() {
    let fixture = fixture();
    let x = pair(&fixture["x"], DType::F64);
    let smooth = || make_perturbed_fun(steps as Steps).num_samples(20).sigma(0.5);
    let cases: [(&str, Perturbed<Steps>); 3] = [
        ("gumbel", smooth()),
        ("normal", smooth().noise(Noise::Normal)),
        ("no baseline", smooth().use_baseline(false)),
    ];
    for (name, perturbed) in cases {
        let expected = &fixture["perturbations"][name];
        assert_graded(|x| perturbed.call(3, x), &x, expected, F64, name);
    }
    let error: Result<Pair> = smooth().num_samples(0).call(Key::from(0), &x);
    assert!(error.is_err());
}

/// Half-precision inputs, and a thousand samples in one graph.
#[test]
fn perturbed_functions_of_half_precision() {
    let ones =
        |x: &Leaf<Parameter>| Leaf::<Parameter>::new(x.get()?.ge(0.)?.to_dtype(DType::F32)?.sum_all()?);
    let mut x = Leaf::<Parameter>::new(Tensor::zeros(3, DType::BF16, device()).unwrap()).unwrap();
    let smooth = make_perturbed_fun(ones).noise(Noise::Normal).sigma(1.);
    let (value, grads) = x.value_and_grad(Parameter, |x| smooth.call(1, x)?.get()).unwrap();
    // A half of each, and the density of the normal distribution at 0, of a thousand samples.
    let is_near = |found: &Tensor, expected: f64| values(found).iter().all(|x| (x - expected).abs() < 0.1);
    assert!(is_near(&value, 1.5) && is_near(&grads.get().unwrap(), 0.4), "{value} {grads:?}");
}

#[test]
fn assignments() {
    for case in fixture()["assignment"].as_array().unwrap() {
        let costs = tensor(&case["costs"]);
        let (rows, columns) = hungarian_algorithm(&costs).unwrap();
        assert_eq!(values(&rows), numbers(&case["rows"]));
        assert_eq!(values(&columns), numbers(&case["columns"]));
    }
    let zeros = |n: usize, m: usize| Tensor::zeros((n, m), DType::F32, device()).unwrap();
    for (n, m) in [(0, 3), (3, 0), (0, 0)] {
        assert_eq!(hungarian_algorithm(&zeros(n, m)).unwrap().0.dims(), [0]);
    }
    let (rows, columns) = hungarian_algorithm(&zeros(3, 5)).unwrap();
    assert_eq!(rows.to_vec1::<u32>().unwrap(), [0, 1, 2]);
    let mut distinct = columns.to_vec1::<u32>().unwrap();
    distinct.dedup();
    assert_eq!(distinct.len(), 3);
    let refused: [Result<_, Error>; 2] = [
        hungarian_algorithm(&Tensor::new(&[[f32::NAN]], device()).unwrap()),
        hungarian_algorithm(&Tensor::new(&[1f32], device()).unwrap()),
    ];
    for error in refused {
        assert!(error.unwrap_err().to_string().starts_with("`hungarian_algorithm` got"));
    }
}
