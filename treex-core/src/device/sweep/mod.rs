//! Elementwise functions over many tensors in one launch: the step of an optimizer over all of its leaves.

#[cfg(feature = "cuda")]
mod cuda;
mod part;
#[cfg(any(feature = "cuda", test))]
mod source;
#[cfg(any(feature = "cuda", test))]
mod table;

use std::ops::Range;

use candle_core::Tensor;
use treex_kernels::expression::{Expression, Source};

use crate::capture::phase::{Phase, phase};
use crate::capture::plan::{self, Constants};
#[cfg(not(feature = "cuda"))]
use crate::device::without_cuda::no_kernels;
use crate::error::{Error, Result};

pub use part::{Part, Program};

/// Runs the programs of all parts, in one launch for about 500 of them. What has no memory or cannot be
/// compiled fails before the first element is written.
///
/// Tensors and leaves of different parts may share memory: what one part writes another one reads as it was before.
///
/// # Errors
/// If a tensor is not [supported](super::supports) or not on the device of the others; if the numbers of elements, or those of a
/// program's inputs and values, differ; if memory cannot be allocated or the kernel not be compiled.
pub fn sweep(parts: Vec<Part<'_>>) -> Result<()> {
    check(&parts, |part| part.leaves.len() + usize::from(part.output.is_some()))?;
    if phase() == Phase::LookingAhead {
        return Ok(());
    }
    #[cfg(feature = "cuda")]
    return cuda::sweep(parts);
    #[cfg(not(feature = "cuda"))]
    if parts.is_empty() { Ok(()) } else { Err(no_kernels()) }
}

/// A number for each range of parts, as a tensor in `F64` that stays on the device: the function of the sums over all
/// elements of these parts. The values of a program are the terms of a sum each, and the inputs of the range's function are
/// their sums. Two launches for about 500 parts; the same bits each time.
///
/// Where all programs are [fixed](Program::fixed), so are the functions. A thread sums in the type of the program, and all threads in `F64`.
///
/// # Errors
/// As [`sweep`], and if parts have leaves or an output, or other numbers of terms; if there is not one function for each
/// range, or two differ in more than their constants.
pub fn sums(parts: Vec<Part<'_>>, ranges: &[Range<usize>], functions: &[Expression]) -> Result<Tensor> {
    let terms = parts.first().map_or(0, |part| part.program.source.values.len());
    check(&parts, |_| terms)?;
    let writes = |part: &Part<'_>| !part.leaves.is_empty() || part.output.is_some();
    let functions: Vec<_> =
        functions.iter().map(|function| Source::of(std::slice::from_ref(function))).collect();
    let are_fixed = parts.iter().all(|part| part.program.is_fixed);
    let constants =
        |function| if are_fixed { Constants::bits(function, true) } else { plan::constants(function, true) };
    let constants: Vec<_> = functions.iter().map(constants).collect();
    let is_alike =
        |other: &Source| other.statements == functions[0].statements && other.values == functions[0].values;
    if parts.iter().any(writes)
        || functions.len() != ranges.len()
        || !functions.iter().all(is_alike)
        || ranges.iter().any(|range| range.start > range.end || range.end > parts.len())
    {
        return Err(Error::argument("sums of parts that are written, or of other ranges")
            .expected("parts that are read alone, and one function of one form for each range of them"));
    }
    if let (Phase::LookingAhead, Some(scalar)) = (phase(), plan::scalar()) {
        return Ok(scalar.broadcast_as(functions.len())?);
    }
    #[cfg(feature = "cuda")]
    return cuda::sums(parts, ranges, &functions[0], constants);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = constants;
        Err(no_kernels())
    }
}

/// An error if parts do not belong together, or a program has another number of values than its part needs.
fn check(parts: &[Part<'_>], values: impl Fn(&Part<'_>) -> usize) -> Result<()> {
    let device = parts.first().and_then(|part| part.inputs.first()).map(|x| x.device().clone());
    parts.iter().try_for_each(|part| part.check(device.as_ref(), values(part)))
}
