//! Linear layers.

use treex_core::prelude::*;
use treex_nn::{DenseGeneral, Einsum, Embed, Linear, initializers::normal};

use crate::case::{Case, Subject, module, subject};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/linear.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Linear" => {
            module(Linear::new(case.usize("in"), case.usize("features")).use_bias(case.bool("use_bias")))
        }
        "DenseGeneral" => module(
            DenseGeneral::new(case.sizes("inputs"), case.sizes("features"))
                .axis(isizes(case, "axis"))
                .batch_dims(isizes(case, "batch_dims"))
                .use_bias(case.bool("use_bias")),
        ),
        "Einsum" => einsum(case),
        "Embed" => {
            let embed = Embed::new(case.usize("num_embeddings"), case.usize("features"));
            match case.config("method").as_str().unwrap() {
                "attend" => subject(embed, |embed, inputs| Ok(vec![embed.attend(&inputs[0])?])),
                _ => module(embed),
            }
        }
        other => panic!("no layer {other}"),
    }
}

fn isizes(case: &Case, key: &str) -> Vec<isize> {
    case.config(key).as_array().unwrap().iter().map(|value| value.as_i64().unwrap() as isize).collect()
}

fn einsum(case: &Case) -> Box<dyn Subject> {
    let (shape, equation) = (case.sizes("shape"), case.config("equation").as_str().unwrap().to_owned());
    let use_bias = case.bool("use_bias");
    // The default initializer needs a kernel of two axes.
    let made = |layer: Einsum| layer.use_bias(use_bias).kernel_init(normal(0.01));
    if !case.bool("with_call") {
        return module(made(Einsum::new(shape, equation)));
    }
    let x = case.tensors("inputs", candle_core::DType::F32).remove(0);
    let layer = made(Einsum::lazy(shape));
    let layer = layer.inferred_by(x.device(), |layer| layer.call_with(&x, &equation)).unwrap();
    subject(layer, move |layer, inputs| Ok(vec![layer.call_with(&inputs[0], &equation)?]))
}
