//! A captured step: the losses and trees of steps one by one, bit for bit, and what cannot be captured is an error.
//!
//! ```text
//! scripts/test-cuda-sim.sh                     # this, and all else that needs the simulated device
//! cargo test --features cuda --test capture    # this alone, with the simulator in LD_LIBRARY_PATH
//! ```

#[path = "../budgets/steps.rs"]
#[expect(dead_code, reason = "this uses the models alone")]
mod steps;

#[path = "../../treex-optim/tests/table/mod.rs"]
mod table;

mod models;
mod rules;
mod transformations;

use std::process::ExitCode;

use treex::prelude::*;
use treex_testing::simulator::Simulator;

/// A check, on the simulated device.
type Check = fn(&Device, &Simulator) -> Result<()>;

fn main() -> ExitCode {
    let Some(simulator) = Simulator::loaded() else {
        eprintln!("capture: the driver is not the simulated device of `tools/simcuda`");
        return ExitCode::FAILURE;
    };
    if let Some(folder) = std::env::var_os("TREEX_TEST_KERNELS") {
        treex::cuda::keep_kernels_in(folder).expect("a folder for kernels");
    }
    let only: Vec<_> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let mut failed = 0;
    for (name, check) in models::CHECKS.iter().chain(rules::CHECKS).chain(transformations::CHECKS) {
        if !only.is_empty() && !only.iter().any(|only| name.contains(only.as_str())) {
            continue;
        }
        match treex::cuda_device(0).and_then(|device| check(&device, &simulator)) {
            Ok(()) => println!("capture: {name} ... ok"),
            Err(error) => {
                eprintln!("capture: {name} ... FAILED: {error}");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An error unless `found` is `expected`.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::argument(what.to_owned()).expected(format!("{expected:?}")).found(format!("{found:?}")))
}
