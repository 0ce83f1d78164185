//! Stacks of layers.

use treex_nn::{Linear, Mlp, Sequential, tanh};

use crate::case::{Case, Subject, module, usize_of};

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
        other => panic!("no layer {other}"),
    }
}
