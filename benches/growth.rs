//! Scaling of a training step with each dimension of a model: its time must not grow faster than its work. A step is a
//! forward pass, a backward pass and Adam in place.
//!
//! `cargo bench --workspace --bench growth` prints a table and writes `target/growth.png`; row names may follow `--`.
//! The exponent of a row is the growth of its time since the row above, as a power of the size; that of the work is the
//! asymptotic limit. A row is marked if two doublings together exceed it.
#![allow(missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use treex_core::prelude::*;
use treex_core::{Key, Leaf, Parameter, Result};
use treex_examples::plot::{Curve, curves};
use treex_nn::initializers::he_normal;
use treex_nn::{LayerNorm, Linear, LstmCell, Mlp, MultiHeadDotProductAttention, Rnn, add, gelu, vdot};
use treex_optim::{Optimizer, adam};

/// One step of a model of fixed size.
type Step = Box<dyn FnMut() -> Result<()>>;

/// A dimension that grows.
struct Growth {
    name: &'static str,
    /// Sizes, each twice the previous one.
    sizes: Vec<usize>,
    /// The exponent of the work as a function of the size.
    work: f64,
    step: fn(usize) -> Result<Step>,
}

/// Rounds over all sizes of a row; the median is reported.
const ROUNDS: usize = 5;

/// The minimal duration of a measurement.
const MIN_DURATION: Duration = Duration::from_millis(40);

/// The tolerance of an exponent over two doublings, for effects of cache sizes.
const SLACK: f64 = 0.25;

fn doublings(from: usize, to: usize) -> Vec<usize> {
    std::iter::successors(Some(from), |size| Some(size * 2)).take_while(|size| *size <= to).collect()
}

fn growths() -> Vec<Growth> {
    let row = |name, sizes, work, step| Growth { name, sizes, work, step };
    vec![
        row("perceptron, batch", doublings(1, 4096), 1., |batch| mlp(batch, 256, 3)),
        row("perceptron, width", doublings(16, 2048), 2., |width| mlp(32, width, 3)),
        row("perceptron, depth", doublings(1, 256), 1., |depth| mlp(32, 64, depth)),
        row("transformer block, length", doublings(32, 4096), 2., |length| block(length, 128)),
        row("transformer block, width", doublings(32, 1024), 2., |width| block(128, width)),
        row("LSTM, time steps", doublings(1, 512), 1., |time| lstm(time, 64)),
        row("LSTM, features", doublings(16, 512), 2., |features| lstm(16, features)),
        row("Adam, leaves of 1 M elements in all", doublings(1, 1 << 14), 1., |leaves| {
            adam_alone(leaves, (1 << 20) / leaves)
        }),
        row("Adam, leaves of 256 elements", doublings(1, 1 << 14), 1., |leaves| adam_alone(leaves, 256)),
        row("Adam, elements of one leaf", doublings(1 << 8, 1 << 24), 1., |elements| adam_alone(1, elements)),
    ]
}

fn normal(dims: &[usize]) -> Result<Tensor> {
    Key::from(0).normal(dims, DType::F32)
}

/// A training step on `x`, with a loss of negligible cost.
fn training<M: Module + Clone + 'static>(model: M, x: Tensor) -> Result<Step> {
    let mut model = model.init(42, &Device::Cpu)?;
    let weights = (normal(model.call(&x)?.dims())? * 1e-3)?;
    let mut optimizer = Optimizer::new(adam(1e-6)).init(&model)?;
    Ok(Box::new(move || {
        let (_, grads) = model.value_and_grad(Parameter, |model| vdot(&model.call(&x)?, &weights))?;
        optimizer.update(&grads, &mut model)
    }))
}

/// With initial weights for `relu`: otherwise the activations of a deep network become subnormal, which is slow.
fn mlp(batch: usize, width: usize, depth: usize) -> Result<Step> {
    training(Mlp::new(vec![width; depth + 1]).kernel_init(he_normal()), normal(&[batch, width])?)
}

fn lstm(time: usize, features: usize) -> Result<Step> {
    training(Rnn::new(LstmCell::new(features, features)), normal(&[8, time, features])?)
}

#[derive(Clone, Debug, TreeObject)]
struct Block {
    norm_0: LayerNorm,
    attention: MultiHeadDotProductAttention,
    norm_1: LayerNorm,
    dense_0: Linear,
    dense_1: Linear,
}

impl Module for Block {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = add(x, &self.attention.call(&self.norm_0.call(x)?)?)?;
        let y = gelu(&self.dense_0.call(&self.norm_1.call(&x)?)?)?;
        add(&x, &self.dense_1.call(&y)?)
    }
}

fn block(length: usize, width: usize) -> Result<Step> {
    let block = Block {
        norm_0: LayerNorm::new(width),
        attention: MultiHeadDotProductAttention::new(2, width),
        norm_1: LayerNorm::new(width),
        dense_0: Linear::new(width, 4 * width),
        dense_1: Linear::new(4 * width, width),
    };
    training(block, normal(&[1, length, width])?)
}

fn adam_alone(leaves: usize, elements: usize) -> Result<Step> {
    let leaf = || Leaf::<Parameter>::new(Tensor::ones(elements, DType::F32, &Device::Cpu)?);
    let model = || (0..leaves).map(|_| leaf()).collect::<Result<Vec<_>>>();
    let (mut params, grads) = (model()?, model()?);
    let mut optimizer = Optimizer::new(adam(1e-3)).init(&params)?;
    Ok(Box::new(move || optimizer.update(&grads, &mut params)))
}

/// Seconds per step, over at least [`MIN_DURATION`].
fn measure(step: &mut Step) -> Result<f64> {
    let started = Instant::now();
    let mut steps = 0;
    while steps == 0 || started.elapsed() < MIN_DURATION {
        step()?;
        steps += 1;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(steps))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds per step at each size, measured in turn.
fn times(growth: &Growth, rounds: usize) -> Result<Vec<f64>> {
    let mut steps = growth.sizes.iter().map(|&size| (growth.step)(size)).collect::<Result<Vec<_>>>()?;
    let mut times = vec![Vec::new(); steps.len()];
    for step in &mut steps {
        step()?;
        step()?;
    }
    for _ in 0..rounds {
        for (times, step) in times.iter_mut().zip(&mut steps) {
            times.push(measure(step)?);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// Prints a table; returns the number of rows that grew faster than their work.
fn print(growth: &Growth, times: &[f64]) -> usize {
    println!("\n{} (work: {:.0})", growth.name, growth.work);
    println!("{:>10} {:>12} {:>9}", "size", "ms", "exponent");
    let mut marked = 0;
    for (at, (size, time)) in growth.sizes.iter().zip(times).enumerate() {
        let exponent =
            |back: usize| at.checked_sub(back).map(|from| (time / times[from]).log2() / back as f64);
        let is_faster = exponent(2).is_some_and(|exponent| exponent > growth.work + SLACK);
        let exponent = exponent(1).map_or(String::new(), |exponent| format!("{exponent:.2}"));
        let mark = if is_faster { "  faster than its work" } else { "" };
        println!("{size:>10} {:>12.4} {exponent:>9}{mark}", time * 1e3);
        marked += usize::from(is_faster);
    }
    marked
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    treex_core::keep_memory();
    // Cargo passes `--bench`; CI passes `--test`, which runs each of the smallest sizes once.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let asked: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|part| name.contains(part.as_str()));

    let started = Instant::now();
    let (mut marked, mut measured) = (0, Vec::new());
    for mut growth in growths().into_iter().filter(|growth| is_asked(growth.name)) {
        if is_test {
            growth.sizes.truncate(2);
        }
        let times = times(&growth, if is_test { 1 } else { ROUNDS })?;
        marked += print(&growth, &times);
        let doublings = |size: usize| (size as f64).log2();
        let points =
            growth.sizes.iter().map(|&size| doublings(size)).zip(times.iter().map(|time| time * 1e3));
        measured.push((growth.name, points.collect::<Vec<_>>()));
    }
    println!("\n{marked} rows grew faster than their work; {:.0} s", started.elapsed().as_secs_f64());
    if is_test {
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/growth.png");
    let lines: Vec<_> =
        measured.iter().map(|(name, points)| Curve { name, points: points.clone() }).collect();
    curves(&file, "A training step", "size, as a power of 2", "ms", &lines)?;
    println!("plotted in target/growth.png");
    Ok(())
}
