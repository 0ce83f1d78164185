//! What a step asks of the device: counted on the simulated CUDA device, and held against `budgets.txt`.
//!
//! ```text
//! scripts/test-cuda-sim.sh                     # this, and all else that needs the simulated device
//! cargo test --features cuda --test budgets    # this alone, with the simulator in LD_LIBRARY_PATH
//! .. --test budgets -- lstm                    # the step of this name alone; `SIMCUDA_REPORT` then tells its kernels
//! ```
//!
//! It prints for each step the counts before treex kept data on the device, and now. A step that may transfer nothing also
//! runs while treex and the device refuse transfers, so that one which comes back names its place, and its losses are those
//! of the CPU.

mod budgets;
mod refused;
mod steps;

use std::process::ExitCode;

use budgets::COUNTS;
use steps::{CASES, Case};
use treex::prelude::*;
use treex_testing::simulator::Simulator;

fn main() -> ExitCode {
    let Some(simulator) = Simulator::loaded() else {
        eprintln!("budgets: the driver is not the simulated device of `tools/simcuda`, which alone counts");
        return ExitCode::FAILURE;
    };
    if let Some(folder) = std::env::var_os("TREEX_TEST_KERNELS") {
        treex::cuda::keep_kernels_in(folder).expect("a folder for kernels");
    }
    let mut faults = refused::faults(&simulator);
    let budgets = budgets::read();
    println!("{}", budgets::heading());
    let only = std::env::args().nth(1).filter(|name| CASES.iter().any(|case| case.name == name));
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|name| name == case.name)) {
        let Some(budget) = budgets.get(case.name) else {
            faults.push(format!("{}: `budgets.txt` has no line for this step", case.name));
            continue;
        };
        match counted(case, &simulator, budget.moves_nothing()) {
            Ok(counts) => {
                println!("{}", budget.line(case.name, counts));
                faults
                    .extend(budget.faults(counts).into_iter().map(|fault| format!("{}: {fault}", case.name)));
            }
            Err(error) => faults.push(format!("{}: {error}", case.name)),
        }
    }
    for fault in &faults {
        eprintln!("budgets: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The counts of a steady step.
fn counted(case: &Case, simulator: &Simulator, moves_nothing: bool) -> Result<[u64; COUNTS.len()]> {
    const WARM_UP: usize = 3;
    let device = treex::cuda_device(0)?;
    let mut step = (case.on)(&device)?;
    let mut count = || -> Result<_> {
        device.synchronize()?;
        simulator.reset_counts();
        let loss = step()?;
        Ok((loss, COUNTS.map(|name| simulator.count(name))))
    };
    for _ in 0..WARM_UP {
        count()?;
    }
    let (_, counts) = count()?;
    let (mut loss, again) = count()?;
    if counts != again {
        let error = Error::argument("a step counts other than the one before");
        return Err(error.expected(format!("{counts:?}")).found(format!("{again:?}")));
    }
    if moves_nothing {
        loss = simulator.refusing_transfers(|| treex::no_transfers(&mut step))?;
    }

    let steps = WARM_UP + if moves_nothing { 3 } else { 2 };
    let mut step = (case.on)(&Device::Cpu)?;
    let losses = (0..steps).map(|_| step()).collect::<Result<Vec<_>>>()?;
    let [found, expected] = [&loss, &losses[steps - 1]].map(|loss| loss.to_scalar::<f32>().map(f64::from));
    let (found, expected) = (found?, expected?);
    // A few roundings of f32 in each of the steps.
    if (found - expected).abs() > 1e-5 * expected.abs() {
        return Err(Error::argument("the loss is not that of the CPU").expected(expected).found(found));
    }
    Ok(counts)
}
