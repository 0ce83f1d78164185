//! Named values, which several metrics share.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use treex_core::{Error, ErrorKind, Result};

use super::{Inputs, Mean, Metric, state};
use crate::dtype::common_dtype;

/// Values to log, by name; numbers are scalars of `F64` on the host.
pub type Logs = BTreeMap<String, Tensor>;

/// Means by name, each over the batches in which it occurred.
pub(super) type Means = BTreeMap<String, Mean>;

/// `name`, or if it is taken, the next free one: `name2`, `name3`, ..
pub(super) fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let stem = name.trim_end_matches(|end: char| end.is_ascii_digit());
    let digits = &name[stem.len()..];
    let numbered = |number: u64| format!("{stem}{number:0width$}", width = digits.len());
    let names = (digits.parse().unwrap_or(2)..=u64::MAX).map(numbered);
    names.into_iter().find(|name| !taken(name)).unwrap_or_else(|| name.to_owned())
}

/// Checks that two collections of `what` have the same names.
pub(super) fn same_names<'n>(
    what: &str,
    own: impl Iterator<Item = &'n String> + Clone,
    others: impl Iterator<Item = &'n String> + Clone,
) -> Result<()> {
    if own.clone().eq(others.clone()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Structure, format!("two collections of {what} that differ cannot be merged"))
        .expected(format!("{:?}", own.collect::<Vec<_>>()))
        .found(format!("{:?}", others.collect::<Vec<_>>()))
        .remedy("start both from a clone"))
}

/// Accumulates the values of a batch into the means of their names, and returns them as numbers. All values
/// of a name count.
pub(super) fn accumulate(means: &mut Means, metric: &str, values: &Logs) -> Result<Logs> {
    let mut after = means.clone();
    let mut logs = Logs::new();
    for (name, value) in values {
        let mut batch = Mean::new();
        batch.accumulate(metric, &value.detach(), &Inputs::new())?;
        logs.insert(name.clone(), batch.compute()?);
        after.entry(name.clone()).or_default().merge(&batch)?;
    }
    *means = after;
    Ok(logs)
}

/// The means over all batches.
pub(super) fn compute(means: &Means) -> Result<Logs> {
    means.iter().map(|(name, mean)| Ok((name.clone(), mean.compute()?))).collect()
}

/// Adds the means of others, with their new names.
pub(super) fn merge(means: &mut Means, others: &Means) -> Result<()> {
    let mut after = means.clone();
    others.iter().try_for_each(|(name, other)| after.entry(name.clone()).or_default().merge(other))?;
    *means = after;
    Ok(())
}

/// Resets the means; the names stay.
pub(super) fn reset(means: &mut Means) -> Result<()> {
    state::states(means).into_iter().try_for_each(state::clear)
}

/// The sum of scalars, in the smallest type that holds all; without any, 0.
pub(super) fn sum(values: &Logs) -> Result<Tensor> {
    let dtype = common_dtype(None, values.values());
    let device = values.values().next().map_or(&Device::Cpu, Tensor::device);
    let zero = Tensor::zeros((), dtype, device)?;
    Ok(values.values().try_fold(zero, |sum, value| sum + value.to_dtype(dtype)?)?)
}
