//! What an error of a CUDA driver means: Candle reports it as the name of a code.

use std::error::Error;

/// The errors of a driver that a program can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "there is no driver"))]
pub(crate) enum Fault {
    OutOfMemory,
    /// The thread has no context.
    NoContext,
    /// An argument of a call: that of a launch with 0 blocks, if Candle made it.
    InvalidValue,
}

impl Fault {
    /// `None` for any other error.
    #[cfg(feature = "cuda")]
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        use candle_core::cuda_backend::{CudaError, cudarc::driver::sys::CUresult};
        let CudaError::Cuda(error) = error.downcast_ref::<CudaError>()? else { return None };
        match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Some(Self::OutOfMemory),
            CUresult::CUDA_ERROR_INVALID_CONTEXT => Some(Self::NoContext),
            CUresult::CUDA_ERROR_INVALID_VALUE => Some(Self::InvalidValue),
            _ => None,
        }
    }

    #[cfg(not(feature = "cuda"))]
    pub(crate) fn of(_: &(dyn Error + 'static)) -> Option<Self> {
        None
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::OutOfMemory => {
                "use a smaller batch or model, recompute layers with `Remat`, or drop trees and tensors that are not needed"
            }
            Self::NoContext => "call `cuda_device` on each thread that uses the device",
            Self::InvalidValue => {
                "Candle's kernels for CUDA refuse tensors without elements: leave those out, or compute on `Device::Cpu`"
            }
        }
    }
}

/// How much of the memory of the calling thread's device is free: `1.5 MiB of 80000.0 MiB free`.
#[cfg(feature = "cuda")]
pub(crate) fn free_memory() -> Option<String> {
    let (free, total) = candle_core::cuda_backend::cudarc::driver::result::mem_get_info().ok()?;
    Some(format!("{} of {} free", mebibytes(free), mebibytes(total)))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn free_memory() -> Option<String> {
    None
}

/// `1.5 MiB`.
pub(crate) fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
