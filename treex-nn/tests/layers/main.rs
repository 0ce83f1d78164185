//! The contract of the layers: a table of cases that Flax computed (`fixtures/layers/*.json`, written by the
//! scripts beside them), and one check for every layer. A family is a file here with its fixture and a
//! function that builds the layer of a case; a layer is an arm in it.

#![allow(clippy::unwrap_used)]

mod attention;
mod case;
mod contract;
mod conv;
mod dtypes;
mod functions;
mod initial;
mod linear;
mod norm;
mod not_finite;
mod pooling;
mod recurrent;
mod sizes;
mod stacks;

use std::collections::BTreeSet;

use case::{Case, Subject};
use contract::{Tolerances, check};
use treex_core::Result;
use treex_nn::*;
use treex_testing::{NO_ELEMENTS, skip};

/// Checks all cases of a fixture, which must cover exactly these layers.
fn check_family(
    fixture: &str,
    layers: &[&str],
    build: fn(&Case) -> Box<dyn Subject>,
    tolerances: Tolerances,
) -> Result<()> {
    check_cases(fixture, layers, build, |_| tolerances)
}

/// [`check_family`] with tolerances for each case.
fn check_cases(
    fixture: &str,
    layers: &[&str],
    build: fn(&Case) -> Box<dyn Subject>,
    tolerances: impl Fn(&Case) -> Tolerances,
) -> Result<()> {
    let cases = Case::all(fixture);
    let found: BTreeSet<_> = cases.iter().map(|case| case.layer.as_str()).collect();
    assert_eq!(found, layers.iter().copied().collect());
    let is_skipped = |case: &Case| case.has_no_elements() || case.name == "conv: cropped to zeros alone";
    let runs = |case: &&Case| !(is_skipped(case) && skip(&case.name, NO_ELEMENTS));
    for case in cases.iter().filter(runs) {
        check(case, build, tolerances(case)).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
    Ok(())
}

#[test]
fn linear_layers() -> Result<()> {
    check_family(
        linear::FIXTURE,
        &["Linear", "DenseGeneral", "Einsum", "Embed"],
        linear::build,
        Tolerances::default(),
    )
}

#[test]
fn convolutions() -> Result<()> {
    check_family(conv::FIXTURE, &["Conv", "ConvLocal", "ConvTranspose"], conv::build, Tolerances::default())
}

#[test]
fn attention_layers() -> Result<()> {
    let layers =
        ["dot_product_attention", "dot_product_attention_weights", "Rotary", "MultiHeadDotProductAttention"];
    // The gradient of scores is a small difference of larger numbers.
    let tolerances = Tolerances { bf16: Some(1e-1), ..Tolerances::default() };
    check_family(attention::FIXTURE, &layers, attention::build, tolerances)
}

#[test]
fn normalizations() -> Result<()> {
    // Differences of nearly equal inputs: half precision rounds them away before the layer sees them.
    let cancelling =
        |case: &Case| ["far from zero", "batch of one"].iter().any(|what| case.name.contains(what));
    let only_wide = Tolerances { f16: None, bf16: None, ..Tolerances::default() };
    check_cases(norm::FIXTURE, norm::LAYERS, norm::build, |case| {
        if cancelling(case) { only_wide } else { Tolerances::default() }
    })
}

#[test]
fn poolings() -> Result<()> {
    check_family(pooling::FIXTURE, &["pool"], pooling::build, Tolerances::default())
}

#[test]
fn activations_with_parameters() -> Result<()> {
    let build = |_: &Case| case::module(PRelu::new());
    check_family(include_str!("../fixtures/layers/prelu.json"), &["PRelu"], build, Tolerances::default())
}

#[test]
fn recurrent_layers() -> Result<()> {
    let layers = [
        "SimpleCell",
        "LSTMCell",
        "OptimizedLSTMCell",
        "GRUCell",
        "MGUCell",
        "ConvLSTMCell",
        "RNN",
        "Bidirectional",
    ];
    // Rounding errors accumulate over the steps.
    let tolerances = Tolerances { bf16: Some(1e-1), ..Tolerances::default() };
    check_family(recurrent::FIXTURE, &layers, recurrent::build, tolerances)
}

#[test]
fn stacks_of_layers() -> Result<()> {
    check_family(
        stacks::FIXTURE,
        &["Mlp", "Sequential", "sequential", "BatchApply"],
        stacks::build,
        Tolerances::default(),
    )
}

#[test]
fn layers_are_send_and_sync() {
    fn send_sync<T: Send + Sync + Clone + std::fmt::Debug>() {}
    send_sync::<Linear>();
    send_sync::<DenseGeneral>();
    send_sync::<Einsum>();
    send_sync::<Embed>();
    send_sync::<Conv>();
    send_sync::<ConvLocal>();
    send_sync::<ConvTranspose>();
    send_sync::<BatchNorm>();
    send_sync::<Dropout>();
    send_sync::<Mlp>();
    send_sync::<Sequential>();
    send_sync::<Sequential<(Linear, Lambda)>>();
    send_sync::<BatchApply<Linear>>();
    send_sync::<Remat<Linear>>();
    send_sync::<ScanBlocks<Linear>>();
    send_sync::<Flatten>();
    send_sync::<Lambda>();
    send_sync::<MultiHeadDotProductAttention>();
    send_sync::<Bidirectional<LstmCell, ConvLstmCell>>();
    send_sync::<PRelu>();
    send_sync::<LayerNorm>();
    send_sync::<RmsNorm>();
    send_sync::<GroupNorm>();
    send_sync::<InstanceNorm>();
    send_sync::<SpectralNorm<Linear>>();
    send_sync::<WeightNorm<Linear>>();
}
