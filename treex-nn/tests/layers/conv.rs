//! Convolutions.

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_nn::{Conv, ConvLocal, ConvTranspose, Padding};

use crate::case::{Case, Subject, module, tensor_of};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/conv.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Conv" => module(conv(case)),
        "ConvLocal" => module(conv_local(case)),
        "ConvTranspose" => module(conv_transpose(case)),
        other => panic!("no layer {other}"),
    }
}

pub(crate) fn padding(value: &Value) -> Padding {
    let zeros = |zeros: &Value| zeros.as_i64().unwrap() as isize;
    match value {
        Value::String(name) => match name.as_str() {
            "SAME" => Padding::Same,
            "VALID" => Padding::Valid,
            "CIRCULAR" => Padding::Circular,
            "REFLECT" => Padding::Reflect,
            "CAUSAL" => Padding::Causal,
            other => panic!("no padding {other}"),
        },
        Value::Number(_) => zeros(value).into(),
        list => {
            let list = list.as_array().unwrap();
            if list.iter().all(Value::is_number) {
                let [first, second] = list.iter().map(zeros).collect::<Vec<_>>().try_into().unwrap();
                return [first, second].into();
            }
            let pair = |pair: &Value| (zeros(&pair[0]), zeros(&pair[1]));
            list.iter().map(pair).collect::<Vec<_>>().into()
        }
    }
}

fn mask(case: &Case) -> Option<Tensor> {
    Some(case.config("mask")).filter(|mask| !mask.is_null()).map(|mask| tensor_of(mask, DType::F32))
}

fn conv(case: &Case) -> Conv {
    let conv = Conv::new(case.usize("in"), case.usize("features"), case.sizes("kernel_size"))
        .strides(case.sizes("strides"))
        .padding(padding(case.config("padding")))
        .input_dilation(case.sizes("input_dilation"))
        .kernel_dilation(case.sizes("kernel_dilation"))
        .feature_group_count(case.usize("feature_group_count"))
        .use_bias(case.bool("use_bias"));
    match mask(case) {
        None => conv,
        Some(mask) => conv.mask(mask),
    }
}

fn conv_local(case: &Case) -> ConvLocal {
    let conv = ConvLocal::new(case.sizes("input"), case.usize("features"), case.sizes("kernel_size"))
        .strides(case.sizes("strides"))
        .padding(padding(case.config("padding")))
        .input_dilation(case.sizes("input_dilation"))
        .kernel_dilation(case.sizes("kernel_dilation"))
        .use_bias(case.bool("use_bias"));
    match mask(case) {
        None => conv,
        Some(mask) => conv.mask(mask),
    }
}

fn conv_transpose(case: &Case) -> ConvTranspose {
    let conv = ConvTranspose::new(case.usize("in"), case.usize("features"), case.sizes("kernel_size"))
        .strides(case.sizes("strides"))
        .padding(padding(case.config("padding")))
        .kernel_dilation(case.sizes("kernel_dilation"))
        .transpose_kernel(case.bool("transpose_kernel"))
        .use_bias(case.bool("use_bias"));
    match mask(case) {
        None => conv,
        Some(mask) => conv.mask(mask),
    }
}
