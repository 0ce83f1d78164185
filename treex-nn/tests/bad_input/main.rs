//! Every public function of treex-nn, and every sampler, with bad input: see [`treex_testing::bad_input`].

#![allow(clippy::unwrap_used)] // a test says where it failed

mod functions;
mod layers;
mod metrics;
mod samplers;

use std::process::ExitCode;

use treex_testing::bad_input::{Exempt, run};

const AN_ORACLE: &str = "not public: exported for tests of operations, whose layers check the shapes";

/// Functions without a row, and why.
const EXEMPT: Exempt = &[
    ("ops::convolution::convolution", AN_ORACLE),
    ("ops::convolution::local_convolution", AN_ORACLE),
    ("ops::embed::rows_of", AN_ORACLE),
    ("ops::embed::rows_on_device", AN_ORACLE),
    ("ops::linear::linear", AN_ORACLE),
    ("ops::norm::normalize", AN_ORACLE),
    ("functional::normalization::Normalization::mean_and_variance", AN_ORACLE),
    ("functional::normalization::Normalization::mean_square", AN_ORACLE),
    ("functional::normalization::Normalization::new", AN_ORACLE),
    ("functional::normalization::Normalization::normalize", AN_ORACLE),
    ("layers::recurrent::cell::Carry::map_tensors", "runs the caller's code"),
    ("layers::recurrent::cell::Carry::tensors", "has no argument"),
    ("layers::recurrent::cell::RnnCell::fused", "has no argument"),
    ("layers::recurrent::cell::RnnCell::num_feature_axes", "has no argument"),
    ("layers::sequential::IntoLayers::into_layers", "converts; `sequential` calls it"),
    ("layers::sequential::IntoModule::into_module", "converts; `sequential` calls it"),
    ("random::Key::fill", "runs the caller's code"),
    ("random::Key::from_words", "has no input that could be wrong"),
    ("random::Key::map", "runs the caller's code"),
    ("random::Key::to_tensor", "has no input that could be wrong"),
    ("random::Key::words", "has no argument"),
    ("random::stream::Rngs::key", "has no input that could be wrong"),
    ("random::stream::Rngs::new", "has no input that could be wrong"),
    ("random::stream::Rngs::stream", "has no input that could be wrong"),
];

fn main() -> ExitCode {
    let rows = [functions::rows(), layers::rows(), metrics::rows(), samplers::rows()]
        .into_iter()
        .flatten()
        .collect();
    run(rows, env!("CARGO_MANIFEST_DIR"), &[("src", ""), ("../treex-core/src/random", "random")], EXEMPT)
}
