//! Runs what a chain asked for: rules that follow each other in one pass over memory, in place.
//!
//! A pass reads each gradient, parameter and state tensor once and writes what changed once. Sums over leaves
//! and functions of whole tensors end a pass, and nothing else does.

use std::collections::{HashSet, VecDeque};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use rayon::prelude::*;
use treex_core::compute::{Buffer, is_plain, storage_id};
use treex_core::{Error, ErrorKind, Handle, Leaves, Result};

use super::piece::{Param, Pass, Piece, Scratch};
use super::plain;
use super::rule::{AnyTerms, Terms, TypedTerms};
use super::slices::{Slice, View};
use super::updates::{Mask, OfTensors, Op, Rules, Sums, Updates, Work};

/// What the updates are for.
pub(crate) enum Target<'t> {
    /// The parameters of a model, by position, to which they are added.
    Model(Vec<&'t mut Handle>),
    /// Nobody yet: they are handed out. The parameters are read.
    Updates(&'t Leaves),
}

impl Target<'_> {
    /// The parameter at a position.
    pub(crate) fn param(&self, index: usize) -> Option<&Tensor> {
        match self {
            Self::Model(handles) => handles[index].value(),
            Self::Updates(params) => params.get(index),
        }
    }
}

/// Rules that run in one pass, with their state and where they apply.
pub(crate) struct Ready<'a> {
    pub(crate) on: Mask,
    pub(crate) rules: Rules,
    pub(crate) state: Vec<&'a mut Leaves>,
}

/// Does all that was asked for. `release` is called when nothing can fail any more but for want of memory: who
/// lets go there of another copy of the state has this one written in place.
///
/// Returns the updates, if the target does not take them.
pub(crate) fn run(
    updates: Updates<'_>,
    mut target: Target<'_>,
    release: impl FnOnce(),
) -> Result<Option<Leaves>> {
    let Updates { incoming, present, ops, .. } = updates;
    let fast = is_fast(&incoming);
    let mut ops = VecDeque::from(ops);
    let mut current = incoming;
    let mut release = Some(release);
    let mut ready: Vec<Ready<'_>> = Vec::new();
    loop {
        while let Some(Op { work: Work::Rules { .. }, .. }) = ops.front() {
            if let Some(Op { on, work: Work::Rules { rules, state } }) = ops.pop_front() {
                ready.push(Ready { on, rules, state });
            }
        }
        let fallible = ops.iter().any(|op| matches!(op.work, Work::Tensors(_)));
        if !fallible && let Some(release) = release.take() {
            release();
        }
        let pass = |current: &Leaves, ready: Vec<Ready<'_>>, goal: Goal<'_>, target: &mut Target<'_>| {
            if fast {
                host(current, &present, ready, goal, target)
            } else {
                plain::pass(current, &present, ready, goal, target)
            }
        };
        match ops.pop_front() {
            None => {
                let keep = matches!(target, Target::Updates(_));
                let goal = if keep { Goal::Updates } else { Goal::Params };
                let found = pass(&current, ready, goal, &mut target)?;
                if !keep {
                    return Ok(None);
                }
                let updates = found.updates.unwrap_or(current);
                return updates
                    .rebuild(|index| Ok(updates.get(index).filter(|_| present[index]).cloned()))
                    .map(Some);
            }
            Some(Op { on, work: Work::Measured { terms, then, state } }) => {
                let found =
                    pass(&current, std::mem::take(&mut ready), Goal::Sums(&*terms, &on), &mut target)?;
                current = found.updates.unwrap_or(current);
                let rules = then(found.sums)?;
                ready.push(Ready { on, rules, state });
            }
            Some(Op { on, work: Work::Tensors(f) }) => {
                let found = pass(&current, std::mem::take(&mut ready), Goal::Updates, &mut target)?;
                current = found.updates.unwrap_or(current);
                current = through(&current, &present, &on, f, &target)?;
            }
            Some(Op { work: Work::Rules { .. }, .. }) => {}
        }
    }
}

/// The updates that were asked for, at once: for a function of tensors that has a transformation inside.
pub(crate) fn now(updates: Updates<'_>, params: &Leaves) -> Result<Leaves> {
    Ok(run(updates, Target::Updates(params), || {})?.unwrap_or_else(|| params.clone()))
}

/// Sums over the positions that two trees share, at once.
pub(crate) fn sum<S: Terms<M>, const M: usize>(terms: S, updates: &Leaves, params: &Leaves) -> Result<Sums> {
    updates.check_aligned(params, "the other flat tree")?;
    let both = |index| updates.get(index).is_some() && params.get(index).is_some();
    let on: Mask = (0..updates.len()).map(both).collect();
    let (terms, mut target) = (TypedTerms(terms), Target::Updates(params));
    let pass = if is_fast(updates) { host } else { plain::pass };
    Ok(pass(updates, &on, Vec::new(), Goal::Sums(&terms, &on), &mut target)?.sums)
}

/// Whether the loops over memory can run.
fn is_fast(updates: &Leaves) -> bool {
    !is_plain() && updates.tensors().all(|tensor| matches!(tensor.device(), Device::Cpu))
}

/// Applies a function of tensors where it is on.
fn through(
    current: &Leaves,
    present: &[bool],
    on: &Mask,
    f: OfTensors<'_>,
    target: &Target<'_>,
) -> Result<Leaves> {
    let seen = |index: usize| on[index] && present[index];
    let wide = |index: usize| -> Option<DType> {
        let u = current.get(index).filter(|_| seen(index))?;
        Some(plain::wide(u, target.param(index).unwrap_or(u)))
    };
    let cast = |index: usize, tensor: Option<&Tensor>| -> Result<Option<Tensor>> {
        Ok(wide(index).zip(tensor).map(|(dtype, tensor)| tensor.detach().to_dtype(dtype)).transpose()?)
    };
    let updates = current.rebuild(|index| cast(index, current.get(index)))?;
    let params = current.rebuild(|index| cast(index, target.param(index)))?;
    let changed = f(updates, &params)?;
    current.check_aligned(&changed, "what a transformation returned")?;
    current.rebuild(|index| Ok(if on[index] { changed.get(index) } else { current.get(index) }.cloned()))
}

/// What a pass is to leave behind.
#[derive(Clone, Copy)]
pub(crate) enum Goal<'g> {
    /// New parameters.
    Params,
    /// Updates.
    Updates,
    /// Updates, and sums over them.
    Sums(&'g dyn AnyTerms, &'g Mask),
}

/// What a pass has left behind.
#[derive(Default)]
pub(crate) struct Found {
    /// `None` if they are what came in.
    pub(crate) updates: Option<Leaves>,
    pub(crate) sums: Sums,
}

/// Elements that one thread takes at once.
const PIECE: usize = 1 << 15;

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// A pass on the host: one loop over the pieces of all leaves.
fn host(
    current: &Leaves,
    present: &[bool],
    ready: Vec<Ready<'_>>,
    goal: Goal<'_>,
    target: &mut Target<'_>,
) -> Result<Found> {
    let is_there = |&index: &usize| present[index] && current.get(index).is_some();
    let positions: Vec<_> = (0..current.len()).filter(is_there).collect();
    let sources = sources(current, &positions, &ready, target)?;

    // First everything that is written is taken out, then what is read is locked.
    let mut memory = Memory::take(&positions, ready, goal, target)?;
    let mut keep = match goal {
        Goal::Params => Vec::new(),
        _ if memory.rules.is_empty() => Vec::new(),
        _ => sources.iter().map(Source::room).collect(),
    };
    let reads: Vec<_> =
        sources.iter().map(|source| (source.u.storage_and_layout(), source.p.storage_and_layout())).collect();

    let mut pieces = Vec::with_capacity(positions.len());
    let (mut state, mut params) = (memory.state.iter_mut(), memory.params.iter_mut());
    let mut rooms = keep.iter_mut();
    let width = if let Goal::Sums(terms, _) = goal { terms.width() } else { 0 };
    for ((&index, source), ((u, u_layout), (p, p_layout))) in positions.iter().zip(&sources).zip(&reads) {
        let len = source.u.elem_count();
        let param = match params.next() {
            Some(buffer) => Slice::of(buffer.storage()).map(Param::Write),
            None => view(p, p_layout.start_offset(), len).map(Param::Read),
        };
        let slices: Option<Vec<_>> =
            state.next().into_iter().flatten().map(|buffer| Slice::of(buffer.storage())).collect();
        let (Some(u), Some(p), Some(state)) = (view(u, u_layout.start_offset(), len), param, slices) else {
            return Err(
                Error::new(ErrorKind::DType, "a leaf cannot be stepped").expected("floats on the host")
            );
        };
        let piece = Piece {
            index,
            wide: source.wide,
            len,
            u,
            p,
            state,
            out: rooms.next().and_then(Slice::of),
            sums: vec![0.; width],
        };
        piece.cut(PIECE, &mut pieces);
    }

    let terms = if let Goal::Sums(terms, on) = goal { Some((terms, on)) } else { None };
    let pass = Pass { rules: &memory.rules, terms };
    let work = |scratch: &mut Scratch, piece: &mut Piece<'_>| piece.run(&pass, scratch);
    if pieces.iter().map(|piece| piece.len).sum::<usize>() < PARALLEL {
        let mut scratch = Scratch::default();
        pieces.iter_mut().for_each(|piece| work(&mut scratch, piece));
    } else {
        pieces.par_iter_mut().for_each_init(Scratch::default, work);
    }

    // In the order of the pieces, so that sums do not depend on threads.
    let mut sums = Sums { width, values: vec![0.; width * current.len()] };
    for piece in &pieces {
        let of_leaf = &mut sums.values[piece.index * width..][..width];
        of_leaf.iter_mut().zip(&piece.sums).for_each(|(sum, more)| *sum += more);
    }
    drop(pieces);
    if keep.is_empty() {
        return Ok(Found { updates: None, sums });
    }
    let mut rooms = positions.iter().zip(sources.iter().zip(keep)).peekable();
    let updates = current.rebuild(|index| match rooms.next_if(|(position, _)| **position == index) {
        Some((_, (source, room))) => Ok(Some(source.tensor(room)?)),
        None => Ok(current.get(index).cloned()),
    })?;
    Ok(Found { updates: Some(updates), sums })
}

fn view(storage: &Storage, start: usize, len: usize) -> Option<View<'_>> {
    match storage {
        Storage::Cpu(storage) => View::of(storage, start, len),
        _ => None,
    }
}

/// What is read of a leaf: its update and its parameter, both contiguous.
struct Source {
    u: Tensor,
    p: Tensor,
    /// Whether one of them is f64.
    wide: bool,
}

impl Source {
    /// Memory for the updates of the next pass.
    fn room(&self) -> CpuStorage {
        let len = self.u.elem_count();
        if self.wide { CpuStorage::F64(vec![0.; len]) } else { CpuStorage::F32(vec![0.; len]) }
    }

    fn tensor(&self, room: CpuStorage) -> Result<Tensor> {
        let storage = Storage::Cpu(room);
        Ok(Tensor::from_storage(storage, self.u.shape().clone(), BackpropOp::none(), false))
    }
}

fn sources(
    current: &Leaves,
    positions: &[usize],
    ready: &[Ready<'_>],
    target: &Target<'_>,
) -> Result<Vec<Source>> {
    // What is written must not be read under another name: its memory is taken away.
    let mut written = HashSet::new();
    for &index in positions {
        let state = ready.iter().flat_map(|ready| &ready.state).filter_map(|state| state.get(index));
        written.extend(state.chain(target.param(index)).map(storage_id));
    }
    let source = |&index: &usize| -> Result<Source> {
        let (Some(u), Some(p)) = (current.get(index), target.param(index)) else {
            return Err(
                Error::new(ErrorKind::FilteredOut, "an update has no parameter").at(current.path(index))
            );
        };
        let u = if written.contains(&storage_id(u)) { u.force_contiguous()? } else { u.contiguous()? };
        let wide = [u.dtype(), p.dtype()].contains(&DType::F64);
        Ok(Source { u: u.detach(), p: p.contiguous()?.detach(), wide })
    };
    positions.iter().map(source).collect()
}

/// The memory of what a pass writes, by position.
struct Memory {
    rules: Vec<(Mask, Rules)>,
    /// The state of all rules at each position, in the order of the rules.
    state: Vec<Vec<Buffer>>,
    /// The parameters, if they are written.
    params: Vec<Buffer>,
}

impl Memory {
    fn take(
        positions: &[usize],
        ready: Vec<Ready<'_>>,
        goal: Goal<'_>,
        target: &mut Target<'_>,
    ) -> Result<Self> {
        let mut memory = Self {
            rules: Vec::with_capacity(ready.len()),
            state: positions.iter().map(|_| Vec::new()).collect(),
            params: Vec::new(),
        };
        for Ready { on, rules, state } in ready {
            for state in state {
                let handles = state.handles_mut();
                for (buffers, &index) in memory.state.iter_mut().zip(positions) {
                    if on[index] {
                        buffers.extend(Buffer::take(&mut handles[index])?);
                    }
                }
            }
            memory.rules.push((on, rules));
        }
        if let (Goal::Params, Target::Model(handles)) = (goal, target) {
            for &index in positions {
                memory.params.extend(Buffer::take(handles[index])?);
            }
        }
        Ok(memory)
    }
}
