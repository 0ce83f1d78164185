//! Every transformation: its captured steps are those one by one, bit for bit, or it is refused and on the list.

use std::collections::BTreeSet;

use treex::optim::{Boxed, Extra};
use treex::prelude::*;
use treex::{ErrorKind, capture};
use treex_testing::simulator::Simulator;

use crate::models::bits_of;
use crate::table;
use crate::{Check, equal};

pub(crate) const CHECKS: &[(&str, Check)] = &[("transformations", every_one)];

/// What needs a number back from the device or work of the host in its step, by the start of its name in the table.
const REFUSED: &str = include_str!("refused.txt");

type Model = (Leaf<Parameter>, Leaf<Parameter>);

fn model(device: &Device) -> Result<Model> {
    let a = Tensor::new(&[[1f32, -2., 0.5], [0.25, 3., -1.]], device)?;
    Ok((Leaf::new(a)?, Leaf::new(Tensor::new(&[0.5f32, -4.], device)?)?))
}

/// A step by gradients that depend on the parameters, or what it says against that.
fn step(model: &mut Model, optimizer: &mut Optimizer<Boxed>, x: &Tensor) -> Result<Tensor> {
    let (loss, grads) = model.value_and_grad(Parameter, |(a, b)| {
        Ok((a.get()?.sqr()?.sum_all()? + (b.get()? * x)?.sqr()?.sum_all()?)?)
    })?;
    let mut extra = Extra::default();
    extra.value = Some(0.5);
    optimizer.update_with(&grads, model, &extra)?;
    Ok(loss)
}

const STEPS: u64 = 7;

/// Whether it was refused.
fn is_refused(device: &Device, new: &dyn Fn() -> Boxed) -> Result<bool> {
    let x = Tensor::new(&[1f32, 2.], device)?;
    let (mut model, mut other) = (self::model(device)?, self::model(device)?);
    let mut optimizer = Optimizer::new(new()).init(&model)?;
    let mut other_optimizer = Optimizer::new(new()).init(&other)?;
    let mut captured =
        capture((&mut model, &mut optimizer), &x, |(model, optimizer), x| step(model, optimizer, x))?;
    let mut refused = false;
    for _ in 0..STEPS {
        match captured.run(&x) {
            Ok(_) => drop(step(&mut other, &mut other_optimizer, &x)?),
            Err(error) if matches!(error.kind(), ErrorKind::Transfer | ErrorKind::Argument) => {
                refused = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    captured.finish()?;
    equal("the models differ", bits_of(&model)?, bits_of(&other)?)?;
    equal("the optimizers differ", bits_of(&optimizer)?, bits_of(&other_optimizer)?)?;
    Ok(refused)
}

fn every_one(device: &Device, _: &Simulator) -> Result<()> {
    let listed: BTreeSet<&str> =
        REFUSED.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let (mut refused, mut captured) = (BTreeSet::new(), 0);
    let names: Vec<_> = table::golden().into_iter().chain(table::options()).map(|(name, _)| name).collect();
    for (number, name) in names.iter().enumerate() {
        let new = || {
            let mut all = table::golden().into_iter().chain(table::options());
            all.nth(number).map(|(_, transformation)| transformation).expect("the table does not change")
        };
        // One that needs other gradients than this step has is not of this table.
        let mut alone = model(device)?;
        let Ok(mut optimizer) = Optimizer::new(new()).init(&alone) else { continue };
        if step(&mut alone, &mut optimizer, &Tensor::new(&[1f32, 2.], device)?).is_err() {
            println!("capture: not of this table: {name}");
            continue;
        }
        match is_refused(device, &new) {
            Ok(false) => captured += 1,
            Ok(true) => drop(refused.insert(*name)),
            Err(error) => return Err(Error::argument(format!("{name}: {error}"))),
        }
    }
    println!("capture: {captured} transformations are captured, {} are refused", refused.len());
    if refused != listed {
        refused.iter().for_each(|name| println!("{name}"));
    }
    equal("transformations that cannot be captured", refused, listed)
}
