//! The main example: a convolutional network learns handwritten digits.
//!
//! `cargo run --release -p treex-examples --bin digits` trains on the 1,797 digits in the repository and
//! writes `loss.png`, `samples.png` and `checkpoint.safetensors` to `digits-out`. `--resume` continues from the
//! checkpoint, bit for bit as if training had not stopped. The checkpoint is written before the first step, at
//! intervals and at the end; Ctrl-C, SIGTERM and SIGHUP write it and exit. It describes itself: the configuration, a
//! digest of the data, the position, the keys and the optimizer are in that one file.

mod data;
mod model;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{Device, Tensor};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use treex_core::{
    Initializer, Key, Leaf, Parameter, Save, State, checkpoint_metadata, cuda_device, prelude::*,
};
use treex_optim::{AdamW, Optimizer, adamw, softmax_cross_entropy_with_integer_labels, warmup_cosine};

use data::Split;
use model::Net;
use report::Evaluation;

/// Trains a convolutional network on handwritten digits.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// The folder for plots and the checkpoint. Without `--resume`, a checkpoint that is there is replaced.
    #[arg(long, default_value = "digits-out")]
    out: PathBuf,
    /// The number of seeds to train, from `seed` on; reports the median and the minimum.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// Resume from the checkpoint, with its configuration. The data must be the same; `--data` tells where it is now.
    #[arg(long, conflicts_with_all = ["seeds", "epochs", "batch", "rate", "seed"])]
    resume: bool,
    /// Write the checkpoint after every so many steps, beside the start and the end.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    save_every: u64,
    /// Stop after this many steps; `--resume` continues.
    #[arg(long)]
    steps: Option<usize>,
    /// Where the model trains. CUDA needs a build with `--features cuda`.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceName,
    #[command(flatten)]
    config: Config,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
}

/// The configuration of a run, a part of its checkpoint.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A folder with MNIST or Fashion-MNIST in IDX files, instead of the digits in the repository.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The number of epochs; a larger data set needs fewer (`--epochs 2` for MNIST).
    #[arg(long, default_value_t = 40)]
    epochs: usize,
    /// Images per step.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// The peak learning rate.
    #[arg(long, default_value_t = 3e-3)]
    rate: f64,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// The state of training: one tree, one file.
#[derive(Clone, Debug, TreeObject)]
struct Training {
    model: Net,
    optimizer: Optimizer<AdamW>,
    progress: Progress,
}

/// The progress of training, and the loss curves as rows of step and loss. The curves start as initializers of
/// unknown length, so that a checkpoint of any length can be loaded.
#[derive(Clone, Debug, TreeObject)]
struct Progress {
    step: Leaf<State>,
    /// The sum of the losses of the current epoch.
    running: Leaf<State>,
    train: Leaf<State>,
    validation: Leaf<State>,
}

impl Progress {
    fn new() -> treex_core::Result<Self> {
        let empty =
            || Initializer::new(|_| Ok(Tensor::zeros((0, 2), candle_core::DType::F32, &Device::Cpu)?)).into();
        Ok(Self {
            step: Leaf::new(Tensor::new(0u32, &Device::Cpu)?)?,
            running: Leaf::new(Tensor::new(0f32, &Device::Cpu)?)?,
            train: empty(),
            validation: empty(),
        })
    }

    fn step(&self) -> Result<usize> {
        Ok(self.step.get()?.to_scalar::<u32>()? as usize)
    }
}

fn append(curve: &mut Leaf<State>, step: usize, loss: f64) -> Result<()> {
    let row = Tensor::new(&[[step as f32, loss as f32]], &Device::Cpu)?;
    Ok(curve.set(Tensor::cat(&[curve.get()?, row], 0)?)?)
}

fn points(curve: &Leaf<State>) -> Result<Vec<(f64, f64)>> {
    let rows = curve.get()?.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| (f64::from(row[0]), f64::from(row[1]))).collect())
}

/// What a checkpoint tells of its run, beside the tensors.
struct Description {
    config: Config,
    /// [`Split::digest`].
    data: String,
}

impl Description {
    fn options(&self) -> Result<Save> {
        let config = serde_json::to_string(&self.config)?;
        Ok(Save::new().metadata("config", config).metadata("data", &*self.data))
    }

    fn read(checkpoint: &Path) -> Result<Self> {
        let mut texts = checkpoint_metadata(checkpoint).context("nothing to resume")?;
        let (Some(config), Some(data)) = (texts.remove("config"), texts.remove("data")) else {
            bail!(
                "`{}` does not tell its configuration and data; start again without `--resume`",
                checkpoint.display()
            );
        };
        let config = serde_json::from_str(&config)
            .with_context(|| format!("the configuration in `{}` is not valid", checkpoint.display()))?;
        Ok(Self { config, data })
    }
}

fn main() -> Result<()> {
    treex_core::keep_memory(); // reuse a step's buffers for the next
    let args = Args::parse();
    let checkpoint = args.out.join("checkpoint.safetensors");
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create `{}`", args.out.display()))?;
    let resumed = if args.resume { Some(Description::read(&checkpoint)?) } else { None };
    let mut config = resumed.as_ref().map_or(&args.config, |stored| &stored.config).clone();
    config.data = args.config.data.clone().or(config.data);
    ensure!(config.batch > 0 && config.epochs > 0, "`--batch` and `--epochs` must be at least 1");
    let last_seed = config.seed.checked_add(args.seeds - 1);
    let last_seed =
        last_seed.context("`--seed` and `--seeds` together exceed 32 bits; choose a smaller seed")?;
    let split = match &config.data {
        Some(folder) => data::idx(folder)?,
        None => data::digits()?,
    };
    split.check()?;
    ensure!(
        config.batch <= split.train.len(),
        "`--batch` is larger than the {} training images",
        split.train.len()
    );
    let data = split.digest();
    if let Some(stored) = &resumed {
        ensure!(
            stored.data == data,
            "the data differ from those of `{}`; give the same with `--data`",
            checkpoint.display()
        );
        println!("resuming with {}", serde_json::to_string(&config)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || on_signal.store(true, Ordering::Relaxed))?;

    let mut accuracies = Vec::new();
    for seed in config.seed..=last_seed {
        let description = Description { config: Config { seed, ..config.clone() }, data: data.clone() };
        match run(&args, &description, &split, &checkpoint, &stop)? {
            Some(accuracy) => accuracies.push(accuracy),
            None => return Ok(()),
        }
    }
    if accuracies.len() > 1 {
        accuracies.sort_by(f64::total_cmp);
        let (median, minimum) = (accuracies[accuracies.len() / 2], accuracies[0]);
        println!(
            "over {} seeds: median {:.2} %, minimum {:.2} %",
            accuracies.len(),
            100. * median,
            100. * minimum
        );
    }
    Ok(())
}

/// Trains one seed. Returns the test accuracy, or `None` if training was stopped early.
fn run(
    args: &Args,
    description: &Description,
    split: &Split,
    checkpoint: &Path,
    stop: &AtomicBool,
) -> Result<Option<f64>> {
    let device = match args.device {
        DeviceName::Cpu => Device::Cpu,
        DeviceName::Cuda => cuda_device(0)?,
    };
    let (config, options) = (&description.config, description.options()?);
    // The seed itself initializes the model; the two keys split from it shuffle and shift the images.
    let [shuffle_key, augment_key] = Key::from(config.seed).split2();
    let steps_an_epoch = split.train.len() / config.batch;
    let total = config.epochs * steps_an_epoch;

    let model = Net::new(split.train.side, split.train.classes()).init(config.seed, &device)?;
    let schedule = warmup_cosine(config.rate, total as u64 / 10, total as u64);
    let optimizer = Optimizer::new(adamw(schedule).weight_decay(1e-2)).init(&model)?;
    let mut training = Training { model, optimizer, progress: Progress::new()? };
    if args.resume {
        training.load(checkpoint)?;
    } else {
        println!("{}", training.model.tabulate_with(&split.train.batch(&[0], &device)?.0)?);
        training.progress = training.progress.init(0, &Device::Cpu)?;
        // From here on, the folder holds this run and none before it.
        training.save_with(checkpoint, &options)?;
    }

    let last = args.steps.map_or(total, |steps| steps.min(total));
    let bar = ProgressBar::new(total as u64).with_style(ProgressStyle::with_template(
        "seed {prefix}  {bar:32} {pos}/{len} steps  {msg}  {elapsed}<{eta}",
    )?);
    bar.set_prefix(config.seed.to_string());
    let started = Instant::now();
    let mut order = Vec::new();
    for step in training.progress.step()?..last {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (epoch, batch) = (step / steps_an_epoch, step % steps_an_epoch);
        if order.is_empty() || batch == 0 {
            order = shuffled(split.train.len(), shuffle_key.fold_in(epoch as u32))?;
        }
        let indices = &order[batch * config.batch..(batch + 1) * config.batch];
        let (x, y) = split.train.augmented(indices, augment_key.fold_in(step as u32), &device)?;
        let rate = training.optimizer.learning_rate()?;
        let (loss, grads) = training.model.value_and_grad(Parameter, |model| {
            Ok(softmax_cross_entropy_with_integer_labels(&model.call(&x)?, &y)?.mean_all()?)
        })?;
        training.optimizer.update(&grads, &mut training.model)?;
        let loss = loss.to_device(&Device::Cpu)?;

        let progress = &mut training.progress;
        progress.step.set(Tensor::new(step as u32 + 1, &Device::Cpu)?)?;
        progress.running.set((progress.running.get()? + &loss)?)?;
        if batch + 1 == steps_an_epoch {
            let mean = f64::from(progress.running.get()?.to_scalar::<f32>()?) / steps_an_epoch as f64;
            append(&mut progress.train, step + 1, mean)?;
            progress.running.set(Tensor::new(0f32, &Device::Cpu)?)?;
            let validation = Evaluation::of(&training.model, &split.validation, &device)?;
            append(&mut progress.validation, step + 1, validation.loss)?;
        }
        bar.set_message(format!(
            "loss {:.4}  rate {:.2e}",
            loss.to_scalar::<f32>()?,
            rate.unwrap_or(f64::NAN)
        ));
        bar.inc(1);
        if (step as u64 + 1).is_multiple_of(args.save_every) {
            training.save_with(checkpoint, &options)?;
        }
    }
    bar.set_position(training.progress.step()? as u64);
    bar.abandon();
    training.save_with(checkpoint, &options)?;
    println!("trained for {:.1} s, wrote {}", started.elapsed().as_secs_f64(), checkpoint.display());
    finish(args, split, &training, total, &device)
}

/// Plots and metrics; only this function reads the test images.
fn finish(
    args: &Args,
    split: &Split,
    training: &Training,
    total: usize,
    device: &Device,
) -> Result<Option<f64>> {
    let step = training.progress.step()?;
    let (train, validation) = (points(&training.progress.train)?, points(&training.progress.validation)?);
    if !train.is_empty() {
        let file = args.out.join("loss.png");
        report::losses(&file, &train, &validation)?;
        println!("wrote {}", file.display());
    }
    if step < total {
        println!("stopped at step {step} of {total}; continue with `--resume`");
        return Ok(None);
    }
    let evaluation = Evaluation::of(&training.model, &split.validation, device)?;
    println!(
        "validation: {} of {} right",
        evaluation.labels.len() - evaluation.wrong(),
        evaluation.labels.len()
    );
    let test = Evaluation::of(&training.model, &split.test, device)?;
    let file = args.out.join("samples.png");
    report::samples(&file, &split.test, &test)?;
    println!("wrote {}\n{}", file.display(), test.confusion());
    println!(
        "test accuracy: {:.2} % ({} of {} wrong)",
        100. * test.accuracy(),
        test.wrong(),
        test.labels.len()
    );
    Ok(Some(test.accuracy()))
}

/// A random permutation of the indices below `n`: sorted by random words, as in JAX.
fn shuffled(n: usize, key: Key) -> Result<Vec<usize>> {
    let words = key.bits(n)?.to_vec1::<u32>()?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&index| words[index]);
    Ok(order)
}
