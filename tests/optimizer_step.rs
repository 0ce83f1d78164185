//! The step of an optimizer on a CUDA device: one launch for hundreds of leaves, and the bits of the CPU.
//!
//! ```text
//! scripts/test-cuda-sim.sh                            # this, and all else that needs the simulated device
//! cargo test --features cuda --test optimizer_step    # this alone, with the simulator in LD_LIBRARY_PATH
//! ```
//!
//! The simulator takes the order of groups and warps when a process starts, so this program starts itself for each.

use std::process::{Command, ExitCode};

use treex::optim::{
    Boxed, GradientTransformation, adagrad, adamw, add_decayed_weights, chain, clip_by_block_rms,
    clip_by_global_norm, lamb, lion, masked, nadam, rmsprop, scale_by_param_block_rms, scale_by_trust_ratio,
    sgd, warmup_cosine, yogi,
};
use treex::prelude::*;
use treex_testing::simulator::Simulator;

type Model = Vec<Leaf<Parameter>>;

const ORDER: &str = "SIMCUDA_ORDER";

fn main() -> ExitCode {
    let Some(simulator) = Simulator::loaded() else {
        eprintln!("optimizer_step: the driver is not the simulated device of `tools/simcuda`");
        return ExitCode::FAILURE;
    };
    if std::env::var_os(ORDER).is_some() {
        return match steps(simulator) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("optimizer_step: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let program = std::env::current_exe().expect("a program has a file");
    let fails = |order: &&str| {
        !Command::new(&program).env(ORDER, order).status().is_ok_and(|status| status.success())
    };
    let failed: Vec<_> = ["forward", "reversed", "7"].into_iter().filter(fails).collect();
    if failed.is_empty() {
        println!("optimizer_step: 6 tests passed in 3 orders");
        ExitCode::SUCCESS
    } else {
        eprintln!("optimizer_step: failed with groups and warps in the order {failed:?}");
        ExitCode::FAILURE
    }
}

fn steps(simulator: Simulator) -> Result<()> {
    let device = treex::cuda_device(0)?;
    if let Some(folder) = std::env::var_os("TREEX_TEST_KERNELS") {
        treex::cuda::keep_kernels_in(folder)?;
    }
    every_rule_has_the_bits_of_the_cpu(&device)?;
    every_type_has_the_bits_of_the_cpu(&device)?;
    factors_of_sums_stay_on_the_device(&device, simulator)?;
    a_thousand_leaves_are_three_launches(&device, simulator)?;
    the_floor_of_bytes_is_kept(&device, simulator)?;
    memory_that_is_shared_is_read_before_it_is_written(&device)
}

/// Leaves of these sizes.
fn model(sizes: &[usize], dtype: impl Fn(usize) -> DType) -> Result<Model> {
    let leaf = |(index, size): (usize, &usize)| {
        Leaf::new(Key::from(index as u64).normal(*size, DType::F32)?.to_dtype(dtype(index))?)
    };
    sizes.iter().enumerate().map(leaf).collect()
}

/// Sizes around what a group does.
const SIZES: [usize; 6] = [1, 7, 1023, 1024, 1025, 2500];

/// Steps with gradients that depend on the parameters.
fn train(transformation: impl GradientTransformation, mut model: Model) -> Result<Vec<u64>> {
    let mut optimizer = Optimizer::new(transformation).init(&model)?;
    for _ in 0..3 {
        let loss = |model: &mut Model| {
            let mut loss = Tensor::zeros((), DType::F64, model[0].get()?.device())?;
            for (index, leaf) in model.iter().enumerate() {
                let x = leaf.get()?.to_dtype(DType::F64)?;
                loss = (loss + (x.sqr()? * (0.1 * (index + 1) as f64))?.sum_all()?)?;
            }
            Ok(loss)
        };
        let (_, grads) = model.value_and_grad(Parameter, loss)?;
        optimizer.update(&grads, &mut model)?;
    }
    Ok([bits(&model)?, bits(&optimizer)?].concat())
}

/// The bits of all numbers, in `f64`.
fn bits(tree: &impl Tree) -> Result<Vec<u64>> {
    let mut bits = Vec::new();
    for tensor in tree.flatten().tensors() {
        let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        bits.extend(values.into_iter().map(f64::to_bits));
    }
    Ok(bits)
}

/// An error unless the steps on both devices give the same bits.
fn compare(
    name: &str,
    transformation: impl GradientTransformation,
    model: &Model,
    device: &Device,
) -> Result<()> {
    let expected = train(transformation.clone(), model.clone())?;
    let found = train(transformation, model.clone().into_device(device)?)?;
    match found.iter().zip(&expected).position(|(a, b)| a != b) {
        None if found.len() == expected.len() => Ok(()),
        at => Err(Error::argument(format!("{name}: the bits are not those of the CPU, at {at:?}"))),
    }
}

fn every_rule_has_the_bits_of_the_cpu(device: &Device) -> Result<()> {
    let model = model(&SIZES, |_| DType::F32)?;
    compare("sgd", sgd(0.1).momentum(0.9).nesterov(true), &model, device)?;
    compare("adamw", adamw(warmup_cosine(1e-2, 3, 100)), &model, device)?;
    compare("nadam", nadam(1e-2), &model, device)?;
    compare("rmsprop", rmsprop(1e-2).centered(true), &model, device)?;
    compare("adagrad", adagrad(1e-2), &model, device)?;
    compare("yogi", yogi(1e-2), &model, device)?;
    compare("lion", lion(1e-2), &model, device)?;
    let decay = masked(
        add_decayed_weights(0.1),
        by(|leaf| leaf.shape().is_some_and(|shape| shape.elem_count() > 1000)),
    );
    compare("a mask", chain((decay, sgd(0.1).momentum(0.5))), &model, device)
}

/// Factors that depend on sums over all leaves, and over each: the sums are added in another order than on the CPU.
fn factors_of_sums_stay_on_the_device(device: &Device, simulator: Simulator) -> Result<()> {
    let clipped = || chain((clip_by_global_norm(0.1), adamw(1e-2)));
    let by_leaf = || chain((clip_by_block_rms(0.01), scale_by_param_block_rms(), lamb(1e-2)));
    // A step of BF16 is 2^-8.
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 1. / 128.)] {
        let cpu = model(&SIZES, |_| dtype)?;
        let close = |name: &str, found: Vec<u64>, expected: Vec<u64>| {
            let is_alike = found.len() == expected.len();
            let [found, expected] = [found, expected].map(|bits| bits.into_iter().map(f64::from_bits));
            let distance =
                found.zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.)).fold(0., f64::max);
            if is_alike && distance <= tolerance {
                return Ok(());
            }
            Err(Error::argument(format!("{name} in {dtype:?}")).expected(tolerance).found(distance))
        };
        let device_model = cpu.clone().into_device(device)?;
        close("by the global norm", train(clipped(), device_model.clone())?, train(clipped(), cpu.clone())?)?;
        close("by leaf", train(by_leaf(), device_model)?, train(by_leaf(), cpu)?)?;
    }
    for zero in [0f64, f64::NAN, f64::INFINITY] {
        let wide = model(&[3, 4], |_| DType::F64)?;
        let step = |mut model: Model| -> Result<Vec<u64>> {
            let mut grads = model.map(|x| Ok(x.zeros_like()?))?;
            let first = Tensor::new(&[zero, 0., 0.], model[0].get()?.device())?;
            grads[0] = Leaf::new(first)?;
            let mut optimizer = Optimizer::new(chain((clip_by_global_norm(1.), sgd(1.)))).init(&model)?;
            optimizer.update(&grads, &mut model)?;
            let lamb = chain((scale_by_trust_ratio(), sgd(1.)));
            Optimizer::new(lamb).init(&model)?.update(&grads, &mut model)?;
            bits(&model)
        };
        let (found, expected) = (step(wide.clone().into_device(device)?)?, step(wide)?);
        let same =
            |(a, b): (&u64, &u64)| a == b || f64::from_bits(*a).is_nan() && f64::from_bits(*b).is_nan();
        if !found.iter().zip(&expected).all(same) {
            return Err(Error::argument(format!("a gradient of {zero}"))
                .expected(format!("{expected:?}"))
                .found(format!("{found:?}")));
        }
    }

    let mut model = model(&SIZES, |_| DType::F32)?.into_device(device)?;
    let grads = model.map(|x| Ok(x.affine(0.5, 0.25)?))?;
    let mut optimizer = Optimizer::new(clipped()).init(&model)?;
    treex::no_transfers(|| optimizer.update(&grads, &mut model))?;
    device.synchronize()?;
    simulator.reset_counts();
    optimizer.update(&grads, &mut model)?;
    let counts = ["launches", "uploads", "read-backs"].map(|name| simulator.count(name));
    if counts == [3, 0, 0] {
        Ok(())
    } else {
        Err(Error::argument("launches, uploads, read-backs of a clipped step").found(format!("{counts:?}")))
    }
}

fn every_type_has_the_bits_of_the_cpu(device: &Device) -> Result<()> {
    let types = [DType::F32, DType::BF16, DType::F16, DType::F64];
    let model = model(&[300; 4], |index| types[index])?;
    compare("four types", adamw(1e-2), &model, device)?;
    compare("moments in bf16", adamw(1e-2).mu_dtype(DType::BF16), &model, device)
}

fn a_thousand_leaves_are_three_launches(device: &Device, simulator: Simulator) -> Result<()> {
    let cpu = model(&(0..1200).map(|index| index * 7 % 5 + 1).collect::<Vec<_>>(), |_| DType::F32)?;
    compare("1,200 leaves", adamw(1e-2), &cpu, device)?;
    let mut model = cpu.into_device(device)?;
    let grads = model.map(|x| Ok(x.affine(0.5, 0.25)?))?;
    let mut optimizer = Optimizer::new(adamw(1e-2)).init(&model)?;
    for step in 0..2 {
        device.synchronize()?;
        simulator.reset_counts();
        optimizer.update(&grads, &mut model)?;
        let counts = ["launches", "allocations", "uploads", "read-backs"].map(|name| simulator.count(name));
        if step > 0 && counts != [3, 0, 0, 0] {
            return Err(Error::argument("the second step's launches, allocations, uploads and read-backs")
                .expected("3, 0, 0, 0")
                .found(format!("{counts:?}")));
        }
    }
    Ok(())
}

/// AdamW in `f32` reads 16 bytes of a parameter and writes 12, each sector of 32 bytes once; a norm reads 4, in two launches
/// whose sums have no conflict of banks.
fn the_floor_of_bytes_is_kept(device: &Device, simulator: Simulator) -> Result<()> {
    const LEN: usize = 100_000;
    const GROUPS: u64 = (LEN as u64).div_ceil(1024);
    let mut model = model(&[LEN], |_| DType::F32)?.into_device(device)?;
    let grads = model.map(|x| Ok(x.affine(0.5, 0.25)?))?;
    let mut counted = |transformation: Boxed| -> Result<[u64; 5]> {
        let mut optimizer = Optimizer::new(transformation).init(&model)?;
        optimizer.update(&grads, &mut model)?;
        device.synchronize()?;
        simulator.reset_counts();
        optimizer.update(&grads, &mut model)?;
        device.synchronize()?;
        Ok(["bytes read", "bytes written", "sectors read", "sectors written", "bank conflicts"]
            .map(|name| simulator.count(name)))
    };
    let len = LEN as u64;
    let adamw_alone = counted(adamw(1e-2).boxed())?;
    let clipped = counted(chain((clip_by_global_norm(0.1), adamw(1e-2))).boxed())?;
    if adamw_alone != [16 * len, 12 * len, len / 2, 3 * len / 8, 0] {
        return Err(Error::argument("bytes and sectors of AdamW").found(format!("{adamw_alone:?}")));
    }
    // The sums of the groups, and the factor that each thread reads.
    let more = clipped[0] - adamw_alone[0];
    let threads = 256 * GROUPS;
    if more > 4 * len + 8 * GROUPS + 8 * threads || clipped[4] > 0 {
        return Err(Error::argument("bytes of a clipped step").found(format!("{clipped:?}")));
    }
    Ok(())
}

/// Gradients that are the parameters, and a view.
fn memory_that_is_shared_is_read_before_it_is_written(device: &Device) -> Result<()> {
    let run = |model: &Model| -> Result<Vec<u64>> {
        let mut model = model.clone();
        let mut optimizer = Optimizer::new(sgd(0.1).momentum(0.9)).init(&model)?;
        for _ in 0..2 {
            let grads = model.clone();
            optimizer.update(&grads, &mut model)?;
        }
        let mut matrix = Leaf::<Parameter>::new(model[5].get()?.reshape((50, 50))?)?;
        let mut optimizer = Optimizer::new(sgd(0.1).momentum(0.9)).init(&matrix)?;
        let factors = matrix.get()?.copy()?;
        let (_, grads) =
            matrix.value_and_grad(Parameter, |matrix| Ok((matrix.get()?.t()? * &factors)?.sum_all()?))?;
        optimizer.update(&grads, &mut matrix)?;
        Ok([bits(&model)?, bits(&matrix)?].concat())
    };
    let cpu = model(&SIZES, |_| DType::F32)?;
    if run(&cpu)? == run(&cpu.clone().into_device(device)?)? {
        Ok(())
    } else {
        Err(Error::argument("gradients that share memory: the bits are not those of the CPU"))
    }
}
