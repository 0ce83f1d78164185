//! The element types of outputs are Flax's, for every combination of options, inputs and parameters.

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{Result, prelude::*};
use treex_nn::{
    Carry, GruCell, LstmCell, MguCell, MultiHeadDotProductAttention, RnnCell, SimpleCell, initializers::ones,
};
use treex_testing::device;
use treex_testing::fixture;

/// A layer of the types and options of the case.
macro_rules! layer {
    ($case:ident, $layer:expr) => {{
        let layer = $layer.param_dtype(dtype(&$case["params"]).unwrap());
        match dtype(&$case["dtype"]) {
            Some(dtype) => layer.dtype(dtype),
            None => layer,
        }
        .init(0, device())?
    }};
}

macro_rules! step {
    ($case:ident, $cell:ident) => {{
        let cell = $cell::new(3, 2).kernel_init(ones).recurrent_kernel_init(ones);
        step(layer!($case, cell), &input($case, &[1, 3]))
    }};
}

fn dtype(name: &Value) -> Option<DType> {
    name.as_str().map(|name| name.parse().unwrap())
}

fn input(case: &Value, shape: &[usize]) -> Tensor {
    Tensor::ones(shape, dtype(&case["input"]).unwrap(), device()).unwrap()
}

fn step<C: RnnCell>(mut cell: C, x: &Tensor) -> Result<Vec<DType>> {
    let carry = cell.initialize_carry(0.into(), x)?;
    let (carry, y) = cell.step(&carry, x)?;
    Ok(std::iter::once(&y).chain(carry.tensors()).map(Tensor::dtype).collect())
}

#[test]
fn element_types_as_in_flax() -> Result<()> {
    let fixture = fixture!("layers/dtypes.json");
    for case in fixture["cases"].as_array().unwrap() {
        let found = match case["layer"].as_str().unwrap() {
            "SimpleCell" => step!(case, SimpleCell)?,
            "LSTMCell" => step!(case, LstmCell)?,
            "GRUCell" => step!(case, GruCell)?,
            "MGUCell" => step!(case, MguCell)?,
            "MultiHeadDotProductAttention" => {
                let layer = MultiHeadDotProductAttention::new(2, 4)
                    .kernel_init(ones)
                    .normalize_qk(true)
                    .force_fp32_for_softmax(case["force_fp32_for_softmax"].as_bool().unwrap());
                vec![layer!(case, layer).call(&input(case, &[1, 3, 4]))?.dtype()]
            }
            other => panic!("no layer {other}"),
        };
        let expected = case["outputs"].as_array().unwrap();
        let expected: Vec<_> = expected.iter().map(|name| dtype(name).unwrap()).collect();
        assert_eq!(found, expected, "{case}");
    }
    Ok(())
}
