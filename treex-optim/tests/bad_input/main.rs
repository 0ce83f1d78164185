//! Every loss, projection and function of linear algebra with bad input: see [`treex_testing::bad_input`].

#![allow(clippy::unwrap_used)] // a test says where it failed

mod linear_algebra;
mod losses;
mod projections;

use std::process::ExitCode;

use treex_testing::bad_input::{Exempt, Sources, run};

const SOURCES: &[Sources] =
    &[("src/losses", "losses"), ("src/projections", "projections"), ("src/linear_algebra", "linear_algebra")];

/// Functions without a row, and why.
const EXEMPT: Exempt = &[("losses::tree::Outputs::at", "finds a tensor by a path; `Loss::on` calls it")];

fn main() -> ExitCode {
    let rows = [losses::rows(), projections::rows(), linear_algebra::rows()].into_iter().flatten().collect();
    run(rows, env!("CARGO_MANIFEST_DIR"), SOURCES, EXEMPT)
}
