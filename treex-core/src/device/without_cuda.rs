//! What takes the place of CUDA in a program that was built without it.

use candle_core::Device;

use crate::error::{Error, ErrorKind, Result};

/// The CUDA device of this number, set up for training, in a program that is built with the feature `cuda`. This one is not.
///
/// # Errors
/// Always ([`ErrorKind::Candle`]).
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    Err(Error::new(
        ErrorKind::Candle,
        format!("CUDA device {ordinal} cannot be used: this program was built without CUDA"),
    )
    .remedy("build it with `--features cuda`, or use `Device::Cpu`"))
}

/// Lets the calling thread use `device`, which is none that asks for it.
pub(crate) fn enter_device(_: &Device) -> Result<()> {
    Ok(())
}

/// The error of a launch.
pub(super) fn no_kernels() -> Error {
    Error::new(ErrorKind::Candle, "a program that was built without CUDA has no kernels")
        .remedy("build it with `--features cuda`")
}
