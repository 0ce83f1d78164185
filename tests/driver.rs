//! A program that was built with CUDA, on a machine without a driver or with an old one: one line says so.
//!
//! ```text
//! scripts/test-cuda-sim.sh                    # this, and all else that needs the simulated device
//! cargo test --features cuda --test driver    # this alone, with the simulator in LD_LIBRARY_PATH and CUDA_ROOT set
//! ```
//!
//! A process has one driver, so this program starts itself with others: none, the library that stands for one while a program
//! is linked, and the simulated device as an older one.

use std::path::Path;
use std::process::{Command, ExitCode};

use treex::candle::cuda_backend::cudarc::driver::{result, sys};
use treex::prelude::*;
use treex_testing::simulator::Simulator;

/// The device that the program with another driver asks for.
const ORDINAL: &str = "DRIVER_TEST_ORDINAL";
const LIBRARIES: [(&str, &str); 4] = [
    ("libcuda.so", "libcuda.so.1"),
    ("libcublas.so", "libcublas.so.13"),
    ("libcublasLt.so", "libcublasLt.so.13"),
    ("libcurand.so", "libcurand.so.10"),
];

fn main() -> ExitCode {
    if let Ok(ordinal) = std::env::var(ORDINAL) {
        return match treex::cuda_device(ordinal.parse().expect("a number")) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(simulator) = Simulator::loaded() else {
        eprintln!("driver: the driver is not the simulated device of `tools/simcuda`");
        return ExitCode::FAILURE;
    };
    let root = std::env::var("CUDA_ROOT").expect("CUDA_ROOT: `scripts/setup-cuda.sh`");
    let stubs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver-stubs");
    std::fs::create_dir_all(&stubs).expect("a folder");
    for (name, loaded) in LIBRARIES {
        let _ = std::fs::remove_file(stubs.join(loaded)); // of a run before
        let stub = Path::new(&root).join("lib64/stubs").join(name);
        std::os::unix::fs::symlink(stub, stubs.join(loaded)).expect("a link");
    }
    let toolkit = format!("{root}/lib64");
    let with_stubs = format!("{}:{toolkit}", stubs.display());

    says("0", &[], &[]);
    says(
        "0",
        &[("SIMCUDA_DRIVER_VERSION", "12040")],
        &["CUDA device 0 cannot be used: the driver is of CUDA 12.4, this program was built with CUDA "],
    );
    says(
        "7",
        &[],
        &["CUDA device 7 cannot be used:", "CUDA_ERROR_INVALID_DEVICE", "`nvidia-smi` lists the devices"],
    );
    says(
        "0",
        &[("LD_LIBRARY_PATH", &with_stubs)],
        &["CUDA device 0 cannot be used:", "CUDA_ERROR_STUB_LIBRARY", "`Device::Cpu` needs neither"],
    );
    // The system's loader speaks where there is no library at all.
    says("0", &[("LD_LIBRARY_PATH", &toolkit)], &["libcuda.so.1: cannot open shared object file"]);
    a_device_is_set_up(simulator);
    println!("driver: 6 tests passed");
    ExitCode::SUCCESS
}

/// Freed memory stays in the pool, tensors have no events, and small uploads stay on the device.
fn a_device_is_set_up(simulator: Simulator) {
    let device = treex::cuda_device(0).expect("the simulated device");
    let context = device.as_cuda_device().expect("it is CUDA").cuda_stream().context().cu_device();
    let (mut threshold, attribute) = (0u64, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD);
    // SAFETY: the device is that of a live context; the value of this attribute is a `cuuint64_t`, for which there is a place.
    let code = unsafe {
        let pool = result::device::get_default_mem_pool(context).expect("a device has a pool");
        sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut threshold).cast())
    };
    assert_eq!((code.result(), threshold), (Ok(()), u64::MAX));
    let sum = || {
        let x = Tensor::ones((2, 3), DType::F32, &device)?.t()?.contiguous()?;
        x.sum_all()?.to_scalar::<f32>()
    };
    assert_eq!(sum().expect("it runs"), 6.);
    simulator.reset_counts();
    assert_eq!(sum().expect("it runs"), 6.);
    assert_eq!(["events", "uploads", "read-backs"].map(|name| simulator.count(name)), [0, 0, 1]);
}

/// This program in another environment: it has a device if `parts` is empty; otherwise it ends with one line that has them.
#[track_caller]
fn says(ordinal: &str, environment: &[(&str, &str)], parts: &[&str]) {
    let program = std::env::current_exe().expect("a program has a file");
    let run = Command::new(program).env(ORDINAL, ordinal).envs(environment.iter().copied()).output();
    let run = run.expect("it starts");
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.success(), parts.is_empty(), "{environment:?}: {text}");
    assert!(parts.iter().all(|part| text.contains(part)), "{environment:?}: {text}");
    assert!(text.lines().count() <= 1, "{environment:?}: {text}");
}
