//! Fifty steps of models with dropout, clipping and a schedule.

use treex::capture;
use treex::nn::Dropout;
use treex::optim::{adamw, chain, clip_by_global_norm, warmup_cosine};
use treex::prelude::*;
use treex_testing::simulator::Simulator;

use crate::steps::{ConvolutionalNet, LENGTH, Recurrent, Transformer, classes, cross_entropy, normal};
use crate::{Check, equal};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("convolution", |device, simulator| {
        let scores =
            |(model, dropout): &mut (ConvolutionalNet, Dropout), x: &Tensor| dropout.call(&model.call(x)?);
        same(device, simulator, (ConvolutionalNet::new(), Dropout::new(0.2)), scores, |seed, device| {
            Ok((normal(&[4, 8, 8, 1], device)?.affine(1., f64::from(seed) / 50.)?, classes(&[4], 3, device)?))
        })
    }),
    ("transformer", |device, simulator| {
        let scores = |(model, dropout): &mut (Transformer, Dropout), tokens: &Tensor| {
            dropout.call(&model.scores(tokens)?)
        };
        same(device, simulator, (Transformer::new(11, 4), Dropout::new(0.2)), scores, |seed, device| {
            let tokens = (0..2 * LENGTH as u32).map(|at| (at * at + seed) % 11);
            let tokens = Tensor::from_iter(tokens, &Device::Cpu)?.reshape((2, LENGTH))?.to_device(device)?;
            Ok((tokens, classes(&[2, LENGTH], 7, device)?))
        })
    }),
    ("lstm", |device, simulator| {
        let scores =
            |(model, dropout): &mut (Recurrent, Dropout), x: &Tensor| dropout.call(&model.scores(x, None)?);
        same(device, simulator, (Recurrent::new(), Dropout::new(0.2)), scores, |seed, device| {
            Ok((normal(&[2, 5, 3], device)?.affine(1., f64::from(seed) / 50.)?, classes(&[2], 3, device)?))
        })
    }),
];

const STEPS: u32 = 50;

/// How steps are run.
#[derive(Clone, Copy, PartialEq)]
enum How {
    OneByOne,
    Captured,
}

/// The bits of a captured step are those of steps one by one on the device; its losses are those of the CPU.
fn same<M: TreeObject + Clone + 'static>(
    device: &Device,
    simulator: &Simulator,
    model: M,
    scores: fn(&mut M, &Tensor) -> Result<Tensor>,
    batch: fn(u32, &Device) -> Result<(Tensor, Tensor)>,
) -> Result<()> {
    let run = |device: &Device, how: How| -> Result<_> {
        let mut model = model.clone().init(42, device)?;
        let transformation = chain((clip_by_global_norm(0.1), adamw(warmup_cosine(1e-2, 10, 40))));
        let mut optimizer = Optimizer::new(transformation).init(&model)?;
        let step = |model: &mut M, optimizer: &mut Optimizer<_>, (x, labels): &(Tensor, Tensor)| {
            let (loss, grads) =
                model.value_and_grad(Parameter, |model| cross_entropy(&scores(model, x)?, labels))?;
            optimizer.update(&grads, model)?;
            Ok(loss)
        };
        let mut losses = Vec::new();
        let mut counts = None;
        if how == How::Captured {
            let mut captured =
                capture((&mut model, &mut optimizer), &batch(0, device)?, |(model, optimizer), batch| {
                    step(model, optimizer, batch)
                })?;
            for seed in 0..STEPS {
                let batch = batch(seed, device)?;
                device.synchronize()?;
                simulator.reset_counts();
                losses.push(captured.run(&batch)?);
                let names = [
                    "launches",
                    "graph launches",
                    "allocations",
                    "uploads",
                    "read-backs",
                    "synchronizations",
                ];
                counts = Some(names.map(|name| simulator.count(name)));
            }
            captured.finish()?;
        } else {
            for seed in 0..STEPS {
                losses.push(step(&mut model, &mut optimizer, &batch(seed, device)?)?);
            }
        }
        let losses: Vec<f32> =
            losses.iter().map(|loss: &Tensor| Ok(loss.to_scalar()?)).collect::<Result<_>>()?;
        Ok((losses, model, optimizer, counts))
    };
    let (found, model, optimizer, counts) = run(device, How::Captured)?;
    // Two copies into the batch, one of the row of this step, one of the loss; then the graph.
    equal("what a captured step asks of the device", counts, Some([4, 1, 0, 0, 0, 0]))?;
    let (expected, eager_model, eager_optimizer, _) = run(device, How::OneByOne)?;
    let bits = |losses: &[f32]| losses.iter().map(|loss| loss.to_bits()).collect::<Vec<_>>();
    equal("the bits of the losses differ", bits(&found), bits(&expected))?;
    equal("the models differ", bits_of(&model)?, bits_of(&eager_model)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&eager_optimizer)?)?;
    equal("the optimizer made other steps", optimizer.step_count()?, STEPS.into())?;
    let (on_cpu, ..) = run(&Device::Cpu, How::OneByOne)?;
    match found.iter().zip(&on_cpu).find(|(a, b): &(&f32, &f32)| (*a - *b).abs() > 2e-5 * b.abs()) {
        Some((found, expected)) => {
            Err(Error::argument("a loss is not that of the CPU").expected(expected).found(found))
        }
        None => Ok(()),
    }
}

/// The paths and values of all leaves, on the host.
pub(crate) fn bits_of<T: TreeObject + Clone>(tree: &T) -> Result<Vec<(String, Vec<u8>)>> {
    let tree = tree.clone().into_device(&Device::Cpu)?;
    let mut all = Vec::new();
    for leaf in tree.flatten().iter() {
        let mut bytes = Vec::new();
        if let Some(value) = leaf.value() {
            value.flatten_all()?.write_bytes(&mut bytes)?;
        }
        all.push((leaf.path().to_string(), bytes));
    }
    Ok(all)
}
