//! The counts, for tests. These functions are no part of CUDA.

use std::fs;

use super::super::error::Error;
use super::pointer::Out;
use super::{DEVICE, calls};
use crate::counts::Counts;

calls! { Error;
    /// Writes the counts.
    fn simcuda_counts(device, counts: Out<Counts>) { counts.set(device.report().counts) }

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
