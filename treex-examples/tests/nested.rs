//! Derivatives of whole models, of first and second order, as JAX computes them: `fixtures/nested.json`, written by
//! `nested.py` beside it.
//!
//! A `main` of its own: the thread that keeps the graph is started before any other.

#![allow(clippy::unwrap_used)] // a test says where it failed

use candle_core::{DType, Device, Tensor};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use treex_core::{
    Parameter, enable_nested_gradients, grad, hessian, hvp, jvp, per_example_grads, prelude::*,
    value_and_grad, vjp,
};
use treex_nn::{
    BatchNorm, Conv, LayerNorm, Linear, LstmCell, MultiHeadDotProductAttention, Padding, RmsNorm, Rnn,
    gelu_with, log_softmax, make_causal_mask, max_pool, prelude::*, silu,
};
use treex_optim::{Optimizer, sgd};
use treex_testing::compare::{distance, values};
use treex_testing::fixture;
use treex_testing::oracle::numbers;

/// Relative to the largest number, in `f64`.
const TOLERANCE: f64 = 1e-12;

#[derive(Clone, Debug, TreeObject)]
struct Mlp {
    first: Linear,
    norm: LayerNorm,
    last: Linear,
}

impl Module for Mlp {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm.call(&gelu_with(&self.first.call(x)?, false)?)?;
        log_softmax(&self.last.call(&x)?, 1)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Cnn {
    conv: Conv,
    norm: BatchNorm,
    last: Linear,
}

impl Module for Cnn {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = silu(&self.norm.call(&self.conv.call(x)?)?)?;
        let x = max_pool(&x, [2, 2], [2, 2], Padding::Valid)?;
        self.last.call(&x.flatten_from(1)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Attention {
    attention: MultiHeadDotProductAttention,
    norm: RmsNorm,
}

impl Module for Attention {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let mask = make_causal_mask(&x.detach().narrow(2, 0, 1)?.squeeze(2)?, 0)?;
        self.norm.call(&self.attention.call_with(x, x, x, Some(&mask))?)
    }
}

fn read(numbers_of: &Value, shape: &[usize]) -> Tensor {
    Tensor::from_vec(numbers(numbers_of), shape, &Device::Cpu).unwrap()
}

/// The tree with the leaves of a fixture.
fn with_leaves<M: Tree>(model: &M, leaves: &Value) -> M {
    let mut model = model.clone();
    for mut leaf in model.leaves_mut() {
        if let Some(value) = leaves.get(leaf.path().to_string()) {
            let shape = leaf.handle().shape().unwrap().clone();
            leaf.handle().write(&read(value, shape.dims())).unwrap();
        }
    }
    model
}

/// The distance of a tree's leaves from those of a fixture, each relative to the largest number of all.
fn assert_tree<M: Tree>(found: &M, expected: &Value, what: &str) {
    let (mut all, mut wanted) = (Vec::new(), Vec::new());
    for (path, _, leaf) in found.leaves() {
        all.extend(values(leaf.value().unwrap()));
        wanted.extend(numbers(&expected[path.to_string()]));
    }
    assert_eq!(
        all.len(),
        expected.as_object().unwrap().values().map(|leaf| numbers(leaf).len()).sum::<usize>()
    );
    let far = distance(&all, &wanted);
    assert!(far < TOLERANCE, "{what}: {far:e}");
}

fn assert_numbers(found: &[f64], expected: &Value, what: &str) {
    let far = distance(found, &numbers(expected));
    assert!(far < TOLERANCE, "{what}: {far:e}");
}

/// Every derivative of one model.
fn check<M: Module + Tree>(model: M, name: &str) {
    let fixture: Value = fixture!("nested.json");
    let case = &fixture[name];
    let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|n| *n as usize).collect();
    let x = read(&case["x"], &shape);
    let model = model.init_with(0, &x).unwrap().into_dtype(DType::F64).unwrap();
    let model = with_leaves(&model, &case["params"]);
    let v = with_leaves(&model, &case["v"]);
    let value = model.clone().call(&x).unwrap();
    let weights = read(&case["weights"], value.dims());

    let loss = |model: &mut M| Ok((model.call(&x)?.sqr()? * &weights)?.sum_all()?);
    let (by_kernels, gradient) = value_and_grad(&model, loss).unwrap();
    assert_numbers(&values(&by_kernels), &case["loss"], "loss");
    assert_tree(&gradient.filter(Parameter), &case["gradient"], "gradient");

    let (same, gradient, product) = hvp(&model, Parameter, loss, &v).unwrap();
    assert_numbers(&values(&same), &case["loss"], "loss of hvp");
    assert_tree(&gradient, &case["gradient"], "gradient of hvp");
    assert_tree(&product, &case["hvp"], "hvp");

    let (_, tangent) = jvp(&model, Parameter, |model| model.call(&x), &v).unwrap();
    assert_numbers(&values(&tangent), &case["jvp"], "jvp");
    let (_, pullback) = vjp(&model, Parameter, |model| model.call(&x)).unwrap();
    assert_tree(&pullback.call(&weights).unwrap(), &case["vjp"], "vjp");

    let penalty = |model: &mut M| -> Result<Tensor> {
        let (_, gradient) = model.value_and_grad(Parameter, loss)?;
        let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu)?;
        gradient.map(|g| {
            sum = (&sum + g.sqr()?.sum_all()?)?;
            Ok(g.clone())
        })?;
        Ok(sum)
    };
    assert_tree(&grad(&model, penalty).unwrap().filter(Parameter), &case["penalty"], "penalty");

    // A step of an optimizer writes in place, which would cut the gradients.
    let cut = grad(&model, |model| {
        let mut inner = model.clone();
        let mut optimizer = Optimizer::new(sgd(0.01)).init(&inner)?;
        let (_, gradient) = inner.value_and_grad(Parameter, loss)?;
        optimizer.update(&gradient, &mut inner)?;
        loss(&mut inner)
    });
    assert!(cut.is_err_and(|error| error.to_string().contains("zip_map")));

    let step = |model: &mut M| -> Result<M> {
        let (_, gradient) = model.clone().value_and_grad(Parameter, loss)?;
        model.zip_map(&gradient, |p, g| Ok((p - (g * 0.01)?)?))
    };
    let maml = grad(&model, |model| loss(&mut step(&mut step(model)?)?)).unwrap();
    assert_tree(&maml.filter(Parameter), &case["maml"], "maml");

    let matrix = hessian(&model, Parameter, loss).unwrap().matrix().unwrap();
    let trace = (matrix.to_vec2::<f64>().unwrap().iter().enumerate()).map(|(at, row)| row[at]).sum::<f64>();
    assert_numbers(&[trace], &case["trace"], "trace of the Hessian");
    assert_numbers(&values(&matrix.sqr().unwrap().sum_all().unwrap()), &case["frobenius"], "the Hessian");

    let of_one = weights.narrow(0, 0, 1).unwrap();
    let each = |model: &mut M, x: &[Tensor]| Ok((model.call(&x[0])?.sqr()? * &of_one)?.sum_all()?);
    let (_, examples) = per_example_grads(&model, Parameter, std::slice::from_ref(&x), each).unwrap();
    assert_tree(&examples, &case["per_example"], "per example");
}

fn mlp() {
    check(Mlp { first: Linear::new(2, 4), norm: LayerNorm::new(4), last: Linear::new(4, 3) }, "mlp");
}

fn cnn() {
    let conv = Conv::new(1, 3, [3, 3]);
    check(Cnn { conv, norm: BatchNorm::new(3), last: Linear::new(12, 2) }, "cnn");
}

fn attention() {
    let attention = MultiHeadDotProductAttention::new(2, 2).qkv_features(4);
    check(Attention { attention, norm: RmsNorm::new(2) }, "attention");
}

fn lstm() {
    check(Rnn::new(LstmCell::new(2, 3)), "lstm");
}

fn main() {
    enable_nested_gradients().unwrap();
    let tests: [(&str, fn()); 4] = [("mlp", mlp), ("cnn", cnn), ("attention", attention), ("lstm", lstm)];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}
