//! The reference implementation of a pass, as tensor operations: the oracle of the loops, and the
//! implementation on other devices.

use std::collections::HashSet;

use candle_core::{DType, Tensor};
use treex_core::autograd::storage_id;
use treex_core::{Leaves, Result};

use super::job::{Output, PassResult, PendingRules, Target, compute_dtype};
use super::sums::Sums;
use crate::numerics::chunk_sums;
use crate::transfer::{cast, to_device_of, to_vec_f64};

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
        let written = state.iter().flat_map(|state| state.tensors()).map(storage_id).collect();
        updates = apart(&updates, &written)?;
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
            sums.width = terms.width();
            let mut parts = Vec::with_capacity(terms.width() * updates.len());
            for index in 0..updates.len() {
                let found =
                    updates.get(index).filter(|_| on[index] && present[index]).zip(target.param(index));
                parts.extend(match found {
                    Some((u, p)) => {
                        let dtype = compute_dtype(u, p);
                        let terms = terms.reference(&u.to_dtype(dtype)?, &p.to_dtype(dtype)?)?;
                        terms.iter().map(chunk_sums).collect::<Result<Vec<_>>>()?
                    }
                    None => vec![Vec::new(); terms.width()],
                });
            }
            sums.values = totals(&parts)?;
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

/// The updates, copied where their memory is that of a state, which is written before all of them are read.
fn apart(updates: &Leaves, written: &HashSet<usize>) -> Result<Leaves> {
    if !updates.tensors().any(|update| written.contains(&storage_id(update))) {
        return Ok(updates.clone());
    }
    updates.rebuild(|index| match updates.get(index) {
        Some(update) if written.contains(&storage_id(update)) => Ok(Some(update.copy()?)),
        update => Ok(update.cloned()),
    })
}

/// The sum of each list of vectors, added in f64. All are read back at once.
fn totals(parts: &[Vec<Tensor>]) -> Result<Vec<f64>> {
    let is_wide = parts.iter().flatten().any(|part| part.dtype() == DType::F64);
    let dtype = if is_wide { DType::F64 } else { DType::F32 };
    let mut all: Vec<Tensor> = Vec::new();
    for part in parts.iter().flatten() {
        let part = part.to_dtype(dtype)?;
        all.push(match all.first() {
            Some(first) => to_device_of(&part, first)?,
            None => part,
        });
    }
    let numbers = if all.is_empty() { Vec::new() } else { to_vec_f64(&Tensor::cat(&all, 0)?)? };
    let mut numbers = numbers.into_iter();
    // Each vector is summed before it is added: the chunks of a leaf, then its rest.
    let mut sum = |part: &Tensor| numbers.by_ref().take(part.elem_count()).sum::<f64>();
    Ok(parts.iter().map(|parts| parts.iter().map(&mut sum).sum()).collect())
}
