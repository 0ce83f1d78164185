//! What a captured step does beside its numbers: what is an error, and what trees hold then.

use std::sync::atomic::{AtomicU32, Ordering};

use treex::nn::{BatchNorm, Dropout, Linear};
use treex::optim::{
    DynamicLossScale, GradientTransformation, adafactor, adamw, apply_if_finite, lookahead, master_weights,
    multi_steps, muon, radam, sgd, warmup_cosine,
};
use treex::prelude::*;
use treex::{ErrorKind, capture};
use treex_testing::simulator::Simulator;

use crate::models::bits_of;
use crate::steps::{classes, cross_entropy, normal};
use crate::{Check, equal};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("batches of other shapes", other_shapes),
    ("trees behind a step that is dropped", dropped),
    ("results stay", results_stay),
    ("a clone from before stays", clones_stay),
    ("a frozen leaf that is shared", frozen),
    ("values that are set", set_values),
    ("an error gives the trees back", errors_give_back),
    ("a step that fails midway", fails_midway),
    ("what cannot be captured", refused),
    ("optimizers", optimizers),
    ("two steps of an optimizer in one", twice),
    ("keys of a stream", streams),
    ("gradients that are not finite", not_finite),
    ("a scale of the loss", loss_scale),
];

type Batch = (Tensor, Tensor);

fn batch(rows: usize, device: &Device) -> Result<Batch> {
    Ok((normal(&[rows, 6], device)?, classes(&[rows], 3, device)?))
}

/// A step of gradient and update.
fn step<T: GradientTransformation>(
    model: &mut Linear,
    optimizer: &mut Optimizer<T>,
    (x, labels): &Batch,
) -> Result<Tensor> {
    let (loss, grads) = model.value_and_grad(Parameter, |model| cross_entropy(&model.call(x)?, labels))?;
    optimizer.update(&grads, model)?;
    Ok(loss)
}

fn new<T: GradientTransformation>(transformation: T, device: &Device) -> Result<(Linear, Optimizer<T>)> {
    let model = Linear::new(6, 3).init(42, device)?;
    let optimizer = Optimizer::new(transformation).init(&model)?;
    Ok((model, optimizer))
}

/// The text of an error of this kind.
#[track_caller]
fn error<T>(kind: ErrorKind, result: Result<T>) -> Result<String> {
    let line = std::panic::Location::caller().line();
    match result {
        Err(error) if error.kind() == kind => Ok(error.to_string()),
        Err(error) => {
            Err(Error::argument("an error of another kind").expected(format!("{kind:?}")).found(error))
        }
        Ok(_) => Err(Error::argument(format!("there was no error in line {line}"))),
    }
}

fn contains(text: &str, parts: &[&str]) -> Result<()> {
    match parts.iter().find(|part| !text.contains(**part)) {
        Some(part) => Err(Error::argument("an error does not say enough").expected(part).found(text)),
        None => Ok(()),
    }
}

fn other_shapes(device: &Device, _: &Simulator) -> Result<()> {
    let sizes = [4, 4, 4, 7, 4, 7, 7, 7, 4, 4];
    let (mut model, mut optimizer) = new(adamw(warmup_cosine(1e-1, 3, 9)), device)?;
    let mut captured =
        capture((&mut model, &mut optimizer), &batch(4, device)?, |(model, optimizer), batch| {
            step(model, optimizer, batch)
        })?;
    let (mut other, mut other_optimizer) = new(adamw(warmup_cosine(1e-1, 3, 9)), device)?;
    for size in sizes {
        let batch = batch(size, device)?;
        let found = captured.run(&batch)?.to_scalar::<f32>()?;
        let expected = step(&mut other, &mut other_optimizer, &batch)?.to_scalar::<f32>()?;
        equal("a loss of a batch of another size", found.to_bits(), expected.to_bits())?;
    }
    captured.finish()?;
    equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
    let (mut model, mut optimizer) = new(adamw(1e-1), device)?;
    let held = (&mut model, &mut optimizer);
    let mut captured =
        capture(held, &batch(4, device)?, |(model, optimizer), batch| step(model, optimizer, batch))?
            .fixed_shapes();
    captured.run(&batch(4, device)?)?;
    let text = error(ErrorKind::Shape, captured.run(&batch(7, device)?))?;
    contains(&text, &["another form", "[4, 6]", "[7, 6]", "fixed_shapes"])?;
    let text = error(ErrorKind::Argument, captured.run(&batch(4, &Device::Cpu)?))?;
    contains(&text, &["another device", "to_device"])
}

fn dropped(device: &Device, _: &Simulator) -> Result<()> {
    for runs in 0..5 {
        let (mut model, mut optimizer) = new(adamw(1e-1), device)?;
        let batch = batch(4, device)?;
        let held = (&mut model, &mut optimizer);
        let mut captured = capture(held, &batch, |(model, optimizer), batch| step(model, optimizer, batch))?;
        for _ in 0..runs {
            captured.run(&batch)?;
        }
        drop(captured);
        equal("steps behind a step that was dropped", optimizer.step_count()?, runs)?;
        step(&mut model, &mut optimizer, &batch)?;
        let (mut other, mut other_optimizer) = new(adamw(1e-1), device)?;
        for _ in 0..=runs {
            step(&mut other, &mut other_optimizer, &batch)?;
        }
        equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
        equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)?;
    }
    Ok(())
}

/// 300 results, of which each stays what it was.
fn results_stay(device: &Device, _: &Simulator) -> Result<()> {
    let mut x = Leaf::<Parameter>::new(Tensor::new(&[0f32, 10.], device)?)?;
    let one = Tensor::ones(2, DType::F32, device)?;
    let mut captured = capture(&mut x, &one, |x, one| {
        *x = x.map(|x| Ok((x + one)?))?;
        Ok((x.get()?, x.get()?.sum_all()?))
    })?;
    let results = (0..300).map(|_| captured.run(&one)).collect::<Result<Vec<_>>>()?;
    for (number, (values, sum)) in results.iter().enumerate() {
        let first = number as f32 + 1.;
        equal("a result changed", values.to_vec1::<f32>()?, vec![first, first + 10.])?;
        equal("a scalar result changed", sum.to_scalar::<f32>()?, 2. * first + 10.)?;
    }
    captured.finish()?;
    equal("the leaf", x.get()?.to_vec1::<f32>()?, vec![300., 310.])
}

fn clones_stay(device: &Device, _: &Simulator) -> Result<()> {
    let (mut model, mut optimizer) = new(sgd(0.5), device)?;
    let (before, batch) = (model.clone(), batch(4, device)?);
    let expected = bits_of(&before)?;
    let held = (&mut model, &mut optimizer);
    let mut captured = capture(held, &batch, |(model, optimizer), batch| step(model, optimizer, batch))?;
    for _ in 0..4 {
        captured.run(&batch)?;
    }
    captured.finish()?;
    equal("a clone from before", bits_of(&before)?, expected)
}

/// It may share its memory with another tree, so a step that writes it is refused.
fn frozen(device: &Device, _: &Simulator) -> Result<()> {
    let mut model = Linear::new(6, 3).init(42, device)?;
    model.freeze(Parameter)?;
    let (clone, x) = (model.clone(), batch(4, device)?.0);
    let expected = bits_of(&clone)?;
    let mut captured = capture(&mut model, &x, |model, x| {
        let kernel = (model.kernel.get()? * 1.)?;
        model.kernel.set(kernel)?;
        model.call(x)
    })?;
    captured.run(&x)?;
    captured.run(&x)?; // the first run gave the leaf memory of its own
    drop(captured);
    equal("the other tree", bits_of(&clone)?, expected.clone())?;
    let mut again = clone.clone();
    let wrote = AtomicU32::new(0);
    let mut captured = capture(&mut again, &x, |model, x| {
        if wrote.fetch_add(1, Ordering::Relaxed) > 0 {
            model.kernel.set((model.kernel.get()? * 2.)?)?;
        }
        model.call(x)
    })?;
    captured.run(&x)?;
    let text = error(ErrorKind::Frozen, captured.run(&x))?;
    contains(&text, &["wrote a frozen leaf", "kernel", "unfreeze"])?;
    drop(captured);
    equal("the other tree", bits_of(&clone)?, expected)
}

/// Two leaves that are swapped, and one that gets a new value, at each step.
fn set_values(device: &Device, _: &Simulator) -> Result<()> {
    type Pair = (Leaf<State>, Leaf<State>);
    let new = |device: &Device| -> Result<Pair> {
        Ok((Leaf::new(Tensor::new(&[1f32, 2.], device)?)?, Leaf::new(Tensor::new(&[3f32, 4.], device)?)?))
    };
    let swap = |(a, b): &mut Pair, x: &Tensor| -> Result<[Tensor; 2]> {
        std::mem::swap(a, b);
        let before = a.get()?;
        a.set((&before * x)?)?;
        Ok([before, (a.get()? + b.get()?)?])
    };
    let x = Tensor::new(&[2f32, 0.5], device)?;
    let (mut one, mut other) = (new(device)?, new(device)?);
    let mut captured = capture(&mut one, &x, swap)?;
    for _ in 0..7 {
        for (found, expected) in captured.run(&x)?.iter().zip(swap(&mut other, &x)?) {
            equal("leaves that are swapped", found.to_vec1::<f32>()?, expected.to_vec1::<f32>()?)?;
        }
    }
    captured.finish()?;
    equal("the leaves", bits_of(&one)?, bits_of(&other)?)
}

fn errors_give_back(device: &Device, _: &Simulator) -> Result<()> {
    let (mut model, mut optimizer) = new(adamw(1e-1), device)?;
    let batch = batch(4, device)?;
    let reads = AtomicU32::new(0);
    let mut captured = capture((&mut model, &mut optimizer), &batch, |(model, optimizer), batch| {
        let loss = step(model, optimizer, batch)?;
        if reads.fetch_add(1, Ordering::Relaxed) == 1 {
            loss.to_scalar::<f32>()?;
        }
        Ok(loss)
    })?;
    captured.run(&batch)?;
    let text = error(ErrorKind::Transfer, captured.run(&batch))?;
    contains(&text, &["a captured step reads a tensor back", "behind it"])?;
    // The step goes on: nothing was lost, and the next recording does not read.
    for _ in 0..3 {
        captured.run(&batch)?;
    }
    captured.finish()?;
    let (mut other, mut other_optimizer) = new(adamw(1e-1), device)?;
    for _ in 0..4 {
        step(&mut other, &mut other_optimizer, &batch)?;
    }
    equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)
}

/// Batch norm moves its statistics to other memory; then the step reads back, waits for the device, or panics.
fn fails_midway(device: &Device, _: &Simulator) -> Result<()> {
    type Failure = fn(&Tensor) -> Result<()>;
    let failures: [Failure; 3] = [
        |loss| Ok(loss.to_scalar::<f32>().map(drop)?),
        |loss| Ok(loss.device().synchronize()?),
        |_| panic!("in a captured step"),
    ];
    let once =
        |(norm, dense): &mut (BatchNorm, Linear), optimizer: &mut Optimizer<_>, (x, labels): &Batch| {
            let x = norm.call(x)?;
            let (loss, grads) =
                dense.value_and_grad(Parameter, |dense| cross_entropy(&dense.call(&x)?, labels))?;
            optimizer.update(&grads, dense)?;
            Ok::<_, Error>(loss)
        };
    for failure in failures {
        let new = || -> Result<_> {
            let model = (BatchNorm::new(6), Linear::new(6, 3)).init(42, device)?;
            let optimizer = Optimizer::new(adamw(1e-1)).init(&model.1)?;
            Ok((model, optimizer))
        };
        let ((mut model, mut optimizer), (mut other, mut other_optimizer)) = (new()?, new()?);
        let (batch, calls) = (batch(4, device)?, AtomicU32::new(0));
        let mut captured = capture((&mut model, &mut optimizer), &batch, |(model, optimizer), batch| {
            let loss = once(model, optimizer, batch)?;
            if calls.fetch_add(1, Ordering::Relaxed) == 1 {
                failure(&loss)?;
            }
            Ok(loss)
        })?;
        captured.run(&batch)?;
        let second = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| captured.run(&batch)));
        if second.is_ok_and(|result| result.is_ok()) {
            return Err(Error::argument("a step that fails was recorded"));
        }
        for _ in 0..3 {
            captured.run(&batch)?;
        }
        captured.finish()?;
        for _ in 0..4 {
            once(&mut other, &mut other_optimizer, &batch)?;
        }
        equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
        equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)?;
    }
    Ok(())
}

/// The error of the second run of a step, which is the first that is recorded.
fn recorded<F>(device: &Device, f: F) -> Result<Result<Tensor>>
where
    F: Fn(&mut (Linear, Dropout, Leaf<State>), &Batch) -> Result<Tensor>,
{
    let counter = || Leaf::new(Tensor::zeros((), DType::I64, &Device::Cpu)?);
    let mut model = (Linear::new(6, 3), Dropout::new(0.5), counter()?).init(42, device)?;
    model.2 = counter()?; // on the host
    let batch = batch(4, device)?;
    let mut captured = capture(&mut model, &batch, |model: &mut _, batch: &Batch| f(model, batch))?;
    captured.run(&batch)?;
    let result = captured.run(&batch);
    drop(captured);
    // The device works as before.
    let (x, _) = &batch;
    let sum = model.0.call(x)?.sum_all()?.to_scalar::<f32>()?;
    if !sum.is_finite() {
        return Err(Error::argument("the device is broken behind an error"));
    }
    Ok(result)
}

fn refused(device: &Device, _: &Simulator) -> Result<()> {
    let scores = |model: &mut Linear, (x, labels): &Batch| cross_entropy(&model.call(x)?, labels);
    let text = error(
        ErrorKind::Transfer,
        recorded(device, |(model, ..), batch| {
            let x = Tensor::zeros((4, 3000), DType::F32, &Device::Cpu)?.to_device(batch.0.device())?;
            Ok((scores(model, batch)? + x.sum_all()?)?)
        })?,
    )?;
    contains(&text, &["uploads", "before `capture`"])?;
    let text = error(
        ErrorKind::Argument,
        recorded(device, |(model, _, counter), batch| {
            counter.set((counter.get()? + 1.)?)?;
            scores(model, batch)
        })?,
    )?;
    contains(&text, &["a value on the host", "at `2`", "on the device"])?;
    let steps = AtomicU32::new(0);
    let number = || f64::from(steps.fetch_add(1, Ordering::Relaxed));
    let text = error(
        ErrorKind::Argument,
        recorded(device, |(model, ..), batch| Ok((scores(model, batch)? * number())?))?,
    )?;
    contains(&text, &["changes from step to step", "affine"])?;
    let text = error(
        ErrorKind::Argument,
        recorded(device, |(model, _, _), batch| {
            if (number() as u32).is_multiple_of(2) {
                scores(model, batch)
            } else {
                Ok((scores(model, batch)? * 2.)?)
            }
        })?,
    )?;
    contains(&text, &["changes from step to step"])?;
    let text = error(
        ErrorKind::Argument,
        recorded(device, |(model, dropout, _), (x, labels)| {
            dropout.rng = Leaf::new(Key::from(number() as u32).to_tensor()?)?;
            scores(model, &(dropout.call(x)?, labels.clone()))
        })?,
    )?;
    contains(&text, &["value on the host"])?;
    let calls = AtomicU32::new(0);
    let third_calls = AtomicU32::new(0);
    let third = || third_calls.fetch_add(1, Ordering::Relaxed);
    let second = || calls.fetch_add(1, Ordering::Relaxed);
    let text = error(
        ErrorKind::Structure,
        recorded(device, |(model, ..), batch| {
            // The first run and the first recording differ.
            model.bias = model.bias.take().filter(|_| second() != 1);
            scores(model, batch)
        })?,
    )?;
    contains(&text, &["structure"])?;
    let text = error(
        ErrorKind::Shape,
        recorded(device, |(model, ..), batch| {
            let loss = scores(model, batch)?;
            Ok(if third() == 1 { loss.reshape(1)? } else { loss })
        })?,
    )?;
    contains(&text, &["another form than the step before"])?;
    reads_a_count(device)?;
    recorded(device, |(model, ..), batch| scores(model, batch))?.map(drop)
}

/// What would be decided once and for all.
fn reads_a_count(device: &Device) -> Result<()> {
    let (mut model, mut optimizer) = new(adamw(0.1), device)?;
    let batch = batch(4, device)?;
    let mut captured = capture((&mut model, &mut optimizer), &batch, |(model, optimizer), batch| {
        if optimizer.step_count()? % 10 == 9 {
            return Err(Error::argument("it is not reached"));
        }
        step(model, optimizer, batch)
    })?;
    captured.run(&batch)?;
    let text = error(ErrorKind::Transfer, captured.run(&batch))?;
    contains(&text, &["number of updates", "captured step", "batch"])
}

/// 12 steps of an optimizer, of which some are captured anew, or the error.
fn optimizer<T: GradientTransformation + Clone + 'static>(transformation: T, device: &Device) -> Result<()> {
    let batch = batch(4, device)?;
    let (mut model, mut optimizer) = new(transformation.clone(), device)?;
    let (mut other, mut other_optimizer) = new(transformation, device)?;
    let held = (&mut model, &mut optimizer);
    let mut captured = capture(held, &batch, |(model, optimizer), batch| step(model, optimizer, batch))?;
    for _ in 0..12 {
        captured.run(&batch)?;
        step(&mut other, &mut other_optimizer, &batch)?;
    }
    captured.finish()?;
    equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)
}

fn optimizers(device: &Device, _: &Simulator) -> Result<()> {
    optimizer(sgd(0.1).momentum(0.9), device)?;
    optimizer(radam(0.1), device)?; // another rule from step 6 on
    optimizer(master_weights(adamw(0.1)), device)?;
    let text = error(ErrorKind::Transfer, optimizer(apply_if_finite(muon(0.1), 3), device))?;
    contains(&text, &["captured step"])?;
    optimizer(multi_steps(adamw(0.1), 3), device)?; // other work in every third step
    error(ErrorKind::Transfer, optimizer(adafactor(0.1), device))?;
    error(ErrorKind::Transfer, optimizer(muon(0.1), device))?;
    optimizer(lookahead(sgd(0.1), 3, 0.5), device)
}

/// An optimizer that makes two steps in one.
fn twice(device: &Device, _: &Simulator) -> Result<()> {
    let both = |model: &mut Linear, optimizer: &mut Optimizer<_>, batch: &Batch| {
        step(model, optimizer, batch)?;
        step(model, optimizer, batch)
    };
    let schedule = || adamw(warmup_cosine(1e-1, 3, 9));
    let (mut model, mut optimizer) = new(schedule(), device)?;
    let (mut other, mut other_optimizer) = new(schedule(), device)?;
    let batch = batch(4, device)?;
    let held = (&mut model, &mut optimizer);
    let mut captured = capture(held, &batch, |(model, optimizer), batch| both(model, optimizer, batch))?;
    for _ in 0..6 {
        captured.run(&batch)?;
        both(&mut other, &mut other_optimizer, &batch)?;
    }
    captured.finish()?;
    equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)
}

/// Keys of Flax's streams, in two layers, one of which is called twice.
fn streams(device: &Device, _: &Simulator) -> Result<()> {
    type Model = (Dropout, Dropout);
    let new = || (Dropout::new(0.5), Dropout::new(0.5).rng_collection("noise")).init_linen(3, device);
    let call = |(a, b): &mut Model, x: &Tensor| {
        let once = a.call(x)?;
        b.call(&a.call(&once)?)
    };
    let (mut one, mut other) = (new()?, new()?);
    let x = Tensor::ones((5, 7), DType::F32, device)?;
    let mut captured = capture(&mut one, &x, call)?;
    for _ in 0..5 {
        let (found, expected) = (captured.run(&x)?, call(&mut other, &x)?);
        equal("dropout by a stream", found.to_vec2::<f32>()?, expected.to_vec2::<f32>()?)?;
    }
    captured.finish()?;
    equal("the streams", bits_of(&one)?, bits_of(&other)?)
}

/// Batches of which some have a gradient that is not finite: those of the numbers.
fn with_infinities(numbers: &[u32], number: u32, device: &Device) -> Result<Batch> {
    let (x, labels) = batch(4, device)?;
    let factor = if numbers.contains(&number) { f64::INFINITY } else { 1. + f64::from(number) / 8. };
    Ok(((x * factor)?, labels))
}

/// Steps that are left out, and one that is made after too many of them.
fn not_finite(device: &Device, simulator: &Simulator) -> Result<()> {
    for (most, infinities) in [(3, vec![0, 3, 4, 9]), (1, vec![2, 3, 4]), (2, vec![])] {
        let transformation = || apply_if_finite(adamw(warmup_cosine(1e-1, 3, 9)), most);
        let (mut model, mut optimizer) = new(transformation(), device)?;
        let (mut other, mut other_optimizer) = new(transformation(), device)?;
        let held = (&mut model, &mut optimizer);
        let first = with_infinities(&infinities, 0, device)?;
        let mut captured = capture(held, &first, |(model, optimizer), batch| step(model, optimizer, batch))?;
        for number in 0..12 {
            let batch = with_infinities(&infinities, number, device)?;
            device.synchronize()?;
            simulator.reset_counts();
            captured.run(&batch)?;
            if number == 11 {
                let moved = ["uploads", "read-backs", "synchronizations"].map(|name| simulator.count(name));
                equal("what a step moves", moved, [0; 3])?;
            }
            step(&mut other, &mut other_optimizer, &batch)?;
        }
        captured.finish()?;
        equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
        equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)?;
    }
    Ok(())
}

/// A scale that is halved and doubled.
fn loss_scale(device: &Device, simulator: &Simulator) -> Result<()> {
    type Held = (Linear, DynamicLossScale);
    let once = |(model, scale): &mut Held, optimizer: &mut Optimizer<_>, (x, labels): &Batch| {
        let (loss, grads) =
            model.value_and_grad(Parameter, |model| scale.scale(&cross_entropy(&model.call(x)?, labels)?))?;
        scale.update(&grads, optimizer, model)?;
        Ok(loss)
    };
    let new = || -> Result<_> {
        let (model, optimizer) = new(adamw(warmup_cosine(1e-1, 3, 9)), device)?;
        Ok(((model, DynamicLossScale::new()?.growth_interval(3)), optimizer))
    };
    let infinities = [3, 4, 9];
    let ((mut held, mut optimizer), (mut other, mut other_optimizer)) = (new()?, new()?);
    let first = with_infinities(&infinities, 0, device)?;
    let mut captured = capture((&mut held, &mut optimizer), &first, |(held, optimizer), batch| {
        once(held, optimizer, batch)
    })?;
    for number in 0..14 {
        let batch = with_infinities(&infinities, number, device)?;
        device.synchronize()?;
        simulator.reset_counts();
        let found = captured.run(&batch)?;
        if number == 13 {
            let moved = ["uploads", "read-backs", "synchronizations"].map(|name| simulator.count(name));
            equal("what a step moves", moved, [0; 3])?;
        }
        let expected = once(&mut other, &mut other_optimizer, &batch)?;
        let [found, expected] = [found, expected].map(|loss| loss.to_scalar::<f32>().map(f32::to_bits));
        equal("a scaled loss", found?, expected?)?;
    }
    captured.finish()?;
    equal("the factor", held.1.factor()?, other.1.factor()?)?;
    equal("the models differ", bits_of(&held)?, bits_of(&other)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)
}
