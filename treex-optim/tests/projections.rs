//! Projections against Optax's values and gradients, of a vector and of a tree of two leaves.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, path, prelude::*};
use treex_optim::projections::{
    projection_box, projection_halfspace, projection_hypercube, projection_hyperplane, projection_l1_ball,
    projection_l1_sphere, projection_l2_ball, projection_l2_sphere, projection_linf_ball,
    projection_non_negative, projection_simplex, projection_vector,
};
use treex_optim::tree;
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{Pair, assert_graded, numbers, pair, tensor};

/// Both sides compute in f64.
const F64: f64 = 1e-10;

/// A dozen roundings of numbers below 20, at 1e-6 each.
const F32: f64 = 2e-5;

type Projection<T> = (&'static str, fn(&T, &T) -> Result<T>);

/// Of a tree `x`, and a tree `y` where another is needed.
fn trees() -> Vec<Projection<Pair>> {
    vec![
        ("non_negative", |x, _| projection_non_negative(x)),
        ("box(-.5,.9)", |x, _| projection_box(x, -0.5, 0.9)),
        ("box(-.5,tree)", |x, y| projection_box(x, -0.5, y)),
        ("hypercube(1.5)", |x, _| projection_hypercube(x, 1.5)),
        ("simplex", |x, _| projection_simplex(x, 1.)),
        ("simplex(9)", |x, _| projection_simplex(x, 9.)),
        ("l1_sphere", |x, _| projection_l1_sphere(x, 1.)),
        ("l1_sphere(20)", |x, _| projection_l1_sphere(x, 20.)),
        ("l1_ball(2)", |x, _| projection_l1_ball(x, 2.)),
        ("l1_ball(9)", |x, _| projection_l1_ball(x, 9.)),
        ("l2_sphere(3)", |x, _| projection_l2_sphere(x, 3.)),
        ("l2_ball(1.5)", |x, _| projection_l2_ball(x, 1.5)),
        ("l2_ball(9)", |x, _| projection_l2_ball(x, 9.)),
        ("linf_ball(.8)", |x, _| projection_linf_ball(x, 0.8)),
        ("vector", projection_vector),
        ("hyperplane(.3)", |x, y| projection_hyperplane(x, y, 0.3)),
        ("halfspace(.3)", |x, y| projection_halfspace(x, y, 0.3)),
        ("halfspace(-9)", |x, y| projection_halfspace(x, y, -9.)),
    ]
}

/// Of a vector `v`, and a vector `a` where another is needed.
fn vectors() -> Vec<Projection<Leaf<Parameter>>> {
    vec![
        ("non_negative", |v, _| projection_non_negative(v)),
        ("box(-.5,.5)", |v, _| projection_box(v, &tree::full_like(v, -0.5)?, &tree::full_like(v, 0.5)?)),
        ("hypercube", |v, _| projection_hypercube(v, 1.)),
        ("simplex", |v, _| projection_simplex(v, 1.)),
        ("simplex(2.5)", |v, _| projection_simplex(v, 2.5)),
        ("l1_sphere", |v, _| projection_l1_sphere(v, 1.)),
        ("l1_ball", |v, _| projection_l1_ball(v, 1.)),
        ("l1_ball(10)", |v, _| projection_l1_ball(v, 10.)),
        ("l2_sphere", |v, _| projection_l2_sphere(v, 1.)),
        ("l2_ball", |v, _| projection_l2_ball(v, 1.)),
        ("linf_ball", |v, _| projection_linf_ball(v, 1.)),
        ("vector", projection_vector),
        ("hyperplane(b=.3)", |v, a| projection_hyperplane(v, a, 0.3)),
        ("halfspace(b=.3)", |v, a| projection_halfspace(v, a, 0.3)),
        ("halfspace(b=-5)", |v, a| projection_halfspace(v, a, -5.)),
    ]
}

fn fixture() -> Value {
    fixture!("trees.json")
}

#[test]
fn of_vectors() {
    let fixture = &fixture!("optax.json")["projections"];
    let leaf = |name: &str| Leaf::<Parameter>::new(tensor(&fixture[name])).unwrap();
    let (v, a) = (leaf("v"), leaf("a"));
    for (name, projection) in vectors() {
        assert_close(
            &tree_values(&projection(&v, &a).unwrap()),
            &numbers(&fixture["values"][name]),
            F64,
            name,
        );
    }
}

#[test]
fn of_trees_with_gradients() {
    let fixture = fixture();
    for (dtype, tolerance) in [(DType::F64, F64), (DType::F32, F32)] {
        let (x, y) = (pair(&fixture["x"], dtype), pair(&fixture["y"], dtype));
        for (name, projection) in trees() {
            let expected = &fixture["projections"][name];
            assert_graded(|x| projection(x, &y), &x, expected, tolerance, name);
        }
    }
}

/// Where norms are 0, gradients are finite.
#[test]
fn of_zeros() {
    let fixture = fixture();
    let x = pair(&fixture["x"], DType::F64);
    let zeros = tree::zeros_like(&x).unwrap();
    let of_zeros = fixture["projections_of_zeros"].as_object().unwrap();
    for (name, expected) in of_zeros {
        let (_, projection) = trees().into_iter().find(|(own, _)| own == name).unwrap();
        assert_graded(|x| projection(x, &zeros), &zeros, expected, F64, name);
    }
}

#[test]
fn every_fixture_case_is_tested() {
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let ours: BTreeSet<_> = trees().iter().map(|case| case.0.to_owned()).collect();
    assert_eq!(ours, names(&fixture()["projections"]));
    let ours: BTreeSet<_> = vectors().iter().map(|case| case.0.to_owned()).collect();
    assert_eq!(ours, names(&fixture!("optax.json")["projections"]["values"]));
}

/// A projection of a projection changes nothing; nor do projections of flat trees differ. As in Optax, a 0
/// stays when it should go to a larger sphere, since it has no sign: then the result is not on the sphere.
#[test]
fn projections_are_idempotent() {
    let fixture = fixture();
    let (x, y) = (pair(&fixture["x"], DType::F64), pair(&fixture["y"], DType::F64));
    for (name, projection) in trees().into_iter().filter(|case| case.0 != "l1_sphere(20)") {
        let once = projection(&x, &y).unwrap();
        let twice = projection(&once, &y).unwrap();
        assert_close(&tree_values(&twice), &tree_values(&once), 1e-12, name);
    }
    let flat = projection_simplex(&x.flatten(), 2.).unwrap();
    assert_eq!(tree_values(&flat), tree_values(&projection_simplex(&x, 2.).unwrap()));
}

/// In half precision the simplex is found in f32.
#[test]
fn element_types_and_filtered_leaves_stay() {
    let fixture = fixture();
    let (x, y) = (pair(&fixture["x"], DType::BF16), pair(&fixture["y"], DType::BF16));
    for (name, projection) in trees() {
        let found = projection(&x, &y).unwrap();
        assert!(found.flatten().tensors().all(|leaf| leaf.dtype() == DType::BF16), "{name}");
        let part = projection(&x.filter(path("1")), &y).unwrap();
        assert!(part.0.is_nothing() || name == "vector", "{name}");
    }
    let many = Leaf::<Parameter>::new(Tensor::ones(4096, DType::BF16, device()).unwrap()).unwrap();
    let found = projection_simplex(&many, 1.).unwrap().get().unwrap();
    assert_close(&values(&found), &vec![1. / 4096.; 4096], 0., "uniform");
}

#[test]
fn misuse_is_an_error() {
    let x = pair(&fixture()["x"], DType::F64);
    for scale in [0., -1., f64::NAN, f64::INFINITY] {
        for error in [
            projection_simplex(&x, scale).unwrap_err(),
            projection_l1_sphere(&x, scale).unwrap_err(),
            projection_l1_ball(&x, scale).unwrap_err(),
            projection_l2_sphere(&x, scale).unwrap_err(),
            projection_l2_ball(&x, scale).unwrap_err(),
            projection_linf_ball(&x, scale).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("is out of range: expected a finite number above 0"), "{text}");
        }
    }
    let swapped = (x.1.clone(), x.0.clone());
    assert!(projection_vector(&x, &swapped).is_err());
    let nothing: Vec<Leaf<Parameter>> = Vec::new();
    assert!(projection_simplex(&nothing, 1.).unwrap().is_empty());
}
