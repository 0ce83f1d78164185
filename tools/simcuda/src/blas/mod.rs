//! cuBLAS and cublasLt, as far as Candle calls them: products of matrices by their definition.
//!
//! What the library computes differs in the order of its sums, and where it may round less. TF32 and the other "fast"
//! types of computation are refused: what they give is not defined.

#[allow(unsafe_code)]
pub mod calls;
mod gemm;
#[allow(unsafe_code)]
pub mod lt;
mod number;

pub use gemm::{Gemm, Matrix, Scale};
pub use number::{Element, Type};

use crate::driver::calls::Code;
use crate::driver::device::Device;
use crate::driver::error::Error;
use crate::driver::work::Work;

/// What a handle of cuBLAS holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlasHandle {
    /// The handle of the stream that its products run in.
    pub stream: u64,
}

/// A `cublasStatus_t` that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no such handle, or no context.
    NotInitialized = 1,
    /// A size or a leading dimension is wrong.
    InvalidValue = 7,
    /// The device answered with an error.
    ExecutionFailed = 13,
    /// What was asked for is not there.
    NotSupported = 15,
}

impl Code for Status {
    fn code(self) -> i32 {
        self as i32
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::INVALID_VALUE => Self::InvalidValue,
            Error::NOT_INITIALIZED | Error::INVALID_CONTEXT | Error::CONTEXT_IS_DESTROYED => {
                Self::NotInitialized
            }
            Error::NOT_SUPPORTED => Self::NotSupported,
            _ => Self::ExecutionFailed,
        }
    }
}

/// A refusal that says what is not there.
fn not_supported(what: &str) -> Status {
    eprintln!("simcuda: {what} of cuBLAS is not there");
    Status::NotSupported
}

impl Device {
    /// `cublasCreate`.
    ///
    /// # Errors
    /// If there is no context.
    pub fn create_blas(&mut self) -> Result<u64, Status> {
        self.context()?;
        let handle = self.new_handle();
        self.blas.insert(handle, BlasHandle::default());
        Ok(handle)
    }

    /// What a handle holds.
    ///
    /// # Errors
    /// If there is no such handle.
    pub fn blas(&mut self, handle: u64) -> Result<&mut BlasHandle, Status> {
        self.blas.get_mut(&handle).ok_or(Status::NotInitialized)
    }

    /// Gives a product to the handle's stream.
    ///
    /// # Errors
    /// If there is no such handle, or sizes and leading dimensions do not fit.
    pub fn multiply(&mut self, handle: u64, gemm: Gemm) -> Result<(), Status> {
        let stream = self.blas(handle)?.stream;
        if !gemm.is_valid() {
            return Err(Status::InvalidValue);
        }
        let stream = self.stream(stream)?;
        if gemm.is_empty() {
            return Ok(());
        }
        Ok(self.submit(stream, Work::Gemm(gemm))?)
    }
}
