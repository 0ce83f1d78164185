//! Linear layers.

use treex_nn::Linear;

use crate::case::{Case, Subject, module};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/linear.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "Linear" => {
            module(Linear::new(case.usize("in"), case.usize("features")).use_bias(case.bool("use_bias")))
        }
        other => panic!("no layer {other}"),
    }
}
