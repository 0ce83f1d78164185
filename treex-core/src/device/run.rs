//! A launch of one kernel on the memory of tensors.

use candle_core::{DType, Tensor};

use super::kernel::{Function, How, Launch};
use crate::autograd::OwnedStorage;
use crate::error::{Error, ErrorKind, Result};

/// The most groups of a grid, on every device. More elements than these have fit into no memory.
const MOST_GROUPS: usize = i32::MAX as usize;

impl<const N: usize> Launch<'_, N> {
    /// Runs the kernel, and returns what it writes.
    ///
    /// # Errors
    /// If memory cannot be allocated, the kernel not be compiled, or the grid is larger than a device takes.
    ///
    /// # Safety
    /// With these parameters the kernel reads elements of the tensors that it reads, and writes every element of those that it
    /// writes and nothing else.
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    pub(super) unsafe fn run(self) -> Result<[OwnedStorage; N]> {
        // SAFETY: the caller's.
        unsafe { self.run_on(How::Whole, &[], None) }
    }

    /// Runs a kernel that writes some elements of new tensors, which are 0 elsewhere.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// As [`run`](Self::run), but for the elements that stay 0.
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    pub(super) unsafe fn run_on_zeros(self) -> Result<[OwnedStorage; N]> {
        // SAFETY: the caller's.
        unsafe { self.run_on(How::OnZeros, &[], None) }
    }

    /// Runs a kernel that knows the strides of what it reads.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    pub(super) unsafe fn run_strided(self) -> Result<[OwnedStorage; N]> {
        // SAFETY: the caller's.
        unsafe { self.run_on(How::Strided, &[], None) }
    }

    /// Runs a kernel whose text leaves a function open.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    pub(super) unsafe fn run_with(self, function: Function<'_>) -> Result<[OwnedStorage; N]> {
        // SAFETY: the caller's.
        unsafe { self.run_on(How::Whole, &[], Some(function)) }
    }

    /// Runs a kernel whose text leaves a function open, and that also writes into these contiguous tensors of the elements' type.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// As [`run`](Self::run). What is written has no holder that reads it as it was before.
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    pub(super) unsafe fn run_into(
        self,
        into: &[&Tensor],
        function: Function<'_>,
    ) -> Result<[OwnedStorage; N]> {
        // SAFETY: the caller's.
        unsafe { self.run_on(How::Whole, into, Some(function)) }
    }

    /// Runs the kernel, with this function, which writes into these tensors and then into new memory.
    ///
    /// # Safety
    /// As [`run`](Self::run); zeros may stay as they are.
    #[expect(unsafe_code, reason = "the kernel has addresses")]
    unsafe fn run_on(
        self,
        how: How,
        into: &[&Tensor],
        function: Option<Function<'_>>,
    ) -> Result<[OwnedStorage; N]> {
        let name = self.kernel.name;
        if self.groups > MOST_GROUPS {
            return Err(Error::argument(format!("`{name}` has more elements than a launch"))
                .expected(format!("at most {MOST_GROUPS} groups of them"))
                .found(self.groups)
                .remedy("call it on parts of the tensor"));
        }
        let device = self.reads.first().map(|(x, _)| x.device());
        let is_read = |(x, dtype): &(&Tensor, DType)| {
            x.dtype() == *dtype && device.is_some_and(|device| x.device().same_device(device))
        };
        if let Some((x, dtype)) = self.reads.iter().find(|read| !is_read(read)) {
            let place = device.map(|device| device.location());
            return Err(Error::new(ErrorKind::DType, format!("`{name}` got a tensor that it does not read"))
                .expected(format!("`{}` on {place:?}", dtype.as_str()))
                .found(format!("`{}` on {:?}", x.dtype().as_str(), x.device().location())));
        }
        let is_target = |x: &&Tensor| {
            x.dtype() == self.element
                && x.is_contiguous()
                && device.is_some_and(|device| x.device().same_device(device))
        };
        if !into.iter().all(is_target) {
            return Err(Error::new(
                ErrorKind::DType,
                format!("`{name}` got a tensor that it does not write"),
            )
            .expected(format!(
                "contiguous ones of `{}` on the device of the others",
                self.element.as_str()
            )));
        }
        #[cfg(feature = "cuda")]
        // SAFETY: the caller's.
        return unsafe { super::launch::run(self, how, into, function) };
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (how, into, function);
            Err(super::without_cuda::no_kernels())
        }
    }
}
