//! A pass as a kernel of a device: one launch for about 500 leaves, whatever the chain.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use treex_core::capture::plan::is_looking_ahead;
use treex_core::device::supports;
use treex_core::device::sweep::{Part, Program, sums, sweep};
use treex_core::{Error, ErrorKind, Leaves, Result};
use treex_kernels::expression::Expression;
use treex_kernels::number::Number;

use super::erased::{ErasedRule, ErasedTerms, RuleImpl, Rules, TimesScalar};
use super::factor::{Factor, Factors};
use super::job::{Output, PassResult, PendingRules, Target, compute_dtype};
use super::reference;
use super::rule::{Terms, Times};
use super::sums::Sums;
use super::updates::Mask;

/// Runs rules over all leaves with an update; sums over the result are those of the reference.
pub(crate) fn pass(
    current: &Leaves,
    present: &[bool],
    pending: Vec<PendingRules<'_>>,
    output: Output<'_>,
    target: &mut Target<'_>,
) -> Result<PassResult> {
    let writes_params = matches!((output, &*target), (Output::Params, Target::Model(_)));
    let mut new_updates = vec![None; current.len()];
    let changed = !pending.is_empty();
    if changed || writes_params {
        rules(current, present, pending, writes_params, target, &mut new_updates)?;
    }
    let updates =
        current.rebuild(|index| Ok(new_updates[index].take().or_else(|| current.get(index).cloned())))?;
    let sums = match output {
        Output::Sums(..) => reference::pass(&updates, present, Vec::new(), output, target)?.sums,
        _ => Default::default(),
    };
    Ok(PassResult { updates: changed.then_some(updates), sums })
}

/// Whether there are kernels for all updates and parameters.
pub(crate) fn is_supported<'t>(mut tensors: impl Iterator<Item = &'t Tensor>) -> bool {
    let Some(first) = tensors.next() else { return false };
    let is_beside = |tensor: &Tensor| {
        supports(tensor.device(), tensor.dtype()) && tensor.device().same_device(first.device())
    };
    is_beside(first) && tensors.all(is_beside)
}

/// Rules of a pass, their positions, and which of all state tensors are theirs.
struct Member {
    on: Mask,
    rules: Rules,
    states: Range<usize>,
}

/// Applies the rules, and adds the updates to the parameters or puts them into `new_updates`.
fn rules(
    current: &Leaves,
    present: &[bool],
    pending: Vec<PendingRules<'_>>,
    writes_params: bool,
    target: &mut Target<'_>,
    new_updates: &mut [Option<Tensor>],
) -> Result<()> {
    let (mut members, mut states) = (Vec::new(), Vec::new());
    for PendingRules { on, rules, state } in pending {
        let first = states.len();
        states.extend(state.into_iter().map(|state| state.handles_mut().iter_mut()));
        members.push(Member { on, rules, states: first..states.len() });
    }
    let (mut handles, params) = match target {
        Target::Model(handles) if writes_params => (Some(handles.iter_mut()), None),
        target => (None, Some(&*target)),
    };
    // Leaves with the same rules share a program.
    let mut programs: HashMap<(Vec<bool>, bool), Arc<Program>> = HashMap::new();
    let is_shared = members.iter().all(|member| matches!(member.rules, Rules::One(_)));
    let looks_ahead = is_looking_ahead();
    let mut parts = Vec::new();
    for (index, output) in new_updates.iter_mut().enumerate() {
        let mut state: Vec<_> = states.iter_mut().map(|state| state.next()).collect();
        let handle = handles.as_mut().and_then(|handles| handles.next());
        let Some(u) = current.get(index).filter(|_| present[index]) else { continue };
        let here: Vec<&Member> = members.iter().filter(|member| member.on[index]).collect();
        if !writes_params && here.is_empty() {
            continue;
        }
        let missing = || {
            Error::new(ErrorKind::FilteredOut, "an update has no parameter or no state")
                .at(current.path(index))
        };
        let p = match &handle {
            Some(handle) => handle.value(),
            None => params.and_then(|params| params.param(index)),
        };
        let p = p.ok_or_else(missing)?.clone();
        let is_wide = compute_dtype(u, &p) == DType::F64;
        let trace = || Program::new(is_wide, &traced(&here, index, writes_params));
        let program = if is_shared {
            let key = (members.iter().map(|member| member.on[index]).collect(), is_wide);
            if looks_ahead && programs.contains_key(&key) {
                continue; // its numbers are those of a leaf before
            }
            Arc::clone(programs.entry(key).or_insert_with(trace))
        } else {
            trace()
        };
        let mut leaves: Vec<_> = handle.map(|handle| &mut **handle).into_iter().collect();
        for number in here.iter().flat_map(|member| member.states.clone()) {
            let state = state[number].take().filter(|state| state.value().is_some());
            leaves.push(state.ok_or_else(missing)?);
        }
        let scalars = here.iter().filter_map(|member| member.rules.at(index).scalar().cloned()).collect();
        let inputs = if writes_params { vec![u.clone()] } else { vec![u.clone(), p] };
        parts.push(Part { inputs, leaves, output: (!writes_params).then_some(output), program, scalars });
    }
    sweep(parts)
}

/// The values of a leaf's program: those of what it writes, in order. Its inputs are the update, the parameter and the state.
fn traced(members: &[&Member], index: usize, writes_params: bool) -> Vec<Expression> {
    let (mut next, mut kept, mut scalars) = (Expression::input(0), Vec::new(), 0);
    let p = Expression::input(1);
    for Member { rules, states, .. } in members {
        let rule = rules.at(index);
        if rule.scalar().is_some() {
            next = next * Expression::scalar(scalars);
            scalars += 1;
            continue;
        }
        let first = 2 + kept.len();
        let state: Vec<_> = (first..first + states.len()).map(Expression::input).collect();
        let mut traced = rule.traced(next, p.clone(), &state).into_iter();
        next = traced.next().unwrap_or_else(|| Expression::input(0));
        kept.extend(traced);
    }
    if writes_params { [vec![p + next], kept].concat() } else { [kept, vec![next]].concat() }
}

/// The rules that multiply by factors of sums, which stay on the device.
pub(crate) fn factors(
    current: &Leaves,
    present: &[bool],
    on: &[bool],
    terms: &dyn ErasedTerms,
    factors: &Factors,
    target: &Target<'_>,
) -> Result<Rules> {
    let expressions = terms.traced();
    let mut programs: HashMap<bool, Arc<Program>> = HashMap::new();
    let (mut parts, mut positions) = (Vec::new(), Vec::new());
    let looks_ahead = is_looking_ahead();
    for index in (0..current.len()).filter(|&index| on[index] && present[index]) {
        let Some((u, p)) = current.get(index).zip(target.param(index)) else { continue };
        let is_wide = compute_dtype(u, p) == DType::F64;
        if looks_ahead && programs.contains_key(&is_wide) && matches!(factors, Factors::One(_)) {
            continue; // its terms are those of a leaf before
        }
        let program = programs.entry(is_wide).or_insert_with(|| Program::new(is_wide, &expressions));
        parts.push(Part {
            inputs: vec![u.clone(), p.clone()],
            leaves: Vec::new(),
            output: None,
            program: Arc::clone(program),
            scalars: Vec::new(),
        });
        positions.push(index);
    }
    if parts.is_empty() {
        return Ok(factors.on_host(&Sums::default()));
    }
    let count = parts.len();
    match factors {
        Factors::One(factor) => {
            let all = 0..count;
            let factor = sums(parts, &[all], &[factor.traced()])?;
            Ok(Rules::One(Box::new(TimesScalar(factor))))
        }
        Factors::Each(factors) => {
            let ranges: Vec<_> = (0..count).map(|part| part..part + 1).collect();
            let functions: Vec<_> = positions.iter().map(|&index| factors[index].traced()).collect();
            let all = sums(parts, &ranges, &functions)?;
            let mut rules: Vec<Box<dyn ErasedRule>> =
                (0..current.len()).map(|_| Box::new(RuleImpl(Times(1.))) as _).collect();
            for (number, index) in positions.into_iter().enumerate() {
                rules[index] = Box::new(TimesScalar(all.narrow(0, number, 1)?));
            }
            Ok(Rules::Each(rules))
        }
    }
}

/// A function of the sums over all updates, in `F64`, which stays on the device.
pub(crate) fn factor_on_device<const M: usize>(
    terms: &impl Terms<M>,
    factor: impl Factor<M>,
    updates: &Leaves,
) -> Result<Tensor> {
    let traced = terms.terms(Expression::input(0), Expression::input(1));
    let mut programs: HashMap<bool, Arc<Program>> = HashMap::new();
    let part = |u: &Tensor| {
        let is_wide = u.dtype() == DType::F64;
        let program = programs.entry(is_wide).or_insert_with(|| Program::fixed(is_wide, &traced));
        let inputs = vec![u.clone(), u.clone()];
        Part { inputs, leaves: Vec::new(), output: None, program: Arc::clone(program), scalars: Vec::new() }
    };
    let parts: Vec<_> = updates.tensors().filter(|u| u.elem_count() > 0).map(part).collect();
    let all = 0..parts.len();
    sums(parts, &[all], &[factor.factor(std::array::from_fn(Expression::input))])
}

/// The updates where a number on the device is not 0, otherwise -0, which changes no parameter.
pub(crate) fn unchanged_unless(updates: &Leaves, is_made: &Tensor) -> Result<Leaves> {
    let [zero, unchanged] = [0., -0.].map(Expression::constant);
    let [u, is_made_here] = [Expression::input(0), Expression::scalar(0)];
    by_scalar(updates, is_made, is_made_here.if_at_most(zero, unchanged, u))
}

/// The updates times an `F64` number on the device, in the compute type.
pub(crate) fn times_scalar(updates: &Leaves, scalar: &Tensor) -> Result<Leaves> {
    by_scalar(updates, scalar, Expression::input(0) * Expression::scalar(0))
}

/// A function of each element and of an `F64` number on the device.
fn by_scalar(updates: &Leaves, scalar: &Tensor, function: Expression) -> Result<Leaves> {
    let mut programs: HashMap<bool, Arc<Program>> = HashMap::new();
    let mut outputs: Vec<Option<Tensor>> = vec![None; updates.len()];
    let mut parts = Vec::new();
    for (index, output) in outputs.iter_mut().enumerate() {
        let Some(u) = updates.get(index).filter(|u| u.elem_count() > 0) else { continue };
        let is_wide = u.dtype() == DType::F64;
        let trace = || Program::fixed(is_wide, std::slice::from_ref(&function));
        let program = Arc::clone(programs.entry(is_wide).or_insert_with(trace));
        let (inputs, scalars) = (vec![u.clone()], vec![scalar.clone()]);
        parts.push(Part { inputs, leaves: Vec::new(), output: Some(output), program, scalars });
    }
    sweep(parts)?;
    updates.rebuild(|index| Ok(outputs[index].take().or_else(|| updates.get(index).cloned())))
}
