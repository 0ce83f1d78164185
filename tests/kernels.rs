//! Operations with kernels on a CUDA device: their launches, and the numbers of the CPU.
//!
//! ```text
//! scripts/test-cuda-sim.sh                     # this, and all else that needs the simulated device
//! cargo test --features cuda --test kernels    # this alone, with the simulator in LD_LIBRARY_PATH
//! .. --test kernels -- norm                    # operations with this in their names
//! ```
//!
//! The simulator takes the order of groups and warps when a process starts, so this program starts itself for each, and the
//! bits of all results are the same in each. Sizes are around those at which a launch shares its work in another way; small
//! and odd shapes, views and second derivatives are in the contract of operations (`tests/operations.rs` of each crate).

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::process::{Command, ExitCode, Stdio};

use treex::cuda::{MatmulPrecision, matmul_precision, set_matmul_precision};
use treex::nn::ops::{Axis, Extent, Source, convolution, linear, normalize, rows_of, rows_on_device};
use treex::nn::{
    AttentionOptions, Padding, add, avg_pool, dot_product_attention, dropout, gelu, log_softmax, max_pool,
    softmax,
};
use treex::optim::softmax_cross_entropy_with_integer_labels;
use treex::prelude::*;
use treex::value_and_grad;
use treex_testing::simulator::Simulator;

/// An operation, and the launches that it may make.
struct Case {
    name: &'static str,
    on: fn(&[Tensor]) -> Result<Tensor>,
    /// The shapes of its inputs, of which each set is a case.
    shapes: &'static [&'static [&'static [usize]]],
    forward: u64,
    /// All that its backward pass does, without the loss.
    backward: u64,
}

const ROWS: &[&[&[usize]]] = &[&[&[9, 3]], &[&[5, 33]], &[&[3, 515]], &[&[2, 4100]]];

/// With a scale and a bias.
const ROWS_WITH_PARAMETERS: &[&[&[usize]]] = &[
    &[&[9, 3], &[3], &[3]],
    &[&[130, 33], &[33], &[33]],
    &[&[3, 700], &[700], &[700]],
    &[&[3, 4100], &[4100], &[4100]],
];

const CASES: &[Case] = &[
    Case { name: "softmax", on: |x| softmax(&x[0], 1), shapes: ROWS, forward: 1, backward: 1 },
    Case { name: "log_softmax", on: |x| log_softmax(&x[0], 1), shapes: ROWS, forward: 1, backward: 1 },
    Case { name: "layer_norm", on: layer_norm, shapes: ROWS_WITH_PARAMETERS, forward: 1, backward: 3 },
    Case {
        name: "layer_norm, not fast",
        on: |x| norm(x, Extent { outer: x[0].dim(0)?, rows: 1, groups: 1, size: x[0].dim(1)? }, false),
        shapes: ROWS_WITH_PARAMETERS,
        forward: 1,
        backward: 3,
    },
    Case { name: "rms_norm", on: rms_norm, shapes: ROWS_WITH_PARAMETERS, forward: 1, backward: 3 },
    Case {
        name: "batch_norm",
        on: |x| norm(x, Extent { outer: 1, rows: x[0].dim(0)?, groups: x[0].dim(1)?, size: 1 }, true),
        shapes: &[&[&[9, 3], &[3], &[3]], &[&[300, 33], &[33], &[33]]],
        forward: 3,
        backward: 4,
    },
    Case {
        name: "group_norm, not fast",
        on: |x| {
            norm(x, Extent { outer: 2, rows: x[0].dim(0)? / 2, groups: 2, size: x[0].dim(1)? / 2 }, false)
        },
        shapes: &[&[&[12, 4], &[4], &[4]], &[&[300, 34], &[34], &[34]]],
        forward: 5,
        backward: 4,
    },
    Case {
        name: "cross_entropy",
        on: |x| classes(x, x[0].dim(1)? as u32),
        shapes: ROWS,
        forward: 1,
        backward: 1,
    },
    Case {
        name: "dropout",
        on: |x| dropout(&x[0], 0.3, Key::from(3), &[]),
        shapes: &[&[&[3]], &[&[33, 65]]],
        forward: 1,
        backward: 1,
    },
    Case {
        name: "dropout with a mask for all rows",
        on: |x| dropout(&x[0], 0.3, Key::from(3), &[0]),
        shapes: &[&[&[33, 65]]],
        forward: 5,
        backward: 9,
    },
    Case { name: "gelu", on: |x| gelu(&x[0]), shapes: &[&[&[3]], &[&[33, 65]]], forward: 1, backward: 1 },
    Case {
        name: "add",
        on: |x| add(&x[0], &x[1]),
        shapes: &[&[&[4, 3], &[3]], &[&[300, 33], &[33]]],
        forward: 1,
        backward: 2,
    },
    Case {
        name: "linear",
        on: |x| linear(&x[0], &x[1], Some(&x[2]), 1),
        shapes: &[&[&[4, 5], &[5, 3], &[3]], &[&[300, 4], &[4, 33], &[33]]],
        forward: 1,
        backward: 2,
    },
    Case {
        name: "attention",
        on: |x| attention(x, &AttentionOptions::default()),
        shapes: HEADS,
        forward: 5,
        backward: 10,
    },
    Case {
        name: "attention, causal, with a mask and a bias",
        on: |x| {
            let (queries, keys) = (x[0].dim(1)?, x[1].dim(1)?);
            let numbers = |len: usize| Tensor::from_iter((0..len as u32).map(|at| at * 7 % 5), x[0].device());
            let mask = numbers(2 * keys)?.gt(0u32)?.reshape((2, 1, 1, keys))?;
            let bias = (numbers(queries * keys)?.to_dtype(x[0].dtype())? * 0.3)?.reshape((queries, keys))?;
            attention(x, &AttentionOptions::default().causal(true).mask(&mask).bias(&bias))
        },
        shapes: HEADS,
        forward: 9,
        backward: 10,
    },
    Case {
        name: "convolution",
        on: |x| convolution(&x[0], &x[1], Some(&x[2]), &[axis(3, 1, (1, 1)), axis(2, 2, (0, 1))], 1),
        shapes: &[&[&[2, 5, 6, 3], &[3, 2, 3, 4], &[4]]],
        forward: 2,
        backward: 4,
    },
    Case {
        name: "convolution of groups",
        on: |x| convolution(&x[0], &x[1], None, &[axis(3, 1, (1, 1))], 2),
        shapes: &[&[&[2, 9, 4], &[3, 2, 6]]],
        forward: 4,
        backward: 5,
    },
    Case {
        name: "maxima of windows",
        on: |x| max_pool(&x[0], [3, 2], [2, 2], Padding::Same),
        shapes: &[&[&[2, 7, 6, 3]]],
        forward: 1,
        backward: 1,
    },
    Case {
        name: "averages of windows",
        on: |x| avg_pool(&x[0], [3, 2], [2, 2], Padding::Same, false),
        shapes: &[&[&[2, 7, 6, 3]]],
        forward: 1,
        backward: 1,
    },
    Case {
        name: "attention with dropout",
        on: |x| attention(x, &AttentionOptions::default().dropout(0.2, 3).broadcast_dropout(false)),
        shapes: HEADS,
        forward: 5,
        backward: 10,
    },
    Case {
        name: "attention with one mask of dropout",
        on: |x| attention(x, &AttentionOptions::default().dropout(0.2, 3)),
        shapes: HEADS,
        forward: 5,
        backward: 10,
    },
    Case {
        name: "embedding",
        on: |x| {
            let rows = x[0].dim(0)? as u32;
            let ids = Tensor::from_iter((0..600u32).map(|at| at * at % 11 % rows), x[0].device())?;
            if x[0].device().is_cpu() {
                rows_of(&x[0], ids.to_vec1()?, &[600])
            } else {
                rows_on_device(&x[0], &ids)
            }
        },
        shapes: &[&[&[5, 3]], &[&[40, 1100]]],
        forward: 1,
        backward: 1,
    },
];

fn axis(size: usize, stride: usize, padding: (usize, usize)) -> Axis {
    Axis { size, stride, padding, window_dilation: 1, input_dilation: 1 }
}

/// Queries, keys and values: some heads of queries share those of keys.
const HEADS: &[&[&[usize]]] =
    &[&[&[2, 3, 4, 5], &[2, 6, 2, 5], &[2, 6, 2, 3]], &[&[2, 7, 2, 4], &[2, 40, 2, 4], &[2, 40, 2, 4]]];

fn attention(x: &[Tensor], options: &AttentionOptions) -> Result<Tensor> {
    dot_product_attention(&x[0], &x[1], &x[2], options)
}

/// The memory that operations move, by the sectors of 32 bytes that warps ask for, against what they read and write at least.
struct Floor {
    name: &'static str,
    on: fn(&[Tensor]) -> Result<Tensor>,
    shapes: &'static [&'static [usize]],
    /// Elements, for the value and for its gradient.
    least: [u64; 2],
    /// The bounds for the share of what is moved.
    most: [f64; 2],
    why: &'static str,
}

const N: u64 = 256 * 1024;
const WIDE: &[&[usize]] = &[&[256, 1024]];
const CACHED: &str = "a row reads scale and bias, which the caches have";

const FLOORS: &[Floor] = &[
    Floor {
        name: "softmax",
        on: |x| softmax(&x[0], 1),
        shapes: WIDE,
        least: [2 * N, 3 * N],
        most: [1.01, 1.01],
        why: "",
    },
    Floor {
        name: "log_softmax",
        on: |x| log_softmax(&x[0], 1),
        shapes: WIDE,
        least: [2 * N, 3 * N],
        most: [1.01, 1.01],
        why: "",
    },
    Floor {
        name: "layer_norm",
        on: layer_norm,
        shapes: &[&[256, 1024], &[1024], &[1024]],
        least: [2 * N, 5 * N],
        most: [2.05, 1.55],
        why: CACHED,
    },
    Floor {
        name: "cross_entropy",
        on: |x| classes(x, 1024),
        shapes: WIDE,
        least: [N, 2 * N],
        most: [1.05, 1.15],
        why: "a label is looked up again, and each warp reads the numbers of its row",
    },
    Floor {
        name: "dropout",
        on: |x| dropout(&x[0], 0.3, Key::from(3), &[]),
        shapes: WIDE,
        least: [2 * N, 2 * N],
        most: [1.01, 1.01],
        why: "",
    },
    Floor {
        name: "gelu",
        on: |x| gelu(&x[0]),
        shapes: WIDE,
        least: [2 * N, 3 * N],
        most: [1.01, 1.01],
        why: "",
    },
    Floor {
        name: "add",
        on: |x| add(&x[0], &x[1]),
        shapes: &[&[256, 1024], &[1024]],
        least: [2 * N, N],
        most: [1.51, 1.1],
        why: "what is repeated is read again, from the caches",
    },
];

fn classes(x: &[Tensor], classes: u32) -> Result<Tensor> {
    let labels = Tensor::from_iter((0..x[0].dim(0)? as u32).map(|row| row * 7 % classes), x[0].device())?;
    softmax_cross_entropy_with_integer_labels(&x[0], &labels)
}

/// Scores that `f16` does not hold before they are scaled, and a table on the host whose ids are on the device.
fn corners(device: &Device) -> Result<Option<String>> {
    let large = (Tensor::ones((1, 3, 1, 64), DType::F16, device)? * 40.)?;
    let y = dot_product_attention(&large, &large, &large, &AttentionOptions::default())?;
    let y = y.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let table = Tensor::new(&[[1f32], [2.], [3.]], &Device::Cpu)?;
    let rows = rows_on_device(&table, &Tensor::new(&[2u32, 0], device)?)?.flatten_all()?.to_vec1::<f32>()?;
    let is_right = y.iter().all(|y| *y == 40.) && rows == [3., 1.];
    Ok((!is_right).then(|| format!("corners: {y:?} {rows:?}")))
}

/// A precision reaches the device's library: the simulated one has no rounded products and refuses to compute them.
fn precision(device: &Device) -> Result<Option<String>> {
    let x = Tensor::new(&[[1f32, 2.], [3., 4.]], device)?;
    let product = |precision| {
        set_matmul_precision(precision);
        treex::matmul(&x, &x).map_err(|error| error.to_string())
    };
    let (rounded, set) = (product(MatmulPrecision::TensorFloat32), matmul_precision());
    let whole = product(MatmulPrecision::Float32).map(|y| y.to_vec2::<f32>());
    let is_asked_for = rounded.as_ref().is_err_and(|error| error.contains("NOT_SUPPORTED"));
    let is_whole = matches!(&whole, Ok(Ok(y)) if y == &[[7f32, 10.], [15., 22.]]);
    let is_right = is_asked_for && is_whole && set == MatmulPrecision::TensorFloat32;
    Ok((!is_right).then(|| format!("products by precision: {rounded:?} {whole:?}")))
}

/// What is moved beyond the bounds, and shared memory that threads wait for.
fn floors(device: &Device, simulator: &Simulator) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    println!(
        "{:<16}{:>10}{:>10}  share of the least memory that the value and its gradient move",
        "", "value", "gradient"
    );
    for floor in FLOORS {
        let inputs = inputs(floor.shapes, DType::F32, device)?;
        let counted = |f: &dyn Fn() -> Result<()>| -> Result<[u64; 2]> {
            device.synchronize()?;
            simulator.reset_counts();
            f()?;
            device.synchronize()?;
            let sectors = simulator.count("sectors read") + simulator.count("sectors written");
            Ok([32 * sectors, simulator.count("bank conflicts")])
        };
        let y = (floor.on)(&inputs)?;
        let identity: fn(&[Tensor]) -> Result<Tensor> = |x| Ok(x[0].clone());
        let [value, conflicts] = counted(&|| (floor.on)(&inputs).map(drop))?;
        let [all, others] = counted(&|| gradients(floor.on, &inputs).map(drop))?;
        let [loss, _] = counted(&|| gradients(identity, std::slice::from_ref(&y)).map(drop))?;
        let moved = [value, all.saturating_sub(value + loss)];
        let shares: Vec<f64> =
            moved.iter().zip(floor.least).map(|(moved, least)| *moved as f64 / (4 * least) as f64).collect();
        println!("{:<16}{:>10.3}{:>10.3}  {}", floor.name, shares[0], shares[1], floor.why);
        if shares.iter().zip(floor.most).any(|(share, most)| *share > most) || conflicts + others > 0 {
            faults.push(format!(
                "{}: {shares:?} of the least memory, {} bank conflicts",
                floor.name,
                conflicts + others
            ));
        }
    }
    Ok(faults)
}

fn layer_norm(x: &[Tensor]) -> Result<Tensor> {
    norm(x, Extent { outer: x[0].dim(0)?, rows: 1, groups: 1, size: x[0].dim(1)? }, true)
}

fn rms_norm(x: &[Tensor]) -> Result<Tensor> {
    let extent = Extent { outer: x[0].dim(0)?, rows: 1, groups: 1, size: x[0].dim(1)? };
    normalized(x, extent, Source::Squares)
}

fn norm(x: &[Tensor], extent: Extent, use_fast_variance: bool) -> Result<Tensor> {
    normalized(x, extent, Source::Input { use_fast_variance })
}

fn normalized(x: &[Tensor], extent: Extent, source: Source<'_>) -> Result<Tensor> {
    let normalized = normalize(&x[0], extent, source, 1e-5, [Some(&x[1]), Some(&x[2])])?;
    normalized.map(|normalized| normalized.y).ok_or_else(|| Error::argument("a normalization has no kernel"))
}

const ORDER: &str = "SIMCUDA_ORDER";

fn main() -> ExitCode {
    let Some(simulator) = Simulator::loaded() else {
        eprintln!("kernels: the driver is not the simulated device of `tools/simcuda`");
        return ExitCode::FAILURE;
    };
    if std::env::var_os(ORDER).is_some() {
        return match run(simulator) {
            Ok(bits) => {
                println!("{bits:x} of all results");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("kernels: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let program = std::env::current_exe().expect("a program has a file");
    let mut bits = Vec::new();
    for order in ["forward", "reversed", "7"] {
        let run = Command::new(&program)
            .args(std::env::args().skip(1))
            .env(ORDER, order)
            .stderr(Stdio::inherit())
            .output();
        let run = run.expect("the program starts again");
        if !run.status.success() {
            eprintln!("kernels: failed with groups and warps in the order {order}");
            return ExitCode::FAILURE;
        }
        if order == "forward" {
            print!("{}", String::from_utf8_lossy(&run.stdout));
        }
        bits.push(run.stdout);
    }
    if bits.iter().any(|other| other.is_empty() || *other != bits[0]) {
        eprintln!("kernels: the bits depend on the order of groups and warps");
        return ExitCode::FAILURE;
    }
    println!("kernels: {} operations passed in 3 orders", CASES.len());
    ExitCode::SUCCESS
}

/// Checks all cases, and returns a hash of the bits of their results.
fn run(simulator: Simulator) -> Result<u64> {
    let device = treex::cuda_device(0)?;
    if let Some(folder) = std::env::var_os("TREEX_TEST_KERNELS") {
        treex::cuda::keep_kernels_in(folder)?;
    }
    let mut hasher = DefaultHasher::new();
    let identity: fn(&[Tensor]) -> Result<Tensor> = |x| Ok(x[0].clone());
    let [_, base] = launches(identity, &inputs(&[&[4, 3]], DType::F32, &device)?, &simulator)?;
    let mut faults = Vec::new();
    let only = std::env::args().nth(1).unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        for shapes in case.shapes {
            for (dtype, tolerance) in
                [(DType::F64, 1e-11), (DType::F32, 2e-5), (DType::F16, 4e-3), (DType::BF16, 3e-2)]
            {
                let name = format!("{} of {shapes:?} in `{}`", case.name, dtype.as_str());
                let expected = gradients(case.on, &inputs(shapes, dtype, &Device::Cpu)?)?;
                let found = gradients(case.on, &inputs(shapes, dtype, &device)?)?;
                for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let largest = expected.iter().fold(1e-3f64, |largest, x| largest.max(x.abs()));
                    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * largest;
                    if found.len() != expected.len() || !found.iter().zip(expected).all(is_close) {
                        faults.push(format!("{name}: result {index} is not that of the CPU"));
                    }
                    found.iter().for_each(|x| x.to_bits().hash(&mut hasher));
                }
            }
            let [forward, all] = launches(case.on, &inputs(shapes, DType::F32, &device)?, &simulator)?;
            // The identity's gradient is that of the loss, which the operation's gets too; and Candle adds a scalar to zeros, by
            // which the operation is a node of its graph.
            let counts = (forward, (all - base).saturating_sub(forward + 1));
            if counts.0 > case.forward || counts.1 > case.backward {
                let most = (case.forward, case.backward);
                faults.push(format!("{} of {shapes:?}: {counts:?} launches, more than {most:?}", case.name));
            }
        }
    }
    if only.is_empty() {
        faults.extend(precision(&device)?);
        faults.extend(corners(&device)?);
        faults.extend(floors(&device, &simulator)?);
    }
    if faults.is_empty() {
        Ok(hasher.finish())
    } else {
        Err(Error::argument(faults.join("\n")).expected("none of these"))
    }
}

fn inputs(shapes: &[&[usize]], dtype: DType, device: &Device) -> Result<Vec<Tensor>> {
    let input = |(seed, shape): (usize, &&[usize])| -> Result<_> {
        Ok(Key::from(seed as u64).normal(*shape, DType::F32)?.to_dtype(dtype)?.to_device(device)?)
    };
    shapes.iter().enumerate().map(input).collect()
}

/// A loss in which each element has a weight of its own.
fn loss(y: &Tensor) -> Result<Tensor> {
    let y = y.to_dtype(if y.dtype() == DType::F64 { DType::F64 } else { DType::F32 })?;
    let weights = Tensor::from_iter((0..y.elem_count()).map(|at| (at as f64 * 0.7).sin()), &Device::Cpu)?;
    let weights = weights.to_dtype(y.dtype())?.reshape(y.shape())?.to_device(y.device())?;
    Ok((y * weights)?.sum_all()?)
}

/// The value, and the gradient of each input.
fn gradients(on: fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let leaves = inputs.iter().map(|x| Leaf::<Parameter>::new(x.clone())).collect::<Result<Vec<_>>>()?;
    let mut values = Vec::new();
    let (_, grads) = value_and_grad(&leaves, |leaves| {
        let y = on(&leaves.iter().map(Leaf::get).collect::<Result<Vec<_>>>()?)?;
        values.push(y.detach());
        loss(&y)
    })?;
    for gradient in &grads {
        values.push(gradient.get()?);
    }
    let numbers =
        |x: &Tensor| Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?);
    values.iter().map(numbers).collect()
}

/// The launches of the operation, and of its value and gradients with the loss.
fn launches(
    on: fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    simulator: &Simulator,
) -> Result<[u64; 2]> {
    let counted = |f: &dyn Fn() -> Result<()>| -> Result<u64> {
        f()?;
        simulator.reset_counts();
        f()?;
        Ok(simulator.count("launches"))
    };
    Ok([counted(&|| on(inputs).map(drop))?, counted(&|| gradients(on, inputs).map(drop))?])
}
