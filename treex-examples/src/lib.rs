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

/// The README's tour, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
