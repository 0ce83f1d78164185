//! The state of metrics: sums and counts.

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::size;
use treex_core::transfers::transfer;
use treex_core::{
    ChildInfo, Error, ErrorKind, Handle, KindTag, Leaf, MetricState, Result, TreeObject, VisitorMut,
};

use crate::initializers::zeros;

/// An empty sum or count. It needs no `init`: without a value it is zeros.
pub(super) fn empty_state(shape: impl Into<Shape>, dtype: DType) -> Leaf<MetricState> {
    Leaf::param(zeros, shape, dtype)
}

/// The sum so far, on the host.
pub(super) fn value(leaf: &Leaf<MetricState>) -> Result<Tensor> {
    match (leaf.is_uninitialized(), leaf.shape(), leaf.dtype()) {
        (true, Some(shape), Some(dtype)) => size::zeros(shape, dtype, &Device::Cpu),
        _ => to_host(&leaf.get()?),
    }
}

/// What a metric sums, on the host.
#[track_caller]
pub(super) fn to_host(x: &Tensor) -> Result<Tensor> {
    transfer(x, &Device::Cpu, "call metrics outside of the step: they sum on the CPU")
}

/// Adds its tensor to each leaf; to none if one would overflow.
pub(super) fn add<const N: usize>(terms: [(&mut Leaf<MetricState>, Tensor); N]) -> Result<()> {
    let sums = terms.iter().map(|(leaf, term)| sum(&value(leaf)?, term)).collect::<Result<Vec<_>>>()?;
    terms.into_iter().zip(sums).try_for_each(|((leaf, _), sum)| leaf.set(sum))
}

fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::shape("a metric has a state of the wrong shape")
            .expected(format!("{:?}", b.dims()))
            .found(format!("{:?}", a.dims())));
    }
    if !a.dtype().is_int() {
        return Ok((a + b)?);
    }
    let flat = |x: &Tensor| x.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>();
    let pairs = flat(a)?.into_iter().zip(flat(b)?);
    let sums: Option<Vec<i64>> = pairs.map(|(a, b)| a.checked_add(b)).collect();
    // The sums must also fit a narrower type.
    let fits = |sums: &Vec<i64>| -> candle_core::Result<Option<Tensor>> {
        let sum = Tensor::new(sums.as_slice(), &Device::Cpu)?.reshape(a.shape())?.to_dtype(a.dtype())?;
        Ok((flat(&sum)? == *sums).then_some(sum))
    };
    sums.as_ref().map(fits).transpose()?.flatten().ok_or_else(|| {
        Error::argument("a count of a metric overflows")
            .expected(format!("sums that `{}` can hold", a.dtype().as_str()))
            .remedy("call `metric.reset()?` at the start of each epoch")
    })
}

/// All states of a metric, in order.
pub(super) fn states<M: TreeObject + ?Sized>(metric: &mut M) -> Vec<&mut Handle> {
    let mut states = States(Vec::new());
    metric.visit_mut(&mut states);
    states.0
}

struct States<'a>(Vec<&'a mut Handle>);

impl<'a> VisitorMut<'a> for States<'a> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle) {
        if kind.is(KindTag::of::<MetricState>()) {
            self.0.push(leaf);
        }
    }

    fn child(&mut self, _: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        child.visit_mut(self);
    }
}

/// Resets to zeros.
pub(super) fn clear(state: &mut Handle) -> Result<()> {
    match state.value().map(Tensor::zeros_like).transpose()? {
        Some(zeros) => state.write(&zeros),
        None => Ok(()),
    }
}

/// Adds the states of `other` to those of `metric`; on an error, none.
pub(super) fn merge<M, O>(metric: &mut M, other: &mut O) -> Result<()>
where
    M: TreeObject + ?Sized,
    O: TreeObject + ?Sized,
{
    let names = [metric.module_name(), other.module_name()].map(|name| name.unwrap_or("Metric"));
    let (states, others) = (states(metric), states(other));
    let alike = |(a, b): (&&mut Handle, &&mut Handle)| a.shape().zip(b.shape()).is_none_or(|(a, b)| a == b);
    if names[0] != names[1] || states.len() != others.len() || !states.iter().zip(&others).all(alike) {
        return Err(Error::new(ErrorKind::Structure, "two metrics that differ cannot be merged")
            .expected(format!("another `{}` with the same options", names[0]))
            .found(format!("`{}`", names[1]))
            .remedy("start both from a clone"));
    }
    let sums = states.iter().zip(&others).map(|(state, other)| match (state.value(), other.value()) {
        (Some(a), Some(b)) => sum(&to_host(a)?, &to_host(b)?).map(Some),
        (None, Some(b)) => Ok(Some(b.clone())),
        (_, None) => Ok(None),
    });
    let sums = sums.collect::<Result<Vec<_>>>()?;
    states.into_iter().zip(sums).try_for_each(|(state, sum)| sum.map_or(Ok(()), |sum| state.write(&sum)))
}
