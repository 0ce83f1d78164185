//! Batches in parts, in the memory of one.

use candle_core::{DType, Tensor};
use treex_core::{Error, ErrorKind, Leaves, Result, Tree};

use crate::numerics::wide;
use crate::transfer::to_f64;
use crate::tree::{add, scale};

/// How [`microbatch`] combines the results of the parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accumulator {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean, so that the gradient of a mean over examples is that of the whole batch.
    Mean,
    /// Their concatenation along the first axis.
    Concat,
}

/// `f` of parts of `microbatch_size` examples each, combined: what `f` gives for the whole batch, if it is a sum, a mean
/// or a list over examples, in the memory of one part. The tensors of `batch` have the examples on their first axis. Parts
/// are taken in order; in Optax every n-th example is in one part, so that a `Mean` and a `Sum` are the same up to
/// rounding, and a `Concat` exactly. Gradients of single examples: [`micro_grad`](crate::micro_grad()).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{Accumulator, microbatch, mse};
///
/// let mut w = Leaf::<Parameter>::new(Tensor::new(2f32, &Device::Cpu)?)?;
/// let batch = [Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?, Tensor::new(&[1f32, 1., 1., 1.], &Device::Cpu)?];
/// let gradient = microbatch(&batch, 2, Accumulator::Mean, |part| {
///     let (_, gradient) = w.value_and_grad(Parameter, |w| mse(&part[0].broadcast_mul(&w.get()?)?, &part[1]))?;
///     Ok(gradient)
/// })?;
/// assert_eq!(gradient.get()?.to_scalar::<f32>()?, 25.); // the mean of 2 (2 x - 1) x
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the batch has no tensor or no example, tensors differ in the number of examples, or the size does not divide it; the
/// errors of `f`.
pub fn microbatch<T: Tree>(
    batch: &[Tensor],
    microbatch_size: usize,
    accumulator: Accumulator,
    mut f: impl FnMut(&[Tensor]) -> Result<T>,
) -> Result<T> {
    let sizes: Vec<_> = batch.iter().map(|x| x.dims().first().copied()).collect();
    let examples = match sizes.first() {
        Some(&Some(first)) if first > 0 && sizes.iter().all(|&size| size == Some(first)) => first,
        _ => {
            return Err(Error::shape("`microbatch` got tensors that are no batch")
                .expected("at least one tensor, each with the same number of examples on its first axis")
                .found(format!("{:?}", batch.iter().map(Tensor::dims).collect::<Vec<_>>())));
        }
    };
    if microbatch_size == 0 || !examples.is_multiple_of(microbatch_size) {
        return Err(Error::argument("`microbatch_size` does not divide the batch")
            .expected(format!("a divisor of {examples}"))
            .found(microbatch_size)
            .remedy("drop the last examples, or choose another size"));
    }
    let mut parts = (0..examples / microbatch_size).map(|index| {
        let part = batch.iter().map(|x| Ok(x.narrow(0, index * microbatch_size, microbatch_size)?));
        f(&part.collect::<Result<Vec<_>>>()?)
    });
    let none = || Error::argument("`microbatch` has no part").expected("at least one example");
    let first = parts.next().ok_or_else(none)??;
    if accumulator == Accumulator::Concat {
        return concat(&first, &parts.collect::<Result<Vec<_>>>()?);
    }
    let flat = first.flatten();
    let is_mean = accumulator == Accumulator::Mean;
    if let Some(leaf) = flat.iter().find(|leaf| is_mean && leaf.dtype().is_some_and(|dtype| dtype.is_int())) {
        return Err(Error::new(ErrorKind::DType, "a mean of integers is none")
            .at(leaf.segments())
            .remedy("return floats, or take `Accumulator::Sum`"));
    }
    // A sum of thousands of parts would stall in half precision, and integers would overflow.
    let widened = |part: &T| {
        part.map(|x| Ok(x.to_dtype(if x.dtype().is_int() { DType::I64 } else { wide(x.dtype()) })?))
    };
    let sum = parts.enumerate().try_fold(widened(&first)?, |sum, (index, part)| {
        let part = part?;
        check_alike(&flat, &part.flatten(), index + 1)?;
        add(&sum, &widened(&part)?)
    })?;
    let combined = if is_mean { scale(microbatch_size as f64 / examples as f64, &sum)? } else { sum };
    first.zip_map(&combined, |first, combined| narrowed(combined, first.dtype()))
}

/// An error if a part has no value where the first has one, or the other way round: it would be left out.
fn check_alike(first: &Leaves, part: &Leaves, number: usize) -> Result<()> {
    first.check_aligned(part, "the result of another part")?;
    let differs = |&index: &usize| first.get(index).is_some() != part.get(index).is_some();
    match (0..first.len()).find(differs) {
        None => Ok(()),
        Some(index) => {
            Err(Error::new(ErrorKind::Structure, "a part of the batch has other leaves than the first")
                .at(first.path(index))
                .expected("a value in each part, or in none")
                .found(format!("another in part {number}"))
                .remedy("return zeros where a part has no value"))
        }
    }
}

/// A sum in the type of its parts, which must hold it.
fn narrowed(sum: &Tensor, dtype: DType) -> Result<Tensor> {
    let narrow = sum.to_dtype(dtype)?;
    if dtype.is_int() && sum.elem_count() > 0 {
        let lost = to_f64(&narrow.to_dtype(DType::I64)?.ne(sum)?.to_dtype(DType::F32)?.sum_all()?)?;
        if lost > 0. {
            return Err(Error::new(
                ErrorKind::DType,
                format!("a sum does not fit into `{}`", dtype.as_str()),
            )
            .remedy("return a wider integer type"));
        }
    }
    Ok(narrow)
}

/// The trees' leaves, each concatenated along its first axis.
fn concat<T: Tree>(first: &T, others: &[T]) -> Result<T> {
    let flat = first.flatten();
    let all: Vec<_> = [flat.clone()].into_iter().chain(others.iter().map(Tree::flatten)).collect();
    all.iter().enumerate().try_for_each(|(number, part)| check_alike(&flat, part, number))?;
    let whole = flat.rebuild(|at| {
        let tensors: Vec<_> = all.iter().filter_map(|part| part.get(at)).collect();
        Ok(if tensors.is_empty() { None } else { Some(Tensor::cat(&tensors, 0)?) })
    })?;
    first.unflatten(&whole)
}
