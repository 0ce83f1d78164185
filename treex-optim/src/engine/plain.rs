//! The same passes as operations on tensors: the oracle of the loops, and the way on other devices.

use candle_core::{DType, Tensor};
use treex_core::{Leaves, Result};

use super::run::{Found, Goal, Ready, Target};
use super::updates::Sums;

/// A pass, one rule after the other.
pub(crate) fn pass(
    current: &Leaves,
    present: &[bool],
    ready: Vec<Ready<'_>>,
    goal: Goal<'_>,
    target: &mut Target<'_>,
) -> Result<Found> {
    let (mut updates, changed) = (current.clone(), !ready.is_empty());
    for Ready { on, rules, mut state } in ready {
        updates = updates.rebuild(|index| {
            let (Some(u), Some(p)) = (updates.get(index), target.param(index)) else { return Ok(None) };
            if !on[index] || !present[index] {
                return Ok(Some(u.clone()));
            }
            let wide = wide(u, p);
            let old = state.iter().filter_map(|state| state.get(index)).map(|old| old.to_dtype(wide));
            let old = old.collect::<candle_core::Result<Vec<_>>>()?;
            let next = rules.at(index).plain(&u.to_dtype(wide)?, &p.to_dtype(wide)?, &old)?;
            let mut next = next.into_iter();
            let u = next.next();
            for (state, new) in state.iter_mut().zip(next) {
                let handle = &mut state.handles_mut()[index];
                let dtype = handle.dtype().unwrap_or(wide);
                handle.write(&new.to_dtype(dtype)?)?;
            }
            Ok(u)
        })?;
    }
    let mut sums = Sums::default();
    match goal {
        Goal::Updates => {}
        Goal::Sums(terms, on) => {
            sums = Sums { width: terms.width(), values: Vec::with_capacity(terms.width() * updates.len()) };
            for index in 0..updates.len() {
                let found =
                    updates.get(index).filter(|_| on[index] && present[index]).zip(target.param(index));
                sums.values.extend(match found {
                    Some((u, p)) => {
                        let wide = wide(u, p);
                        let terms = terms.plain(&u.to_dtype(wide)?, &p.to_dtype(wide)?)?;
                        terms.iter().map(total).collect::<Result<Vec<_>>>()?
                    }
                    None => vec![0.; terms.width()],
                });
            }
        }
        Goal::Params => {
            if let Target::Model(handles) = target {
                for (index, handle) in handles.iter_mut().enumerate().filter(|(index, _)| present[*index]) {
                    if let (Some(u), Some(p)) = (updates.get(index), handle.value()) {
                        let wide = wide(u, p);
                        let sum = (p.to_dtype(wide)? + u.to_dtype(wide)?)?.to_dtype(p.dtype())?;
                        handle.write(&sum)?;
                    }
                }
            }
        }
    }
    Ok(Found { updates: changed.then_some(updates), sums })
}

/// The type to compute in.
pub(crate) fn wide(u: &Tensor, p: &Tensor) -> DType {
    if [u.dtype(), p.dtype()].contains(&DType::F64) { DType::F64 } else { DType::F32 }
}

/// How many elements are summed in their own type before the sums are summed in f64.
const CHUNK: usize = 4096;

fn total(terms: &Tensor) -> Result<f64> {
    let terms = terms.flatten_all()?;
    let whole = terms.elem_count() / CHUNK * CHUNK;
    let chunks = terms.narrow(0, 0, whole)?.reshape((whole / CHUNK, CHUNK))?.sum(1)?.to_dtype(DType::F64)?;
    let rest = terms.narrow(0, whole, terms.elem_count() - whole)?.sum_all()?.to_dtype(DType::F64)?;
    Ok(chunks.to_vec1::<f64>()?.iter().sum::<f64>() + rest.to_scalar::<f64>()?)
}
