//! Stacks of layers.

use candle_core::{Module as _, Tensor};
use treex_core::Error;
use treex_nn::{BatchApply, Linear, Mlp, Sequential, sequential, tanh};

use crate::case::{Case, Subject, module, subject, usize_of};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/stacks.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Mlp" => {
            assert_eq!(case.config("activation"), "relu");
            module(Mlp::new(case.sizes("features")))
        }
        "Sequential" => {
            let layers = case.config("layers").as_array().unwrap();
            module(layers.iter().fold(
                Sequential::new(),
                |model, layer| match layer["layer"].as_str().unwrap() {
                    "Linear" => model.add(Linear::new(usize_of(&layer["in"]), usize_of(&layer["features"]))),
                    "tanh" => model.add_fn(tanh),
                    other => panic!("no layer {other}"),
                },
            ))
        }
        "sequential" => {
            let layers = case.config("layers").as_array().unwrap();
            let linear = |index: usize| {
                let layer = &layers[index];
                Linear::new(usize_of(&layer["in"]), usize_of(&layer["features"]))
            };
            assert_eq!((layers.len(), &layers[1]["layer"]), (3, &"tanh".into()));
            module(sequential((linear(0), tanh, linear(2))))
        }
        "BatchApply" => {
            let linear = Linear::new(case.usize("in"), case.usize("features"));
            let applied = BatchApply::new(linear).num_dims(case.usize("num_dims"));
            subject(applied, |applied, inputs| {
                let call = |linear: &mut Linear, rows: &[Tensor]| match rows[0].rank() {
                    2 => Ok(linear.forward(&rows[0])?),
                    rank => Err(Error::shape("not merged").found(rank)),
                };
                Ok(vec![applied.call_with(&[&inputs[0]], call)?])
            })
        }
        other => panic!("no layer {other}"),
    }
}
