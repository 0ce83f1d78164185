//! Shared by the tests against an outside oracle.

#![allow(dead_code)] // each of them needs a part

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, prelude::*};

/// Optax's values, in f64: `fixtures/optax.json`, written by `fixtures/optax.py`.
pub(crate) fn optax() -> Value {
    serde_json::from_str(include_str!("../fixtures/optax.json")).unwrap()
}

/// Nested lists as a tensor.
pub(crate) fn tensor(value: &Value) -> Tensor {
    let (mut dims, mut inner) = (Vec::new(), value);
    while let Some(rows) = inner.as_array() {
        dims.push(rows.len());
        inner = &rows[0];
    }
    Tensor::from_vec(numbers(value), dims, &Device::Cpu).unwrap()
}

/// The numbers in nested lists, in order. JSON has no infinity, so those are `"inf"`, `"-inf"` and `"nan"`.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::String(text) => vec![text.parse().unwrap()],
        Value::Bool(truth) => vec![f64::from(u8::from(*truth))],
        number => vec![number.as_f64().unwrap()],
    }
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Equal up to `tolerance`; infinities and NaN where they are expected and nowhere else.
#[track_caller]
pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let equal = found == expected || found.is_nan() && expected.is_nan();
        assert!(equal || (found - expected).abs() <= tolerance, "{what}, {index}: {found} is not {expected}");
    }
}

/// How far `found` is from `expected`, in units of the largest absolute value, at least 1.
pub(crate) fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1f64, |largest, value| largest.max(value.abs()));
    let apart = |(a, b): (&f64, &f64)| if a == b || a.is_nan() && b.is_nan() { 0. } else { (a - b).abs() };
    let apart = |pair| Some(apart(pair)).filter(|apart| !apart.is_nan()).unwrap_or(f64::INFINITY);
    found.iter().zip(expected).map(apart).fold(0., f64::max) / largest
}

/// The fixtures' tree: a pair of leaves.
pub(crate) type Pair = (Leaf<Parameter>, Leaf<Parameter>);

pub(crate) fn pair(leaves: &Value, dtype: DType) -> Pair {
    let leaf = |index: usize| Leaf::new(tensor(&leaves[index]).to_dtype(dtype).unwrap()).unwrap();
    (leaf(0), leaf(1))
}

/// All numbers of a tree, in order.
pub(crate) fn tree_values(tree: &impl Tree) -> Vec<f64> {
    tree.flatten().tensors().flat_map(values).collect()
}

/// A value, and the gradient of the sum of its numbers, each times its place counted from 1.
pub(crate) fn assert_graded<O: Tree>(
    call: impl Fn(&Pair) -> Result<O>,
    x: &Pair,
    expected: &Value,
    tolerance: f64,
    what: &str,
) {
    assert_close(&tree_values(&call(x).unwrap()), &numbers(&expected["value"]), tolerance, what);
    let weighted = |x: &mut Pair| {
        let (mut sum, mut place) = (None, 1.);
        for value in call(x)?.flatten().tensors() {
            let next = place + value.elem_count() as f64;
            let weights = Tensor::arange(place, next, &Device::Cpu)?.to_dtype(value.dtype())?;
            let part = (value.flatten_all()? * weights)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => (part + sum)?,
                None => part,
            });
            place = next;
        }
        Ok(sum.unwrap())
    };
    let (_, grads) = x.clone().value_and_grad(Parameter, weighted).unwrap();
    assert_close(&tree_values(&grads), &numbers(&expected["grad"]), tolerance, &format!("{what}, gradient"));
}
