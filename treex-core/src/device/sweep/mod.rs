//! Elementwise functions over many tensors in one launch: the step of an optimizer over all of its leaves.

#[cfg(feature = "cuda")]
mod cuda;
mod part;
#[cfg(any(feature = "cuda", test))]
mod source;
#[cfg(any(feature = "cuda", test))]
mod table;

use crate::error::Result;
#[cfg(not(feature = "cuda"))]
use crate::error::{Error, ErrorKind};

pub use part::{Part, Program, supports};

/// Runs the programs of all parts, in one launch for about 500 of them. What has no memory or cannot be
/// compiled fails before the first element is written.
///
/// Tensors and leaves of different parts may share memory: what one part writes another one reads as it was before.
///
/// # Errors
/// If a tensor is not [supported](supports()) or not on the device of the others; if the numbers of elements, or those of a
/// program's inputs and values, differ; if memory cannot be allocated or the kernel not be compiled.
pub fn sweep(parts: Vec<Part<'_>>) -> Result<()> {
    let device = parts.first().and_then(|part| part.inputs.first()).map(|x| x.device().clone());
    parts.iter().try_for_each(|part| part.check(device.as_ref()))?;
    #[cfg(feature = "cuda")]
    return cuda::sweep(parts);
    #[cfg(not(feature = "cuda"))]
    match parts.first() {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Candle, "a program that was built without CUDA has no kernels")
            .remedy("build it with `--features cuda`")),
    }
}
