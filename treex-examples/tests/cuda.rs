//! The main job on a CUDA device, which `scripts/test-cuda-sim.sh` simulates.

#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)] // a test says where it failed

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use treex_testing::device;

fn digits(out: &Path, memory: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_digits"));
    command.arg("--out").arg(out).args(arguments);
    if let Some(memory) = memory {
        command.env("SIMCUDA_MEMORY", memory);
    }
    command.output().unwrap()
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn checkpoint(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("checkpoint.safetensors"), &Device::Cpu).unwrap()
}

/// Two steps from one checkpoint, on the device and on the CPU, which goes on from the checkpoint of the device.
#[test]
fn trains_as_on_the_cpu() {
    assert!(device().is_cuda(), "the tests of this file need TREEX_TEST_DEVICE=cuda");
    let folder = tempfile::tempdir().unwrap();
    let [there, here] = ["cuda", "cpu"].map(|name| folder.path().join(name));
    let steps = ["--epochs", "1", "--batch", "8", "--steps", "2"];
    assert_success(&digits(&there, None, &[&steps[..], &["--device", "cuda"]].concat()));
    assert_success(&digits(&here, None, &steps));
    let (found, wanted) = (checkpoint(&there), checkpoint(&here));
    assert_eq!(found.len(), wanted.len());
    for (name, wanted) in &wanted {
        let numbers = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (found, wanted) = (numbers(&found[name]).unwrap(), numbers(wanted).unwrap());
        // AdamW divides by the root of a square: a gradient that is noise moves a parameter by up to the rate, which warms up.
        let tolerance = if name.starts_with("model.") { 1e-4 } else { 1e-5 };
        for (found, wanted) in found.into_iter().zip(wanted) {
            assert!(
                (found - wanted).abs() <= tolerance * wanted.abs().max(1.),
                "{name}: {found}, not {wanted}"
            );
        }
    }
    assert_success(&digits(&there, None, &["--resume", "--steps", "3"]));
}

/// The error is one line, and says how much was asked for by which leaf.
#[test]
fn a_model_that_does_not_fit_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = digits(folder.path(), Some("4096"), &["--device", "cuda", "--steps", "1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in ["the device has no memory left at `", "MiB for [", "of 0.0 MiB free", "use a smaller batch"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.trim().lines().filter(|line| line.contains("no memory left")).count(), 1, "{text}");
}
