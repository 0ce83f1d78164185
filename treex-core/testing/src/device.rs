//! The device that tests run on.

use std::io::{Write as _, stderr};
use std::sync::OnceLock;

use candle_core::Device;

/// The device of this process's tests, by the variable `TREEX_TEST_DEVICE`: `cpu`, which it is unless set, or `cuda`.
///
/// # Panics
/// If the variable is another word, or there is no such device.
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let name = std::env::var("TREEX_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
        let device = match name.as_str() {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Device::new_cuda(0),
            other => panic!("TREEX_TEST_DEVICE is `cpu` or `cuda`, not `{other}`"),
        };
        device.unwrap_or_else(|error| panic!("TREEX_TEST_DEVICE={name}: {error}"))
    })
}

/// Names of tests, or of cases of one, that the device cannot run, with the reason for each.
pub type Skips = &'static [(&'static str, &'static str)];

/// Whether `name` is in the list, and tests run on another device than the CPU. What is skipped is printed, past the
/// capture of a test's output.
pub fn is_skipped(skips: Skips, name: &str) -> bool {
    let Some((name, reason)) = skips.iter().find(|(skipped, _)| *skipped == name) else { return false };
    let is_skipped = !device().is_cpu();
    if is_skipped {
        #[expect(clippy::explicit_write, reason = "`eprintln!` is captured")]
        writeln!(stderr(), "SKIPPED {name}: {reason}").unwrap();
    }
    is_skipped
}
