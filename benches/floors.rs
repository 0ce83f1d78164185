//! Each operation at a large size, compared with its floor (roofline model): the time of its bytes at copy bandwidth,
//! or of its arithmetic at peak multiply-add throughput, whichever is longer; both measured in the same run on the same
//! number of threads.
//!
//! `cargo bench --workspace --bench floors`; row names may follow `--`. Bytes are those that must move with cold
//! caches: every input is read once (twice if statistics are needed first), every output is written once. Recomputed
//! scores in attention's backward pass count as work. Dropout's floor is that of its bytes, but the random bits
//! dominate its time.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach};
use treex_core::keep_memory;
use treex_core::prelude::*;
use treex_core::{Key, Leaf, Parameter, Result};
use treex_kernels::vector::{Vector, VectorKernel, Vectors};
use treex_nn::{
    AttentionOptions, BatchNorm, Conv, Dropout, Embed, LayerNorm, Linear, Padding, RmsNorm, add, avg_pool,
    dot_product_attention, gelu, log_softmax, max_pool, relu, softmax, tanh, vdot,
};
use treex_optim::{Optimizer, adam, softmax_cross_entropy_with_integer_labels};

/// The minimal work of a pass.
#[derive(Clone, Copy, Default)]
struct Work {
    bytes: f64,
    flops: f64,
}

fn bytes(bytes: usize) -> Work {
    Work { bytes: bytes as f64, flops: 0. }
}

fn flops(flops: usize) -> Work {
    Work { bytes: 0., flops: flops as f64 }
}

/// The throughput of the machine.
struct Machine {
    bytes_per_second: f64,
    flops_per_second: f64,
}

impl Machine {
    fn floor(&self, work: Work) -> f64 {
        (work.bytes / self.bytes_per_second).max(work.flops / self.flops_per_second)
    }
}

/// Measures the best of several runs, since other processes may use the machine.
struct Clock {
    duration: Duration,
}

impl Clock {
    fn best(&self, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
        f()?;
        let (started, mut best) = (Instant::now(), f64::INFINITY);
        loop {
            let now = Instant::now();
            f()?;
            best = best.min(now.elapsed().as_secs_f64());
            if started.elapsed() >= self.duration {
                return Ok(best);
            }
        }
    }

    /// Copy bandwidth on all threads, between buffers larger than the caches: bytes read and written per second.
    fn copy(&self) -> Result<f64> {
        const LEN: usize = 1 << 25;
        let (from, mut to) = (vec![1f32; LEN], vec![0f32; LEN]);
        let seconds = self.best(|| {
            let pieces = to.par_chunks_mut(1 << 13).zip(from.par_chunks(1 << 13));
            pieces.for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })?;
        Ok((2 * LEN * size_of::<f32>()) as f64 / seconds)
    }

    /// Multiply-add throughput in registers, on all threads.
    fn multiply_add(&self) -> Result<f64> {
        let threads = rayon::current_num_threads();
        let seconds = self.best(|| {
            let sum: f32 = (0..threads).into_par_iter().map(|_| f32::dispatch(MultiplyAdd)).sum();
            std::hint::black_box(sum);
            Ok(())
        })?;
        let (lanes, _) = f32::registers();
        Ok((threads * MultiplyAdd::ROUNDS * MultiplyAdd::CHAINS * lanes * 2) as f64 / seconds)
    }
}

struct MultiplyAdd;

impl MultiplyAdd {
    const ROUNDS: usize = 1 << 20;
    /// Independent sums: two units with a latency of four cycles need eight.
    const CHAINS: usize = 12;
}

impl VectorKernel<f32> for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Vector<Element = f32>>(self) -> f32 {
        // SAFETY: the caller ensures that the machine has the instructions of `V`.
        unsafe {
            let (a, b) = (V::splat(std::hint::black_box(0.999)), V::splat(std::hint::black_box(0.001)));
            // All different, or the compiler would merge them.
            let mut sums: [V; Self::CHAINS] =
                std::array::from_fn(|chain| V::splat(std::hint::black_box(chain as f32)));
            for _ in 0..Self::ROUNDS {
                for sum in &mut sums {
                    *sum = sum.mul_add(a, b);
                }
            }
            let mut buffer = [0f32; 64];
            let mut total = 0.;
            for sum in sums {
                // The buffer is larger than any vector.
                sum.store(buffer.as_mut_ptr());
                total += buffer[0];
            }
            total
        }
    }
}

/// A loss with a precomputed gradient, so that only the operation's backward pass is measured.
struct Given(Tensor);

impl Given {
    fn of(gradient: &Tensor, y: &Tensor) -> Result<Tensor> {
        attach(Self(gradient.clone()), &[y], OwnedStorage::new(vec![0f32], ())?)
    }
}

impl Operation for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn backward(&self, _: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.0.clone())])
    }
}

fn normal(dims: &[usize]) -> Result<Tensor> {
    Key::from(0).normal(dims, DType::F32)
}

fn leaf(dims: &[usize]) -> Result<Leaf<Parameter>> {
    Leaf::new(normal(dims)?)
}

struct Bench {
    clock: Clock,
    machine: Machine,
    asked: Vec<String>,
}

impl Bench {
    fn line(&self, (name, size, pass): (&str, &str, &str), seconds: f64, work: Work) {
        let floor = self.machine.floor(work);
        // Without a floor, no percentage.
        let share = if floor > 0. { format!("{:.0} %", 100. * floor / seconds) } else { String::new() };
        let (ms, floor) = (seconds * 1e3, floor * 1e3);
        println!("{name:<24} {size:<30} {pass:<9} {ms:>9.3} {floor:>9.3} {share:>8}");
    }

    fn is_selected(&self, name: &str) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|part| name.contains(part.as_str()))
    }

    /// Measures `f` of a model, which is created only if the row is selected, with the work of its two passes.
    fn row<M: TreeObject + Clone>(
        &self,
        (name, size): (&str, &str),
        [forward, backward]: [Work; 2],
        model: impl FnOnce() -> Result<M>,
        f: impl Fn(&mut M) -> Result<Tensor>,
    ) -> Result<()> {
        if !self.is_selected(name) {
            return Ok(());
        }
        let mut model = model()?;
        let gradient = normal(f(&mut model)?.dims())?;
        let alone = self.clock.best(|| f(&mut model).map(drop))?;
        self.line((name, size, "forward"), alone, forward);
        // The tracked forward pass touches the same memory: the difference is the backward pass.
        let both = self
            .clock
            .best(|| model.value_and_grad(Parameter, |model| Given::of(&gradient, &f(model)?)).map(drop))?;
        self.line((name, size, "backward"), (both - alone).max(0.), backward);
        Ok(())
    }

    fn layer<M: Module + Clone>(
        &self,
        row: (&str, &str),
        work: [Work; 2],
        layer: M,
        dims: &[usize],
    ) -> Result<()> {
        let model = || Ok((leaf(dims)?, layer.init(42, &Device::Cpu)?));
        self.row(row, work, model, |(x, layer)| layer.call(&x.get()?))
    }

    fn function(
        &self,
        row: (&str, &str),
        work: [Work; 2],
        dims: &[usize],
        f: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        self.row(row, work, || leaf(dims), |x| f(&x.get()?))
    }
}

fn all(bench: &Bench) -> Result<()> {
    const N: usize = 1 << 24;
    let map = [bytes(8 * N), bytes(12 * N)];
    bench.function(("relu", "16 M"), map, &[N], relu)?;
    bench.function(("gelu", "16 M"), map, &[N], gelu)?;
    bench.function(("tanh", "16 M"), map, &[N], tanh)?;
    let two = || Ok((leaf(&[N])?, leaf(&[N])?));
    let handed_on = [bytes(12 * N), Work::default()];
    bench.row(("add", "16 M"), handed_on, two, |(x, y)| add(&x.get()?, &y.get()?))?;
    bench.row(("vdot", "16 M"), [bytes(8 * N), bytes(16 * N)], two, |(x, y)| vdot(&x.get()?, &y.get()?))?;
    bench.layer(("dropout", "16 M"), [bytes(8 * N), bytes(8 * N)], Dropout::new(0.1), &[N])?;

    let (rows, columns) = (1 << 14, 1024);
    let n = rows * columns;
    let size = "[16384, 1024]";
    bench.function(("softmax", size), [bytes(8 * n), bytes(12 * n)], &[rows, columns], |x| {
        softmax(x, D::Minus1)
    })?;
    let of_log = [bytes(8 * n), bytes(12 * n)];
    bench.function(("log_softmax", size), of_log, &[rows, columns], |x| log_softmax(x, D::Minus1))?;
    let labels = Tensor::new((0..rows as u32).map(|row| row * 7 % 1000).collect::<Vec<_>>(), &Device::Cpu)?;
    bench.function(("cross-entropy", size), [bytes(4 * n), bytes(8 * n)], &[rows, columns], |x| {
        softmax_cross_entropy_with_integer_labels(x, &labels)
    })?;
    bench.layer(
        ("layer_norm", size),
        [bytes(8 * n), bytes(12 * n)],
        LayerNorm::new(columns),
        &[rows, columns],
    )?;
    bench.layer(
        ("rms_norm", size),
        [bytes(8 * n), bytes(12 * n)],
        RmsNorm::new(columns),
        &[rows, columns],
    )?;
    let images = [64, 56, 56, 64];
    let n = images.iter().product::<usize>();
    let size = "[64, 56, 56, 64]";
    bench.layer(("batch_norm", size), [bytes(12 * n), bytes(20 * n)], BatchNorm::new(64), &images)?;
    let pooled = [bytes(4 * n + n + n / 4), bytes(n + n / 4 + 4 * n)];
    bench.function(("max_pool 2x2", size), pooled, &images, |x| max_pool(x, [2, 2], 2, Padding::Valid))?;
    let pooled = [bytes(5 * n), bytes(5 * n)];
    bench.function(("avg_pool 2x2", size), pooled, &images, |x| {
        avg_pool(x, [2, 2], 2, Padding::Valid, true)
    })?;

    let (ids, features) = (1 << 15, 512);
    let n = ids * features;
    let table = 4 * 1000 * features;
    let rows = Tensor::new((0..ids as u32).map(|id| id * 7 % 1000).collect::<Vec<_>>(), &Device::Cpu)?;
    let embed = || Embed::new(1000, features).init(42, &Device::Cpu);
    let looked_up = [bytes(4 * n + table), bytes(4 * n + table)];
    bench.row(("embed", "32768 of [1000, 512]"), looked_up, embed, |embed| embed.call(&rows))?;

    let product = 2 * 2048 * 1024 * 1024;
    let linear = Linear::new(1024, 1024);
    bench.layer(
        ("linear", "[2048, 1024] 1024"),
        [flops(product), flops(2 * product)],
        linear,
        &[2048, 1024],
    )?;
    let images = [32, 28, 28, 64];
    let product = 2 * 32 * 28 * 28 * 9 * 64 * 64;
    let conv = Conv::new(64, 64, [3, 3]);
    bench.layer(("conv 3x3", "[32, 28, 28, 64] 64"), [flops(product), flops(2 * product)], conv, &images)?;
    let n = images.iter().product::<usize>();
    let each = [bytes(8 * n), bytes(8 * n + 8 * n)];
    let conv = Conv::new(64, 64, [3, 3]).feature_group_count(64);
    bench.layer(("conv 3x3, depthwise", "[32, 28, 28, 64]"), each, conv, &images)?;
    let dims = [4, 1024, 8, 64];
    let product = 2 * 4 * 8 * 1024 * 1024 * 64;
    let three = || Ok((leaf(&dims)?, leaf(&dims)?, leaf(&dims)?));
    let options = AttentionOptions::default();
    let work = [flops(2 * product), flops(5 * product)];
    bench.row(("attention", "[4, 1024, 8, 64]"), work, three, |(query, key, value)| {
        dot_product_attention(&query.get()?, &key.get()?, &value.get()?, &options)
    })?;

    if bench.is_selected("adam") {
        let (mut params, grads) = (vec![leaf(&[N])?], vec![leaf(&[N])?]);
        let mut optimizer = Optimizer::new(adam(1e-3)).init(&params)?;
        let seconds = bench.clock.best(|| optimizer.update(&grads, &mut params))?;
        bench.line(("adam", "16 M", "step"), seconds, bytes(28 * N));
    }
    Ok(())
}

fn main() -> Result<()> {
    // Cargo passes `--bench`; CI passes `--test`, which runs each row once.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let asked = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let clock = Clock { duration: Duration::from_millis(if is_test { 0 } else { 600 }) };
    keep_memory();
    let machine = Machine { bytes_per_second: clock.copy()?, flops_per_second: clock.multiply_add()? };
    println!(
        "{} threads: copy {:.1} GB/s, multiply-add {:.0} Gflop/s\n",
        rayon::current_num_threads(),
        machine.bytes_per_second / 1e9,
        machine.flops_per_second / 1e9
    );
    println!("{:<24} {:<30} {:<9} {:>9} {:>9} {:>8}", "operation", "size", "pass", "ms", "floor", "share");
    all(&Bench { clock, machine, asked })
}
