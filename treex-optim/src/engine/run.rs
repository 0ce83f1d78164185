//! Runs the recorded work of a chain: consecutive rules in one pass over memory, in place.
//!
//! A pass reads each gradient, parameter and state tensor once and writes each changed one once. Only sums
//! over leaves and functions of whole tensors end a pass.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use treex_core::autograd::is_reference;
use treex_core::capture::condition::is_conditional;
use treex_core::capture::plan::{is_looking_ahead, refuse};
use treex_core::{Leaves, Result};

use super::erased::TermsImpl;
use super::job::{Output, PassResult, PendingRules, Target, compute_dtype};
use super::rule::Terms;
use super::sums::Sums;
use super::updates::{InCapture, Mask, Op, TensorFn, Updates, Work};
use super::{cpu, device, reference};
use crate::constant::check_constant;

/// What to write where an optimizer cannot be captured.
const OUTSIDE: &str = "run this step without `capture`, or take the transformation out";

/// Runs all recorded work. `release` is called after the last check: from there on only an allocation can
/// fail. It drops the other copy of the state, so that the state is written in place.
///
/// Returns the updates, if the target is not the model.
pub(crate) fn run(
    updates: Updates<'_>,
    mut target: Target<'_>,
    release: Box<dyn FnOnce() + '_>,
) -> Result<Option<Leaves>> {
    let Updates { incoming, params, present, ops, .. } = updates;
    incoming.tensors().chain(params.tensors()).try_for_each(|x| check_constant("update", x))?;
    let backend = Backend::of(&incoming, &params);
    if backend != Backend::Device {
        refuse("an optimizer whose leaves have no kernels steps", "give it floats on one CUDA device")?;
    }
    // From here on the model is the only holder of its cells.
    drop(params);
    let mut ops = VecDeque::from(ops);
    let mut current = incoming;
    let mut release = Some(release);
    let mut pending: Vec<PendingRules<'_>> = Vec::new();
    loop {
        while let Some(Op { work: Work::Rules { .. }, .. }) = ops.front() {
            if let Some(Op { on, work: Work::Rules { rules, state } }) = ops.pop_front() {
                pending.push(PendingRules { on, rules, state });
            }
        }
        let fallible = ops.iter().any(|op| matches!(op.work, Work::Tensors(..)));
        if !fallible && let Some(release) = release.take() {
            release();
        }
        match ops.pop_front() {
            None => {
                let keep = matches!(target, Target::Updates(_));
                let output = if keep { Output::Updates } else { Output::Params };
                let result = backend.pass(&current, &present, pending, output, &mut target)?;
                if !keep {
                    return Ok(None);
                }
                let updates = result.updates.unwrap_or(current);
                return updates
                    .rebuild(|index| Ok(updates.get(index).filter(|_| present[index]).cloned()))
                    .map(Some);
            }
            Some(Op { on, work: Work::Measured { terms, then, state } }) => {
                refuse("a transformation reads sums back", OUTSIDE)?;
                let output = Output::Sums(&*terms, &on);
                let before = std::mem::take(&mut pending);
                let result = backend.pass(&current, &present, before, output, &mut target)?;
                current = result.updates.unwrap_or(current);
                let rules = then(result.sums)?;
                pending.push(PendingRules { on, rules, state });
            }
            Some(Op { on, work: Work::Scaled { terms, factors } }) => {
                let before = std::mem::take(&mut pending);
                let rules = if backend == Backend::Device {
                    if !before.is_empty() {
                        let result =
                            backend.pass(&current, &present, before, Output::Updates, &mut target)?;
                        current = result.updates.unwrap_or(current);
                    }
                    device::factors(&current, &present, &on, &*terms, &factors, &target)?
                } else {
                    let output = Output::Sums(&*terms, &on);
                    let result = backend.pass(&current, &present, before, output, &mut target)?;
                    current = result.updates.unwrap_or(current);
                    factors.on_host(&result.sums)
                };
                pending.push(PendingRules { on, rules, state: Vec::new() });
            }
            Some(Op { on, work: Work::Tensors(f, in_capture) }) => {
                if in_capture == InCapture::Refused || is_conditional() && in_capture == InCapture::Recorded {
                    refuse(
                        "a transformation computes with tensors in a way that may change from step to step",
                        OUTSIDE,
                    )?;
                }
                // Without rules a pass would only compare the shapes, which the function may change.
                if !pending.is_empty() {
                    let rules = std::mem::take(&mut pending);
                    let result = backend.pass(&current, &present, rules, Output::Updates, &mut target)?;
                    current = result.updates.unwrap_or(current);
                }
                if is_looking_ahead() && in_capture == InCapture::Recorded {
                    continue;
                }
                current = apply_tensor_fn(&current, &present, &on, f, &target)?;
            }
            Some(Op { work: Work::Rules { .. }, .. }) => {}
        }
    }
}

impl Updates<'_> {
    /// Runs the recorded work and returns the updates, for use without an [`Optimizer`](crate::Optimizer).
    ///
    /// # Errors
    /// If leaves do not match, and the errors of a recorded function.
    pub fn compute(self) -> Result<Leaves> {
        let params = self.params.clone();
        Ok(run(self, Target::Updates(&params), Box::new(|| {}))?.unwrap_or(params))
    }
}

/// Computes sums over the positions that two trees share.
pub(crate) fn sum<S: Terms<M>, const M: usize>(terms: S, updates: &Leaves, params: &Leaves) -> Result<Sums> {
    updates.check_aligned(params, "the other flat tree")?;
    let both = |index| updates.get(index).is_some() && params.get(index).is_some();
    let on: Mask = (0..updates.len()).map(both).collect();
    let (terms, mut target) = (TermsImpl(terms), Target::Updates(params));
    let backend = Backend::of(updates, params);
    Ok(backend.pass(updates, &on, Vec::new(), Output::Sums(&terms, &on), &mut target)?.sums)
}

/// Where a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    /// Loops over slices.
    Cpu,
    /// Kernels of a device.
    Device,
    /// Tensor operations.
    Reference,
}

impl Backend {
    /// The one for tensors of these devices and types.
    fn of(updates: &Leaves, params: &Leaves) -> Self {
        if is_reference() {
            Self::Reference
        } else if updates.tensors().all(|tensor| matches!(tensor.device(), Device::Cpu)) {
            Self::Cpu
        } else if device::is_supported(updates.tensors().chain(params.tensors())) {
            Self::Device
        } else {
            Self::Reference
        }
    }

    fn pass(
        self,
        current: &Leaves,
        present: &[bool],
        pending: Vec<PendingRules<'_>>,
        output: Output<'_>,
        target: &mut Target<'_>,
    ) -> Result<PassResult> {
        match self {
            Self::Cpu => cpu::pass(current, present, pending, output, target),
            Self::Device => device::pass(current, present, pending, output, target),
            Self::Reference => reference::pass(current, present, pending, output, target),
        }
    }
}

/// Applies a function of tensors at its positions.
fn apply_tensor_fn(
    current: &Leaves,
    present: &[bool],
    on: &Mask,
    f: TensorFn<'_>,
    target: &Target<'_>,
) -> Result<Leaves> {
    if is_looking_ahead() {
        return f(current.clone(), &current.rebuild(|index| Ok(target.param(index).cloned()))?);
    }
    let seen = |index: usize| on[index] && present[index];
    let wide = |index: usize| -> Option<DType> {
        let u = current.get(index).filter(|_| seen(index))?;
        Some(compute_dtype(u, target.param(index).unwrap_or(u)))
    };
    let cast = |index: usize, tensor: Option<&Tensor>| -> Result<Option<Tensor>> {
        Ok(wide(index).zip(tensor).map(|(dtype, tensor)| tensor.detach().to_dtype(dtype)).transpose()?)
    };
    let updates = current.rebuild(|index| cast(index, current.get(index)))?;
    let params = current.rebuild(|index| cast(index, target.param(index)))?;
    let changed = f(updates, &params)?;
    current.check_aligned(&changed, "the result of a transformation")?;
    current.rebuild(|index| Ok(if on[index] { changed.get(index) } else { current.get(index) }.cloned()))
}
