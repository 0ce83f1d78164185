//! Every public function with input that cannot be right: sizes of 0, sizes whose products overflow, sizes beyond all
//! memory, short slices, plans of something else. The result is an error that says what was expected, or what the
//! documentation says; never a panic.
//!
//! The functions are read from the sources: one without a row in [`operations`] or [`parts`], and without a reason in
//! [`EXEMPT`], fails the test.

#![allow(clippy::unwrap_used)] // a test says where it failed

mod operations;
mod parts;
mod sources;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::catch_unwind;
use std::path::Path;

use treex_kernels::{Error, Result};

/// The name of a function, and what it does with bad input.
type Row = (&'static str, fn());

/// Half of all numbers: twice this overflows.
const HALF: usize = 1 << (usize::BITS - 1);

/// A number of elements, each of at least 4 bytes, whose bytes are a number but are beyond the addresses of any machine.
const ABSURD: usize = 1 << (usize::BITS - 5);

/// As absurd, but 64 times it is a number.
const ABSURD_64TH: usize = ABSURD >> 5;

const RUNS_THE_CALLERS_CODE: &str =
    "runs the caller's code, and has no argument of its own that could be wrong";
const THE_CALLERS_CODE: &str = "implemented by the caller";
const UNSAFE: &str = "unsafe: what holds for the arguments is the caller's promise";

/// Functions without a row, and why.
const EXEMPT: &[(&str, &str)] = &[
    (
        "fill::Fill::write",
        "documented to panic for a piece that is not inside of its buffer: it is the inner loop",
    ),
    ("fill::filled", UNSAFE),
    ("gather_gemm::Offsets::at", UNSAFE),
    ("gather_gemm::Product::write", UNSAFE),
    ("isa::Isa::available", "has no argument"),
    ("isa::Isa::best", "has no argument"),
    ("isa::Isa::run", RUNS_THE_CALLERS_CODE),
    ("isa::Kernel::run", THE_CALLERS_CODE),
    ("isa::dispatch", RUNS_THE_CALLERS_CODE),
    ("isa::dispatch_256", RUNS_THE_CALLERS_CODE),
    ("output::Output::finish", UNSAFE),
    ("output::Output::row", UNSAFE),
    ("random::sampler::Sampler::sample", THE_CALLERS_CODE),
    ("vector::Vector::load", UNSAFE),
    ("vector::Vector::load_part", UNSAFE),
    ("vector::Vector::mul_add", UNSAFE),
    ("vector::Vector::splat", UNSAFE),
    ("vector::Vector::store", UNSAFE),
    ("vector::Vector::store_part", UNSAFE),
    ("vector::Vector::zip", UNSAFE),
    ("vector::VectorKernel::run", UNSAFE),
    ("vector::Vectors::dispatch", RUNS_THE_CALLERS_CODE),
    ("vector::Vectors::dispatch_on", RUNS_THE_CALLERS_CODE),
    ("vector::Vectors::registers", "has no argument"),
];

/// Asserts an error that says what was expected and what was found.
#[track_caller]
fn refused<T: Debug>(result: Result<T>) {
    match result {
        Err(Error::Shape { expected, found, .. }) => assert!(!expected.is_empty() && !found.is_empty()),
        Err(error) => panic!("an error of memory, not of sizes: {error}"),
        Ok(value) => panic!("no error: {value:?}"),
    }
}

/// Asserts the error of memory that cannot be allocated.
#[track_caller]
fn too_large<T: Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
}

#[test]
fn bad_input_is_an_error() {
    let rows = || operations::ROWS.iter().chain(parts::ROWS);
    let failed: Vec<&str> =
        rows().filter(|(_, row)| catch_unwind(row).is_err()).map(|(name, _)| *name).collect();
    assert!(failed.is_empty(), "of these a row fails, see above: {failed:#?}");
}

#[test]
fn every_public_function_has_a_row() {
    let public = sources::public_functions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(public.len() > 100, "the sources were not understood: {public:?}");
    let rows: Vec<&str> = operations::ROWS.iter().chain(parts::ROWS).map(|(name, _)| *name).collect();
    let exempt: Vec<&str> = EXEMPT.iter().map(|(name, _)| *name).collect();
    let listed: BTreeSet<String> = rows.iter().chain(&exempt).map(|name| (*name).to_string()).collect();
    assert_eq!(listed.len(), rows.len() + exempt.len(), "a function is listed twice");
    let missing: Vec<_> = public.difference(&listed).collect();
    assert!(missing.is_empty(), "functions without a row: {missing:#?}");
    let stale: Vec<_> = listed.difference(&public).collect();
    assert!(stale.is_empty(), "rows of functions that are no more: {stale:#?}");
    assert!(EXEMPT.iter().all(|(_, reason)| !reason.is_empty()));
}
