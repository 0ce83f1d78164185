//! Differentiation inside of differentiation: gradients that can be differentiated again.
//!
//! Candle's backward rules are Candle operations, so a gradient can be a part of the graph. Three things stand in the way,
//! and this file and `keeper` remove them:
//!
//! - Candle detaches what its backward pass computes, except on a thread that keeps the graph ([`keeper`]);
//! - kernels compute gradients outside of any graph. So a function that is differentiated inside of another runs the
//!   reference compositions ([`forward`]), and an operation whose backward pass is not differentiable is an error there;
//! - operations save detached tensors. [`saved`] keeps the graph where it is needed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};

use super::keeper;
use super::reference::{with_reference, with_value};
use crate::enter_device;
use crate::error::Result;

/// Instances of operations are numbered, so that a backward pass knows which were made inside of its function.
static INSTANCES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether the function that runs is differentiated inside of another.
    static NESTED: Cell<bool> = const { Cell::new(false) };
    /// In a backward pass whose gradients stay in the graph: the first instance made inside of its function.
    static FIRST: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(crate) fn next_instance() -> u64 {
    INSTANCES.fetch_add(1, Ordering::Relaxed)
}

/// Where an instance of an operation was made, in a backward pass whose gradients stay in the graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Before the function that is differentiated: its inputs are constants here.
    Before,
    Inside,
}

/// `None` in a backward pass of first order.
pub(super) fn origin(instance: u64) -> Option<Origin> {
    FIRST.get().map(|first| if instance < first { Origin::Before } else { Origin::Inside })
}

/// Whether the function that runs on this thread is differentiated inside of another. Operations then take their
/// reference compositions, and what they save stays in the graph.
#[must_use]
pub fn is_nested() -> bool {
    NESTED.get()
}

/// What an operation saves of an input for its backward pass: `x` outside of any graph, or `x` itself where the gradient
/// will be differentiated.
#[must_use]
pub fn saved(x: &Tensor) -> Tensor {
    if is_nested() || FIRST.get().is_some() { x.clone() } else { x.detach() }
}

/// Runs the function that is differentiated.
pub(crate) fn forward<R>(is_nested: bool, f: impl FnOnce() -> R) -> R {
    if is_nested { with_value(&NESTED, true, || with_reference(f)) } else { f() }
}

/// Runs a backward pass whose gradients stay in the graph, on a thread on which Candle keeps it; `first` is the first
/// instance made inside of the function, `device` that of its value.
///
/// # Errors
/// If no thread keeps the graph; the error of `f`.
pub(crate) fn backward<R: Send + 'static>(
    first: u64,
    device: &Device,
    f: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    let device = device.clone();
    keeper::run(move || {
        enter_device(&device)?;
        with_value(&FIRST, Some(first), || forward(true, f))
    })
}
