//! Convolutions.

use candle_core::DType;
use serde_json::Value;
use treex_nn::{Conv, Padding};

use crate::case::{Case, Subject, module, tensor_of, usize_of};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/conv.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Conv" => module(conv(case)),
        other => panic!("no layer {other}"),
    }
}

pub(crate) fn padding(value: &Value) -> Padding {
    match value {
        Value::String(name) => match name.as_str() {
            "SAME" => Padding::Same,
            "VALID" => Padding::Valid,
            "CIRCULAR" => Padding::Circular,
            "REFLECT" => Padding::Reflect,
            "CAUSAL" => Padding::Causal,
            other => panic!("no padding {other}"),
        },
        Value::Number(zeros) => zeros.as_u64().map(|zeros| zeros as usize).unwrap().into(),
        pairs => {
            let pair = |pair: &Value| (usize_of(&pair[0]), usize_of(&pair[1]));
            pairs.as_array().unwrap().iter().map(pair).collect::<Vec<_>>().into()
        }
    }
}

fn conv(case: &Case) -> Conv {
    let conv = Conv::new(case.usize("in"), case.usize("features"), case.sizes("kernel_size"))
        .strides(case.sizes("strides"))
        .padding(padding(case.config("padding")))
        .input_dilation(case.sizes("input_dilation"))
        .kernel_dilation(case.sizes("kernel_dilation"))
        .feature_group_count(case.usize("feature_group_count"))
        .use_bias(case.bool("use_bias"));
    match case.config("mask") {
        Value::Null => conv,
        mask => conv.mask(tensor_of(mask, DType::F32)),
    }
}
