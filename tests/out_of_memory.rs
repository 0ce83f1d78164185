//! A CUDA device whose memory runs out: the error says for what and where, and model and optimizer are as usable as before.
//!
//! ```text
//! scripts/test-cuda-sim.sh                           # this, and all else that needs the simulated device
//! cargo test --features cuda --test out_of_memory    # this alone, with the simulator in LD_LIBRARY_PATH
//! ```
//!
//! The simulated device gets its memory when a process starts, so this program starts itself with little.

use std::process::{Command, ExitCode};

use treex::candle::cuda_backend::cudarc::driver::result::mem_get_info;
use treex::nn::{Linear, Mlp, Sequential};
use treex::optim::adam;
use treex::prelude::*;
use treex_testing::simulator::Simulator;

const MEMORY: usize = 24 << 20;

fn main() -> ExitCode {
    if Simulator::loaded().is_none() {
        eprintln!(
            "out_of_memory: the driver is not the simulated device of `tools/simcuda`, whose memory can be set"
        );
        return ExitCode::FAILURE;
    }
    if std::env::var_os("SIMCUDA_MEMORY").is_none() {
        let program = std::env::current_exe().expect("a program has a file");
        let status = Command::new(program).env("SIMCUDA_MEMORY", MEMORY.to_string()).status();
        return if status.is_ok_and(|status| status.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let device = treex::cuda_device(0).expect("the simulated device");
    a_model_that_does_not_fit(&device);
    a_batch_that_does_not_fit(&device).expect("the small batches fit");
    a_step_is_whole_or_says_that_it_is_not(&device).expect("what is not a step fits");
    println!("out_of_memory: 3 tests passed");
    ExitCode::SUCCESS
}

fn free(device: &Device) -> Result<usize> {
    device.synchronize()?; // frees wait for the work before them
    Ok(mem_get_info().expect("the thread has the device's context").0)
}

#[track_caller]
fn assert_says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

fn a_model_that_does_not_fit(device: &Device) {
    let error = Mlp::new([1024, 4096, 10]).init(0, device).expect_err("two copies of 16 MiB");
    let parts =
        ["at `layers.0.kernel`", "16.0 MiB for [1024, 4096] of `f32`", "of 24.0 MiB free", "a smaller batch"];
    assert_says(&error, &parts);
}

fn a_batch_that_does_not_fit(device: &Device) -> Result<()> {
    let new = || Sequential::new().add(Linear::new(64, 256)).add(Linear::new(256, 8)).init(0, device);
    let (mut model, mut untouched) = (new()?, new()?);
    let batch =
        |rows: usize| Key::from(1).normal((rows, 64), DType::F32)?.to_device(device).map_err(Error::from);
    let loss = |model: &mut Sequential, x: &Tensor| {
        let (loss, gradients) =
            model.value_and_grad(Parameter, |model| Ok(model.call(x)?.sqr()?.mean_all()?))?;
        Ok::<_, Error>((loss.to_scalar::<f32>()?, numbers(&gradients)?))
    };
    let (small, large) = (batch(8)?, batch(16384)?);
    let mut before = None;
    for _ in 0..3 {
        let error = loss(&mut model, &large).expect_err("16 MiB for a hidden layer, twice");
        assert_says(
            &error,
            &["at `layers.", "room for a call with [16384, 64] of `f32`", "of 24.0 MiB free"],
        );
        assert_eq!(loss(&mut model, &small)?, loss(&mut untouched, &small)?);
        // The first steps upload sizes and strides, which stay.
        let free = free(device)?;
        assert_eq!(free, *before.get_or_insert(free), "what a failed step had is freed");
    }
    Ok(())
}

/// Steps with less and less memory beside them.
fn a_step_is_whole_or_says_that_it_is_not(device: &Device) -> Result<()> {
    let (mut whole, mut refused, mut in_part) = (0, 0, 0);
    let expected = {
        let (mut model, mut optimizer, gradients) = training(device)?;
        optimizer.update(&gradients, &mut model)?;
        (numbers(&model)?, numbers(&optimizer)?)
    };
    for kibibytes in (0..2048).step_by(32) {
        let (mut model, mut optimizer, gradients) = training(device)?;
        let before = (numbers(&model)?, numbers(&optimizer)?);
        let (mut kept_model, mut kept_optimizer) = (model.clone(), optimizer.clone());
        let ballast = Tensor::zeros(free(device)?.saturating_sub(kibibytes << 10), DType::U8, device)?;
        let result = optimizer.update(&gradients, &mut model);
        drop(ballast);
        let after = (numbers(&model)?, numbers(&optimizer)?);
        match result {
            Ok(()) => {
                assert!(after == expected, "{kibibytes} KiB");
                whole += 1;
            }
            Err(error) => {
                assert_says(&error, &["has no memory left", "of 24.0 MiB free"]);
                kept_optimizer.update(&gradients, &mut kept_model)?;
                let from_the_clone = (numbers(&kept_model)?, numbers(&kept_optimizer)?);
                assert!(from_the_clone == expected, "{kibibytes} KiB: a clone makes the step");
                if error.to_string().contains("some leaves may have made the step") {
                    // Each leaf is as before or as after, and the optimizer takes the next step.
                    assert!(each_is_one_of(&after.0, &before.0, &expected.0), "{kibibytes} KiB: {error}");
                    assert!(each_is_one_of(&after.1, &before.1, &expected.1), "{kibibytes} KiB: {error}");
                    optimizer.update(&gradients, &mut model)?;
                    in_part += 1;
                } else {
                    assert!(after == before, "{kibibytes} KiB: {error}");
                    refused += 1;
                }
            }
        }
    }
    println!("out_of_memory: {whole} steps whole, {refused} refused, {in_part} in part");
    assert!(whole > 0 && refused + in_part > 0);
    Ok(())
}

/// A model, its optimizer after a step, and gradients.
fn training(device: &Device) -> Result<(Mlp, Optimizer<treex::optim::Adam>, Mlp)> {
    let mut model = Mlp::new([64, 256, 64, 8]).init(0, device)?;
    let mut optimizer = Optimizer::new(adam(1e-2)).init(&model)?;
    let x = Key::from(1).normal((4, 64), DType::F32)?.to_device(device)?;
    let (_, gradients) = model.value_and_grad(Parameter, |model| Ok(model.call(&x)?.sqr()?.mean_all()?))?;
    optimizer.update(&gradients, &mut model)?;
    Ok((model, optimizer, gradients))
}

/// Leaf by leaf, on the host.
fn numbers(tree: &impl Tree) -> Result<Vec<Vec<f32>>> {
    let host =
        |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1();
    Ok(tree.flatten().tensors().map(host).collect::<treex::candle::Result<_>>()?)
}

fn each_is_one_of(leaves: &[Vec<f32>], before: &[Vec<f32>], after: &[Vec<f32>]) -> bool {
    leaves.iter().zip(before.iter().zip(after)).all(|(leaf, (before, after))| leaf == before || leaf == after)
}
