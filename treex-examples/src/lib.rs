//! Shared by the programs: their common argument, and plotting.

pub mod plot;

use clap::Parser;

/// The argument of every program.
#[derive(Clone, Copy, Debug, Parser)]
pub struct Args {
    /// Stop after this many steps.
    #[arg(long)]
    pub steps: Option<usize>,
}

/// The number of steps from the command line. Default: `default`.
#[must_use]
pub fn steps(default: usize) -> usize {
    Args::parse().steps.unwrap_or(default)
}

/// The READMEs of the packages as doctests: here, where every library is a dependency. The root's README is the front
/// page of the facade, whose tests run it.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../treex-core/README.md")]
    struct Core;
    #[doc = include_str!("../../treex-core/derive/README.md")]
    struct Derive;
    #[doc = include_str!("../../treex-core/kernels/README.md")]
    struct Kernels;
    #[doc = include_str!("../../treex-nn/README.md")]
    struct Nn;
    #[doc = include_str!("../../treex-optim/README.md")]
    struct Optim;
}
