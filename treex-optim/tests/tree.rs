//! Arithmetic on trees against Optax's values and gradients.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{ErrorKind, Key, Leaf, Parameter, Result, path, prelude::*};
use treex_optim::tree::{self, Order};
use treex_optim::{Accumulator, Optimizer, microbatch, schedule_free_sgd};
use treex_testing::compare::{assert_close, tree_values, values};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::{Pair, assert_graded, numbers, pair};

/// Both sides compute in f64; of f64 samples JAX's own law is 25 units in the last place.
const F64: f64 = 1e-13;

type ToTree = (&'static str, fn(&Pair, &Pair) -> Result<Pair>);
type ToNumber = (&'static str, fn(&Pair, &Pair) -> Result<Tensor>);

fn to_trees() -> Vec<ToTree> {
    fn truth(value: u8) -> Tensor {
        Tensor::new(value, device()).unwrap()
    }
    vec![
        ("add", tree::add),
        ("sub", tree::sub),
        ("mul", tree::mul),
        ("div", |x, y| tree::div(y, &x.map(|x| Ok((x + 3.)?))?)),
        ("scale", |x, _| tree::scale(0.3, x)),
        ("add_scale", |x, y| tree::add_scale(x, -0.7, y)),
        ("where(true)", |x, y| tree::where_cond(&truth(1), x, y)),
        ("where(false)", |x, y| tree::where_cond(&truth(0), x, y)),
        ("clip(-.5,.7)", |x, _| tree::clip(x, Some(-0.5), Some(0.7))),
        ("clip(None,.7)", |x, _| tree::clip(x, None, Some(0.7))),
        ("zeros_like", |x, _| tree::zeros_like(x)),
        ("ones_like", |x, _| tree::ones_like(x)),
        ("full_like(2.5)", |x, _| tree::full_like(x, 2.5)),
        ("batch_shape(2)", |x, _| tree::batch_shape(x, &[2])),
        ("random_like", |x, _| {
            tree::random_like(Key::from(7), x, |key, shape, dtype| key.normal(shape, dtype))
        }),
    ]
}

fn to_numbers() -> Vec<ToNumber> {
    vec![
        ("sum", |x, _| tree::sum(x)),
        ("max", |x, _| tree::max(x)),
        ("min", |x, _| tree::min(x)),
        ("vdot", tree::vdot),
        ("norm", |x, _| tree::norm(x, Order::L2)),
        ("norm(1)", |x, _| tree::norm(x, Order::L1)),
        ("norm(inf)", |x, _| tree::norm(x, Order::Inf)),
    ]
}

fn fixture() -> Value {
    fixture!("trees.json")
}

#[test]
fn values_and_gradients() {
    let fixture = fixture();
    let (x, y) = (pair(&fixture["x"], DType::F64), pair(&fixture["y"], DType::F64));
    for (name, call) in to_trees() {
        let expected = &fixture["tree"][name];
        // What does not depend on the tree has zeros for a gradient, and no graph.
        let constant = numbers(&expected["grad"]).iter().all(|&grad| grad == 0.);
        if constant {
            assert_close(&tree_values(&call(&x, &y).unwrap()), &numbers(&expected["value"]), F64, name);
        } else {
            assert_graded(|x| call(x, &y), &x, expected, F64, name);
        }
    }
    for (name, call) in to_numbers() {
        assert_graded(
            |x| Ok((Leaf::<Parameter>::new(call(x, &y)?)?,)),
            &x,
            &fixture["tree"][name],
            F64,
            name,
        );
    }
}

#[test]
fn every_fixture_case_is_tested() {
    let expected: BTreeSet<_> = fixture()["tree"].as_object().unwrap().keys().cloned().collect();
    let trees = to_trees().into_iter().map(|case| case.0.to_owned());
    assert_eq!(
        trees.chain(to_numbers().into_iter().map(|case| case.0.to_owned())).collect::<BTreeSet<_>>(),
        expected
    );
}

/// Inside of a leaf ties share the gradient equally, as in JAX. Between leaves Optax halves from pair to
/// pair, here the leaves that tie share equally too: for two leaves it is the same.
#[test]
fn ties_share_the_gradient() {
    let fixture = &fixture()["tree_of_ties"];
    let x = pair(&fixture["x"], DType::F64);
    assert_graded(|x| Ok((Leaf::<Parameter>::new(tree::max(x)?)?,)), &x, &fixture["max"], F64, "max");
    assert_graded(|x| Ok((Leaf::<Parameter>::new(tree::min(x)?)?,)), &x, &fixture["min"], F64, "min");
}

#[test]
fn empty_trees() {
    let fixture = &fixture()["tree_of_nothing"];
    let nothing: Vec<Leaf<Parameter>> = Vec::new();
    let empty = vec![Leaf::<Parameter>::new(Tensor::zeros((0, 3), DType::F32, device()).unwrap()).unwrap()];
    for none in [&nothing, &empty] {
        assert_eq!(values(&tree::sum(none).unwrap()), numbers(&fixture["sum"]));
        assert_eq!(values(&tree::vdot(none, none).unwrap()), numbers(&fixture["vdot"]));
        assert_eq!(values(&tree::max(none).unwrap()), numbers(&fixture["max"]));
        assert_eq!(values(&tree::min(none).unwrap()), numbers(&fixture["min"]));
        assert_eq!(values(&tree::norm(none, Order::L2).unwrap()), [0.]);
        assert_eq!(tree::size(none), 0);
    }
}

#[test]
fn element_types() {
    let leaf = |dtype| {
        Leaf::<Parameter>::new(Tensor::new(&[1f32, -2.], device()).unwrap().to_dtype(dtype).unwrap()).unwrap()
    };
    let mixed = (leaf(DType::BF16), leaf(DType::F64));
    assert_eq!(tree::sum(&mixed).unwrap().dtype(), DType::F64);
    assert_eq!(tree::sum(&mixed.filter(path("0"))).unwrap().dtype(), DType::F32);
    assert_eq!(values(&tree::vdot(&mixed, &mixed).unwrap()), [10.]);
    let dtypes = |tree: &Pair| tree.flatten().tensors().map(Tensor::dtype).collect::<Vec<_>>();
    assert_eq!(dtypes(&tree::add_scale(&mixed, 0.5, &mixed).unwrap()), [DType::BF16, DType::F64]);
    let floats = tree::cast(&mixed, DType::F32).unwrap();
    assert_eq!(dtypes(&floats), [DType::F32; 2]);
    assert_eq!(dtypes(&tree::cast_like(&floats, &mixed).unwrap()), [DType::BF16, DType::F64]);
    assert_eq!(tree::size(&mixed), 4);
}

/// 0.1 in f32, 2 million times: in a single sum, the error is in the third digit.
#[test]
fn long_sums_keep_their_digits() {
    let many = Leaf::<Parameter>::new(Tensor::full(0.1f32, 2_000_003, device()).unwrap()).unwrap();
    let expected = 2_000_003. * f64::from(0.1f32);
    assert_close(&values(&tree::sum(&many).unwrap()), &[expected], 1e-6 * expected, "sum");
}

#[test]
fn allclose_compares_with_tolerances() {
    let leaf = |values: &[f32]| Leaf::<Parameter>::new(Tensor::new(values, device()).unwrap()).unwrap();
    let (a, b) = (leaf(&[1., f32::INFINITY]), leaf(&[1.001, f32::INFINITY]));
    assert!(tree::allclose(&a, &b, 1e-2, 0.).unwrap() && tree::allclose(&a, &b, 0., 1e-2).unwrap());
    assert!(!tree::allclose(&a, &b, 1e-5, 1e-8).unwrap());
    assert!(!tree::allclose(&leaf(&[f32::NAN]), &leaf(&[f32::NAN]), 1., 1.).unwrap());
    assert!(tree::add(&a, &leaf(&[1.])).is_err());
}

/// What treex makes of a tree inside of a function stays in its graph, or is an error: outputs of parts that are joined, and
/// the parameters that an optimizer keeps for evaluation.
#[test]
fn trees_that_are_made_inside_of_a_function_have_gradients() {
    let leaf = |values: &[f64]| Leaf::<Parameter>::new(Tensor::new(values, device()).unwrap()).unwrap();
    let number = |leaf: &Leaf<Parameter>| values(&leaf.get().unwrap());
    let mut w = leaf(&[3.]);
    let xs = Tensor::new(&[1f64, 2.], device()).unwrap();
    let (_, grad) = w
        .value_and_grad(Parameter, |w| {
            let part = |x: &[Tensor]| w.map(|w| Ok((w * &x[0])?));
            let all = microbatch(std::slice::from_ref(&xs), 1, Accumulator::Concat, part)?;
            Ok((all.get()?.sum_all()? + w.get()?.sum_all()?)?)
        })
        .unwrap();
    assert_eq!(number(&grad), [4.]);

    let mut optimizer = Optimizer::new(schedule_free_sgd(0.1)).init(&w).unwrap();
    for _ in 0..3 {
        optimizer.update(&leaf(&[1.]), &mut w).unwrap();
    }
    let loss = |w: &mut Leaf<Parameter>| Ok((optimizer.eval_model(w)?.get()? + w.get()?)?.sum_all()?);
    let error = w.value_and_grad(Parameter, loss).unwrap_err();
    assert!(error.kind() == ErrorKind::Gradient, "the average depends on the parameters: {error}");
}
