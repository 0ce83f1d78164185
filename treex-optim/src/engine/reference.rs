//! The reference implementation of a pass, as tensor operations: the oracle of the loops, and the
//! implementation on other devices.

use candle_core::{DType, Tensor};
use treex_core::{Leaves, Result};

use super::job::{Output, PassResult, PendingRules, Target, compute_dtype};
use super::updates::Sums;
use crate::transfer::cast;

/// A pass, one rule after the other.
pub(crate) fn pass(
    current: &Leaves,
    present: &[bool],
    pending: Vec<PendingRules<'_>>,
    output: Output<'_>,
    target: &mut Target<'_>,
) -> Result<PassResult> {
    let (mut updates, changed) = (current.clone(), !pending.is_empty());
    for PendingRules { on, rules, mut state } in pending {
        updates = updates.rebuild(|index| {
            let (Some(u), Some(p)) = (updates.get(index), target.param(index)) else { return Ok(None) };
            if !on[index] || !present[index] {
                return Ok(Some(u.clone()));
            }
            let dtype = compute_dtype(u, p);
            let old = state.iter().filter_map(|state| state.get(index)).map(|old| old.to_dtype(dtype));
            let old = old.collect::<candle_core::Result<Vec<_>>>()?;
            let next = rules.at(index).reference(&u.to_dtype(dtype)?, &p.to_dtype(dtype)?, &old)?;
            let mut next = next.into_iter();
            let u = next.next();
            for (state, new) in state.iter_mut().zip(next) {
                let handle = &mut state.handles_mut()[index];
                let own = handle.dtype().unwrap_or(dtype);
                handle.write(&cast(&new, own)?)?;
            }
            Ok(u)
        })?;
    }
    let mut sums = Sums::default();
    match output {
        Output::Updates => {}
        Output::Sums(terms, on) => {
            sums = Sums { width: terms.width(), values: Vec::with_capacity(terms.width() * updates.len()) };
            for index in 0..updates.len() {
                let found =
                    updates.get(index).filter(|_| on[index] && present[index]).zip(target.param(index));
                sums.values.extend(match found {
                    Some((u, p)) => {
                        let dtype = compute_dtype(u, p);
                        let terms = terms.reference(&u.to_dtype(dtype)?, &p.to_dtype(dtype)?)?;
                        terms.iter().map(total).collect::<Result<Vec<_>>>()?
                    }
                    None => vec![0.; terms.width()],
                });
            }
        }
        Output::Params => {
            if let Target::Model(handles) = target {
                for (index, handle) in handles.iter_mut().enumerate().filter(|(index, _)| present[*index]) {
                    if let (Some(u), Some(p)) = (updates.get(index), handle.value()) {
                        let dtype = compute_dtype(u, p);
                        let sum = (p.to_dtype(dtype)? + u.to_dtype(dtype)?)?;
                        handle.write(&cast(&sum, p.dtype())?)?;
                    }
                }
            }
        }
    }
    Ok(PassResult { updates: changed.then_some(updates), sums })
}

/// Elements that are summed in the compute type before their sums are added in f64.
const CHUNK: usize = 4096;

fn total(terms: &Tensor) -> Result<f64> {
    let terms = terms.flatten_all()?;
    let whole = terms.elem_count() / CHUNK * CHUNK;
    let chunks = terms.narrow(0, 0, whole)?.reshape((whole / CHUNK, CHUNK))?.sum(1)?.to_dtype(DType::F64)?;
    let rest = terms.narrow(0, whole, terms.elem_count() - whole)?.sum_all()?.to_dtype(DType::F64)?;
    Ok(chunks.to_vec1::<f64>()?.iter().sum::<f64>() + rest.to_scalar::<f64>()?)
}
