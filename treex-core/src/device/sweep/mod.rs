//! Elementwise functions over many tensors in one launch: the step of an optimizer over all of its leaves.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod source;
#[cfg(any(feature = "cuda", test))]
mod table;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use treex_kernels::expression::{Expression, Source};

use crate::error::{Error, ErrorKind, Result};
use crate::tree::handle::Handle;

/// Expressions of one element of each tensor of a [`Part`].
#[derive(Debug)]
pub struct Program {
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels have it"))]
    is_wide: bool,
    source: Source,
}

impl Program {
    /// Prints `values`, computed in `F64` if `is_wide`, otherwise in `F32`.
    #[must_use]
    pub fn new(is_wide: bool, values: &[Expression]) -> Arc<Self> {
        Arc::new(Self { is_wide, source: Source::of(values) })
    }
}

/// Tensors with the same number of elements, and the function of these.
#[derive(Debug)]
pub struct Part<'p> {
    /// Tensors that are read: the first inputs of the program.
    pub inputs: Vec<Tensor>,
    /// Leaves that are read and then written in place, if they are the only holders of their values: the other inputs of the
    /// program, whose first values they get.
    pub leaves: Vec<&'p mut Handle>,
    /// Gets a new tensor with the program's last value, in the shape of the first input, if it is there.
    pub output: Option<&'p mut Option<Tensor>>,
    /// Parts that share it are one case in the kernel. Programs that differ in their constants alone are one case, too.
    pub program: Arc<Program>,
}

/// Whether [`sweep`] has kernels for tensors of this type on this device.
#[must_use]
pub fn supports(device: &Device, dtype: DType) -> bool {
    cfg!(feature = "cuda")
        && device.is_cuda()
        && matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

/// Runs the programs of all parts, in one launch for about 500 of them. Everything that can fail does before the first
/// element is written.
///
/// Tensors and leaves of different parts may share memory: what one part writes another one reads as it was before.
///
/// # Errors
/// If a tensor is not [supported](supports) or not on the device of the others; if the numbers of elements, or those of a
/// program's inputs and values, differ; if memory cannot be allocated or the kernel not be compiled.
pub fn sweep(parts: Vec<Part<'_>>) -> Result<()> {
    parts.iter().try_for_each(check)?;
    #[cfg(feature = "cuda")]
    return cuda::sweep(parts);
    #[cfg(not(feature = "cuda"))]
    match parts.first() {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Candle, "a program that was built without CUDA has no kernels")
            .remedy("build it with `--features cuda`")),
    }
}

fn check(part: &Part<'_>) -> Result<()> {
    let leaves = part.leaves.iter().map(|leaf| leaf.value());
    let tensors: Option<Vec<&Tensor>> = part.inputs.iter().map(Some).chain(leaves).collect();
    let Some(tensors) = tensors else {
        return Err(Error::new(ErrorKind::FilteredOut, "a leaf to be written has no value"));
    };
    let Some(first) = tensors.first() else {
        return Err(Error::argument("a part of a sweep has no tensors"));
    };
    for tensor in &tensors {
        if tensor.elem_count() != first.elem_count()
            || tensor.elem_count() == 0
            || !supports(tensor.device(), tensor.dtype())
            || !tensor.device().same_device(first.device())
        {
            return Err(Error::new(ErrorKind::DType, "a tensor has no place in a launch with others")
                .expected(format!(
                    "{} floats, not none, on {:?}",
                    first.elem_count(),
                    first.device().location()
                ))
                .found(format!(
                    "{:?} of `{}` on {:?}",
                    tensor.dims(),
                    tensor.dtype().as_str(),
                    tensor.device().location()
                )));
        }
    }
    let values = part.leaves.len() + usize::from(part.output.is_some());
    if part.program.source.values.len() != values {
        return Err(Error::argument("a program has another number of values than its part")
            .expected(values)
            .found(part.program.source.values.len()));
    }
    Ok(())
}
