//! Transfers between a device and the host, and a mode in which each of them is an error.
//!
//! A read-back waits for all work that the device was given, an upload for the host's memory; neither can be in a captured
//! graph. So a training step makes none unless the program asks for one. What treex itself moves goes through [`transfer`],
//! which [`no_transfers`] makes an error with its place.

use std::cell::Cell;
use std::panic::Location;

use candle_core::{Device, Tensor};

use crate::capture::phase::{Phase, phase};
use crate::error::{Error, ErrorKind, Result};

thread_local! {
    /// Whether a transfer is an error.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`, in which each transfer that treex makes on this thread is an error: [`ErrorKind::Transfer`], with the place
/// in treex and what to write instead. For a step after the first ones, which upload what stays on the device:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, no_transfers, prelude::*};
///
/// let device = Device::Cpu; // or `treex_core::cuda_device(0)?`
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &device)?)?;
/// let (loss, _) = no_transfers(|| x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?)))?;
/// assert_eq!(loss.to_scalar::<f32>()?, 5.); // reads back, outside of the step
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// It does not see what a program asks of Candle itself, such as `to_scalar` or `Tensor::new` with a device, nor the sizes
/// and strides that Candle uploads for its kernels, once for each with [`cuda_device`](crate::cuda_device()). The simulated
/// device sees both: `SIMCUDA_TRANSFERS=refuse`. On the CPU there are no transfers.
pub fn no_transfers<R>(f: impl FnOnce() -> R) -> R {
    /// Puts back what was before, after a panic too.
    struct Restore(bool);

    impl Drop for Restore {
        fn drop(&mut self) {
            REFUSED.set(self.0);
        }
    }

    let _restore = Restore(REFUSED.replace(true));
    f()
}

/// `x` on `device`: `x` itself if it is there, otherwise a copy, with its gradient as in Candle. `instead` completes the
/// error of [`no_transfers`]: what a program writes so that the tensor need not move.
///
/// # Errors
/// If the copy fails, or is refused.
#[track_caller]
pub fn transfer(x: &Tensor, device: &Device, instead: &str) -> Result<Tensor> {
    if x.device().same_device(device) {
        return Ok(x.clone());
    }
    if REFUSED.get() {
        return Err(refused(x, device, instead, Location::caller()));
    }
    x.to_device(device).map_err(|error| Error::from(error).copying(x))
}

fn refused(x: &Tensor, device: &Device, instead: &str, place: &Location<'_>) -> Error {
    let what = if device.is_cpu() { "a read-back" } else { "an upload" };
    let bytes = x.elem_count().saturating_mul(x.dtype().size_in_bytes());
    let (file, line) = (place.file(), place.line());
    let inside = if phase() == Phase::Outside { "`no_transfers`" } else { "a captured step" };
    Error::new(ErrorKind::Transfer, format!("{what} of {bytes} bytes in {inside}, by {file}:{line}"))
        .remedy(instead)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    #[test]
    fn the_error_says_what_and_where_and_what_to_do() {
        let x = Tensor::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
        let place = Location::caller();
        let error = refused(&x, &Device::Cpu, "read it behind the step", place);
        assert_eq!(error.kind(), ErrorKind::Transfer);
        let (file, line) = (place.file(), place.line());
        assert_eq!(
            error.to_string(),
            format!("a read-back of 48 bytes in `no_transfers`, by {file}:{line}; read it behind the step")
        );
        assert!(file.ends_with("transfers.rs"), "{file}");
    }

    #[test]
    fn refused_inside_alone_and_after_a_panic_no_more() {
        let is_refused = || REFUSED.get();
        assert!(no_transfers(|| no_transfers(is_refused) && is_refused()) && !is_refused());
        assert!(std::panic::catch_unwind(|| no_transfers(|| panic!("in the step"))).is_err());
        assert!(!is_refused());
        let x = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        assert!(no_transfers(|| transfer(&x, &Device::Cpu, "")).is_ok(), "nothing moves");
    }
}
