//! Normalizations.

use treex_core::prelude::*;
use treex_nn::BatchNorm;

use crate::case::{Case, Subject, module};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/norm.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "BatchNorm" => {
            let mut norm = BatchNorm::new(case.usize("features"))
                .axis(case.isize("axis"))
                .momentum(case.f64("momentum"))
                .epsilon(case.f64("epsilon"))
                .use_scale(case.bool("use_scale"))
                .use_bias(case.bool("use_bias"))
                .use_fast_variance(case.bool("use_fast_variance"));
            if !case.bool("train") {
                norm.eval();
            }
            module(norm)
        }
        other => panic!("no layer {other}"),
    }
}
