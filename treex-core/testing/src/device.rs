//! The device that tests run on.

use std::io::{Write as _, stderr};
use std::sync::OnceLock;

use candle_core::Device;

/// The device of this process's tests, by the variable `TREEX_TEST_DEVICE`: `cpu`, which it is unless set, or `cuda`, which
/// is [`cuda_device(0)`](treex_core::cuda_device). The thread that calls it can use the device; so each thread of a test
/// calls it.
///
/// # Panics
/// If the variable is another word, or there is no such device.
pub fn device() -> &'static Device {
    static NAME: OnceLock<String> = OnceLock::new();
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var("TREEX_TEST_DEVICE").unwrap_or_else(|_| "cpu".into()));
    match name.as_str() {
        "cpu" => &Device::Cpu,
        "cuda" => {
            let device = treex_core::cuda_device(0);
            let device = device.unwrap_or_else(|error| panic!("TREEX_TEST_DEVICE={name}: {error}"));
            DEVICE.get_or_init(|| device)
        }
        other => panic!("TREEX_TEST_DEVICE is `cpu` or `cuda`, not `{other}`"),
    }
}

/// Why a case whose tensors have no elements is skipped.
pub const NO_ELEMENTS: &str =
    "Candle launches its kernels with 0 blocks, which CUDA refuses: docs/candle-cuda.md";

/// Names of tests, or of cases of one, that the device cannot run, with the reason for each.
pub type Skips = &'static [(&'static str, &'static str)];

/// Whether `name` is in the list, and tests run on another device than the CPU.
pub fn is_skipped(skips: Skips, name: &str) -> bool {
    skips.iter().find(|(skipped, _)| *skipped == name).is_some_and(|(name, reason)| skip(name, reason))
}

/// Whether tests run on another device than the CPU. If so, tells that `name` is skipped there, past the capture of a test's
/// output.
pub fn skip(name: &str, reason: &str) -> bool {
    let skips = !device().is_cpu();
    if skips {
        #[expect(clippy::explicit_write, reason = "`eprintln!` is captured")]
        writeln!(stderr(), "SKIPPED {name}: {reason}").unwrap();
    }
    skips
}
