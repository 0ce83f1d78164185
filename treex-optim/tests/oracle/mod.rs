//! What the tests that read numbers of an outside oracle share.

#![allow(dead_code)] // each of them needs a part

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// What Optax itself computed, in f64: `fixtures/optax.json`, written by `fixtures/optax.py`.
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
