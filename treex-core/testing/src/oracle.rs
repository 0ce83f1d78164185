//! Fixtures: numbers that another implementation computed, in JSON.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, prelude::*};

use crate::compare::{assert_close, tree_values};
use crate::device::device;

/// A file of the calling crate's `tests/fixtures/` as [JSON](Value): `fixture!("optax.json")`.
#[macro_export]
macro_rules! fixture {
    ($name:literal) => {
        $crate::oracle::parse(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/", $name)))
    };
}

/// The text of a fixture as JSON.
///
/// # Panics
/// If it is no JSON.
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Nested lists of numbers as a tensor in `f64`.
pub fn tensor(value: &Value) -> Tensor {
    let (mut dims, mut inner) = (Vec::new(), value);
    while let Some(rows) = inner.as_array() {
        dims.push(rows.len());
        inner = &rows[0];
    }
    Tensor::from_vec(numbers(value), dims, device()).unwrap()
}

/// `{"shape": [..], "data": [..], "dtype": ".."}` as a tensor, of the element type `dtype` if it names none.
pub fn typed_tensor(value: &Value, dtype: DType) -> Tensor {
    let shape: Vec<usize> = value["shape"].as_array().unwrap().iter().map(usize_of).collect();
    let dtype = value.get("dtype").map_or(dtype, |own| own.as_str().unwrap().parse().unwrap());
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let numbers = Tensor::from_vec::<_, f64>(data, shape, &Device::Cpu).unwrap();
    numbers.to_dtype(dtype).unwrap().to_device(device()).unwrap()
}

/// A size or a count.
pub fn usize_of(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// The numbers in nested lists, in order. JSON has no infinity, so those are `"inf"`, `"-inf"` and `"nan"`.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::String(text) => vec![text.parse().unwrap()],
        Value::Bool(truth) => vec![f64::from(u8::from(*truth))],
        number => vec![number.as_f64().unwrap()],
    }
}

/// Two leaves: the form of the trees in Optax's fixtures.
pub type Pair = (Leaf<Parameter>, Leaf<Parameter>);

/// A [`Pair`] with the numbers of two nested lists.
pub fn pair(leaves: &Value, dtype: DType) -> Pair {
    let leaf = |index: usize| Leaf::new(tensor(&leaves[index]).to_dtype(dtype).unwrap()).unwrap();
    (leaf(0), leaf(1))
}

/// Compares `call(x)` with `expected["value"]`, and the gradient of the sum of its numbers, times 1, 2, 3 and so on, with
/// `expected["grad"]`.
///
/// # Panics
/// If they differ by more than `tolerance`.
#[track_caller]
pub fn assert_graded<O: Tree>(
    call: impl Fn(&Pair) -> Result<O>,
    x: &Pair,
    expected: &Value,
    tolerance: f64,
    what: &str,
) {
    assert_close(&tree_values(&call(x).unwrap()), &numbers(&expected["value"]), tolerance, what);
    let weighted = |x: &mut Pair| {
        let (mut sum, mut first) = (None, 1.);
        for value in call(x)?.flatten().tensors() {
            let next = first + value.elem_count() as f64;
            let weights = Tensor::arange(first, next, device())?.to_dtype(value.dtype())?;
            let part = (value.flatten_all()? * weights)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => (part + sum)?,
                None => part,
            });
            first = next;
        }
        Ok(sum.unwrap())
    };
    let (_, grads) = x.clone().value_and_grad(Parameter, weighted).unwrap();
    assert_close(&tree_values(&grads), &numbers(&expected["grad"]), tolerance, &format!("{what}, gradient"));
}
