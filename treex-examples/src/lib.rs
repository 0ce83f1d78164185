//! What the programs share: their one common argument, and plotting.

pub mod plot;

use clap::Parser;

/// The argument that every program takes.
#[derive(Clone, Copy, Debug, Parser)]
pub struct Args {
    /// Stop after this many steps.
    #[arg(long)]
    pub steps: Option<usize>,
}

/// The number of steps to run: `default` unless the command line says otherwise.
#[must_use]
pub fn steps(default: usize) -> usize {
    Args::parse().steps.unwrap_or(default)
}

/// The READMEs of the packages, compiled and run with the tests: here, where every library can be named. The root's
/// README is the front page of the facade, whose tests run it.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../treex-core/README.md")]
    struct Core;
    #[doc = include_str!("../../treex-core/derive/README.md")]
    struct Derive;
    #[doc = include_str!("../../treex-nn/README.md")]
    struct Nn;
    #[doc = include_str!("../../treex-optim/README.md")]
    struct Optim;
}
