//! What tests ask of the device beside CUDA: its counts, and that it refuses transfers.

use std::ffi::c_char;
use std::fs;

use super::super::error::Error;
use super::pointer::{In, Out};
use super::{DEVICE, calls};
use crate::counts::Counts;

calls! { Error;
    /// Writes the counts.
    fn simcuda_counts(device, counts: Out<Counts>) { counts.set(device.report().counts) }

    /// Writes the count of this name, one of [`Counts::named`], or of the kernels that ran: for programs that do not know the layout of [`Counts`].
    fn simcuda_count(device, name: In<c_char>, count: Out<u64>) {
        let name = name.text()?;
        let counts = device.report().counts;
        let (counts, of_kernels) = (counts.named(), counts.kernels.named());
        let found = counts.iter().chain(&of_kernels).find(|(known, _)| *known == name).ok_or(Error::NOT_FOUND)?;
        count.set(found.1)
    }

    /// Refuses transfers between host and device from now on, or allows them again if `refuse` is 0. A copy that is refused
    /// answers `CUDA_ERROR_NOT_PERMITTED` and prints the stack of the call.
    fn simcuda_refuse_transfers(device, refuse: i32) {
        device.refuse_transfers(refuse != 0);
        Ok(())
    }

    /// Counts from 0 again.
    fn simcuda_reset_counts(device) {
        device.reset_counts();
        Ok(())
    }
}

/// Has the report written when the process ends.
pub(super) fn report_at_exit() {
    unsafe extern "C" {
        /// Of C's library.
        safe fn atexit(function: extern "C" fn()) -> i32;
    }
    if atexit(write_report) != 0 {
        eprintln!("simcuda: there will be no report");
    }
}

extern "C" fn write_report() {
    // A thread that still runs may hold the device.
    let Ok(mut device) = DEVICE.try_lock() else {
        eprintln!("simcuda: no report, since the device is in use");
        return;
    };
    // A device would have done by now what waits here. A fault in it is printed, and ends nothing but that.
    let _ = device.finish();
    let Some(path) = device.settings().report.as_ref() else { return };
    let path = path.to_string_lossy().replace("%p", &std::process::id().to_string());
    if let Err(error) = fs::write(&path, device.report().text()) {
        eprintln!("simcuda: the report could not be written to {path}: {error}");
    }
}
