//! A pass on the CPU: over all leaves, on all cores, in place.

use std::ops::Range;

use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Storage, Tensor, TensorId};
use treex_core::id_map::{IdMap, IdSet};
use treex_core::{Error, ErrorKind, Leaves, Result};
use treex_kernels::parallel::map;

use super::batch::SharedPass;
use super::job::{Output, PassResult, PendingRules, Target};
use super::pass::{Member, Pass};
use super::sums::Sums;

/// The number of leaves that one thread checks before the pass.
const CHECKED: usize = 512;

/// Runs rules over all leaves with an update.
pub(crate) fn pass(
    current: &Leaves,
    present: &[bool],
    pending: Vec<PendingRules<'_>>,
    output: Output<'_>,
    target: &mut Target<'_>,
) -> Result<PassResult> {
    let copies = check(current, present, &pending, output, target)?;
    let width = if let Output::Sums(terms, _) = output { terms.width() } else { 0 };
    let keep = !matches!(output, Output::Params) && !pending.is_empty();
    let terms = if let Output::Sums(terms, on) = output { Some((terms, on)) } else { None };
    let mut pass = Pass { rules: Vec::with_capacity(pending.len()), terms };
    let mut states = Vec::new();
    for PendingRules { on, rules, state } in pending {
        states.extend(state.into_iter().map(|state| (pass.rules.len(), state.handles_mut())));
        pass.rules.push(Member::new(on, rules));
    }
    let all = SharedPass { current, present, pass, copies, width, keep };
    let mut sums = Sums { width, values: vec![0.; width * current.len()] };
    let mut new_updates: Vec<_> = (0..current.len()).map(|_| None).collect();
    all.run(all.batches(states, output, target, &mut sums.values, &mut new_updates))?;
    if !keep {
        return Ok(PassResult { updates: None, sums });
    }
    let updates = current.rebuild(|index| match (current.get(index), new_updates[index].take()) {
        (Some(u), Some(new_update)) => {
            let new_update = Storage::Cpu(new_update);
            Ok(Some(Tensor::from_storage(new_update, u.shape().clone(), BackpropOp::none(), false)))
        }
        (other, _) => Ok(other.cloned()),
    })?;
    Ok(PassResult { updates: Some(updates), sums })
}

/// Reports leaves that cannot be updated, before anything is written, and copies each tensor that is read
/// while another leaf writes its storage in this pass, so that batches are independent.
fn check(
    current: &Leaves,
    present: &[bool],
    pending: &[PendingRules<'_>],
    output: Output<'_>,
    target: &Target<'_>,
) -> Result<IdMap<TensorId, Tensor>> {
    let takes_part = |&index: &usize| present[index] && current.get(index).is_some();
    let positions = || (0..current.len()).filter(takes_part);
    let writes_params = matches!((output, target), (Output::Params, Target::Model(_)));
    let mut read: IdSet<usize> = IdSet::default();
    read.reserve(current.len());
    for index in positions() {
        read.extend(current.storage(index));
        if !writes_params {
            read.extend(target.storage(index));
        }
    }
    // The storage that is both read and written.
    let part = |range: Range<usize>| -> Result<Vec<usize>> {
        let mut written = Vec::new();
        for index in range.filter(takes_part) {
            let len = current.get(index).map_or(0, Tensor::elem_count);
            let check = |tensor: Option<&Tensor>| match tensor {
                Some(tensor) if is_supported(tensor) && tensor.elem_count() == len => Ok(()),
                Some(tensor) => Err(Error::new(ErrorKind::DType, "a leaf cannot be updated")
                    .expected(format!("{len} floats on the CPU"))
                    .found(format!("{:?} of `{}`", tensor.dims(), tensor.dtype().as_str()))),
                None => Err(Error::new(ErrorKind::FilteredOut, "an update has no parameter or no state")),
            };
            let states =
                || pending.iter().filter(|pending| pending.on[index]).flat_map(|pending| &pending.state);
            let mut all = [current.get(index), target.param(index)]
                .into_iter()
                .chain(states().map(|state| state.get(index)));
            all.try_for_each(check).map_err(|error| error.at(current.path(index)))?;
            let of_param = target.storage(index).filter(|_| writes_params);
            let of_state = states().filter_map(|state| state.storage(index));
            written.extend(of_state.chain(of_param).filter(|storage| read.contains(storage)));
        }
        Ok(written)
    };
    let count = current.len();
    let written: IdSet<usize> = if count < 2 * CHECKED {
        part(0..count)?.into_iter().collect()
    } else {
        let part = |at: usize| part(at * CHECKED..count.min((at + 1) * CHECKED));
        let parts = map(count.div_ceil(CHECKED), true, part)?;
        parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
    };
    let mut copies = IdMap::default();
    if written.is_empty() {
        return Ok(copies);
    }
    let mut copy = |tensor: Option<&Tensor>, storage: Option<usize>| -> Result<()> {
        if let (Some(tensor), Some(storage)) = (tensor, storage)
            && written.contains(&storage)
        {
            copies.insert(tensor.id(), tensor.detach().force_contiguous()?);
        }
        Ok(())
    };
    for index in positions() {
        copy(current.get(index), current.storage(index))?;
        if !writes_params {
            copy(target.param(index), target.storage(index))?;
        }
    }
    Ok(copies)
}

/// Whether the loops support a tensor's device and type.
fn is_supported(tensor: &Tensor) -> bool {
    matches!(tensor.device(), Device::Cpu)
        && matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::BF16 | DType::F16)
}
