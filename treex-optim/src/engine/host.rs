//! A pass on the host: over all leaves, on all cores, in place.
//!
//! Leaves are handed to threads in batches of about the same number of elements, so thousands of small ones cost
//! little more than a few large ones, and a large one is shared by all threads. A thread takes the memory of a
//! leaf only when it comes to it, which is still there when the rules want it.

use std::mem;
use std::ops::{Deref, Range};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor, TensorId};
use rayon::prelude::*;
use treex_core::compute::Buffer;
use treex_core::compute::ids::{IdMap, IdSet};
use treex_core::{Error, ErrorKind, Handle, Leaves, Result};

use super::pass::{Member, Pass};
use super::piece::{PIECE, Param, Piece};
use super::run::{Found, Goal, Ready, Target};
use super::slices::{Slice, View};
use super::updates::Sums;

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// Leaves that one thread looks at, before anything is written.
const CHECKED: usize = 512;

/// What a leaf costs beside its elements, in elements.
const LEAF: usize = 256;

/// Runs rules over all leaves that are present.
pub(crate) fn pass(
    current: &Leaves,
    present: &[bool],
    ready: Vec<Ready<'_>>,
    goal: Goal<'_>,
    target: &mut Target<'_>,
) -> Result<Found> {
    let copies = check(current, present, &ready, goal, target)?;
    let width = if let Goal::Sums(terms, _) = goal { terms.width() } else { 0 };
    let keep = !matches!(goal, Goal::Params) && !ready.is_empty();
    let terms = if let Goal::Sums(terms, on) = goal { Some((terms, on)) } else { None };
    let mut pass = Pass { rules: Vec::with_capacity(ready.len()), terms };
    let mut states = Vec::new();
    for Ready { on, rules, state } in ready {
        states.extend(state.into_iter().map(|state| (pass.rules.len(), state.handles_mut())));
        pass.rules.push(Member::new(on, rules));
    }
    let all = All { current, present, pass, copies, width, keep };
    let (mut batches, elements) = all.batches(states, goal, target);
    if elements < PARALLEL {
        batches.iter_mut().try_for_each(|batch| batch.run(&all, false))?;
    } else {
        batches.par_iter_mut().try_for_each(|batch| batch.run(&all, true))?;
    }
    let mut sums = Sums { width, values: Vec::with_capacity(width * current.len()) };
    let mut rooms = Vec::new();
    for batch in batches {
        sums.values.extend(batch.sums);
        rooms.extend(batch.rooms);
    }
    if !keep {
        return Ok(Found { updates: None, sums });
    }
    let mut rooms = rooms.into_iter();
    let updates = current.rebuild(|index| match current.get(index) {
        Some(u) if present[index] => Ok(rooms.next().map(|room| {
            Tensor::from_storage(Storage::Cpu(room), u.shape().clone(), BackpropOp::none(), false)
        })),
        other => Ok(other.cloned()),
    })?;
    Ok(Found { updates: Some(updates), sums })
}

/// Reports what cannot be run, before anything is written, and copies what is read if something else writes to the
/// same memory in this pass: a batch must not see what another one does.
fn check(
    current: &Leaves,
    present: &[bool],
    ready: &[Ready<'_>],
    goal: Goal<'_>,
    target: &Target<'_>,
) -> Result<IdMap<TensorId, Tensor>> {
    let is_there = |&index: &usize| present[index] && current.get(index).is_some();
    let positions = || (0..current.len()).filter(is_there);
    let writes_params = matches!((goal, target), (Goal::Params, Target::Model(_)));
    let mut read: IdSet<usize> = IdSet::default();
    read.reserve(current.len());
    for index in positions() {
        read.extend(current.storage(index));
        if !writes_params {
            read.extend(target.storage(index));
        }
    }
    // What of the memory that is read is written as well.
    let part = |range: Range<usize>| -> Result<Vec<usize>> {
        let mut written = Vec::new();
        for index in range.filter(is_there) {
            let len = current.get(index).map_or(0, Tensor::elem_count);
            let stands = |tensor: Option<&Tensor>| match tensor {
                Some(tensor) if is_ours(tensor) && tensor.elem_count() == len => Ok(()),
                Some(tensor) => Err(Error::new(ErrorKind::DType, "a leaf cannot be stepped")
                    .expected(format!("{len} floats on the host"))
                    .found(format!("{:?} of `{}`", tensor.dims(), tensor.dtype().as_str()))),
                None => Err(Error::new(ErrorKind::FilteredOut, "an update has no parameter or no state")),
            };
            let states = || ready.iter().filter(|ready| ready.on[index]).flat_map(|ready| &ready.state);
            let mut all = [current.get(index), target.param(index)]
                .into_iter()
                .chain(states().map(|state| state.get(index)));
            all.try_for_each(stands).map_err(|error| error.at(current.path(index)))?;
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
        let parts = (0..count.div_ceil(CHECKED)).into_par_iter();
        let parts = parts.map(|at| part(at * CHECKED..count.min((at + 1) * CHECKED)));
        parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
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

/// Whether the loops can run over a tensor.
fn is_ours(tensor: &Tensor) -> bool {
    matches!(tensor.device(), Device::Cpu)
        && matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::BF16 | DType::F16)
}

/// What all batches of a pass share.
struct All<'a> {
    current: &'a Leaves,
    present: &'a [bool],
    pass: Pass<'a>,
    /// To be read in place of the tensors with these ids.
    copies: IdMap<TensorId, Tensor>,
    /// How many sums there are of each leaf.
    width: usize,
    /// Whether the updates are kept.
    keep: bool,
}

/// Leaves that stand side by side, for one thread.
struct Batch<'b, 't> {
    positions: Range<usize>,
    params: Params<'b, 't>,
    /// The tensors of state at these positions, each with the number of its rule.
    states: Vec<(usize, &'b mut [Handle])>,
    /// The sums of each leaf.
    sums: Vec<f64>,
    /// The updates of each leaf that is there, if they are kept.
    rooms: Vec<CpuStorage>,
}

enum Params<'b, 't> {
    Read(&'b Target<'t>),
    Write(&'b mut [&'t mut Handle]),
}

impl All<'_> {
    /// The update at a position, if there is one to work on.
    fn update(&self, index: usize) -> Option<&Tensor> {
        self.current.get(index).filter(|_| self.present[index])
    }

    /// What is to be read for a tensor: itself, in most cases.
    fn straight(&self, tensor: &Tensor) -> Result<Option<Tensor>> {
        match self.copies.get(&tensor.id()) {
            Some(copy) => Ok(Some(copy.clone())),
            None if tensor.is_contiguous() => Ok(None),
            None => Ok(Some(tensor.detach().contiguous()?)),
        }
    }

    /// Divides the work, and counts the elements.
    fn batches<'b, 't>(
        &self,
        mut states: Vec<(usize, &'b mut [Handle])>,
        goal: Goal<'_>,
        target: &'b mut Target<'t>,
    ) -> (Vec<Batch<'b, 't>>, usize) {
        let mut params = match (goal, target) {
            (Goal::Params, Target::Model(handles)) => Params::Write(handles),
            (_, target) => Params::Read(target),
        };
        let (mut batches, mut total) = (Vec::new(), 0);
        let (mut start, mut elements) = (0, 0);
        for end in 1..=self.current.len() {
            if let Some(update) = self.update(end - 1) {
                elements += update.elem_count() + LEAF;
                total += update.elem_count();
            }
            if elements < PIECE && end < self.current.len() {
                continue;
            }
            batches.push(Batch {
                positions: start..end,
                params: match &mut params {
                    Params::Read(target) => Params::Read(target),
                    Params::Write(handles) => Params::Write(first(handles, end - start)),
                },
                states: states.iter_mut().map(|(rule, state)| (*rule, first(state, end - start))).collect(),
                sums: vec![0.; self.width * (end - start)],
                rooms: Vec::new(),
            });
            (start, elements) = (end, 0);
        }
        (batches, total)
    }
}

/// Takes the first `count` out of `slice`.
fn first<'b, T>(slice: &mut &'b mut [T], count: usize) -> &'b mut [T] {
    let (first, rest) = mem::take(slice).split_at_mut(count);
    *slice = rest;
    first
}

impl Batch<'_, '_> {
    fn run(&mut self, all: &All<'_>, on_all_cores: bool) -> Result<()> {
        let Self { positions, params, states, sums, rooms } = self;
        let (start, width) = (positions.start, all.width);
        let (target, mut handles) = match params {
            Params::Read(target) => (Some(&**target), Default::default()),
            Params::Write(handles) => (None, handles.iter_mut()),
        };
        let mut states: Vec<_> = states.iter_mut().map(|(rule, state)| (*rule, state.iter_mut())).collect();
        let mut of_state = Vec::with_capacity(states.len() * positions.len());
        let mut of_params = Vec::with_capacity(handles.len());
        for index in positions.clone() {
            let there = all.update(index).is_some();
            for (rule, state) in &mut states {
                if let Some(handle) = state.next()
                    && there
                    && all.pass.rules[*rule].on[index]
                {
                    of_state.extend(Buffer::take(handle)?);
                }
            }
            if let Some(handle) = handles.next()
                && there
            {
                of_params.extend(Buffer::take(handle)?);
            }
        }

        let mut slices: Vec<_> =
            of_state.iter_mut().filter_map(|buffer| Slice::of(buffer.storage())).collect();
        let (mut slices, mut of_params) = (&mut slices[..], of_params.iter_mut());
        for index in positions.clone() {
            let Some(u) = all.update(index) else { continue };
            let u_copy = all.straight(u)?;
            let u = u_copy.as_ref().unwrap_or(u);
            let p = target.and_then(|target| target.param(index));
            let p_copy = p.map(|p| all.straight(p)).transpose()?.flatten();
            let p = p_copy.as_ref().or(p);
            let (u_lock, p_lock) = (u.storage_and_layout(), p.map(Tensor::storage_and_layout));
            let len = u.elem_count();
            let p = match &p_lock {
                Some(lock) => view(lock, len).map(Param::Read),
                None => of_params.next().and_then(|buffer| Slice::of(buffer.storage())).map(Param::Write),
            };
            let (Some(u), Some(p)) = (view(&u_lock, len), p) else {
                return Err(
                    Error::new(ErrorKind::DType, "a leaf cannot be stepped").at(all.current.path(index))
                );
            };
            let wide = u.is_f64() || p.view().is_f64();
            let mut room = all.keep.then(|| match wide {
                true => CpuStorage::F64(vec![0.; len]),
                false => CpuStorage::F32(vec![0.; len]),
            });
            let active = all.pass.rules.iter().filter(|member| member.on[index]);
            let state = first(&mut slices, active.map(|member| member.rules.at(index).width()).sum());
            let piece = Piece { index, wide, len, u, p, state, out: room.as_mut().and_then(Slice::of) };
            let sums = &mut sums[width * (index - start)..][..width];
            if on_all_cores && len > PIECE {
                piece.run_on_all(&all.pass, sums);
            } else {
                piece.run(&all.pass, sums);
            }
            rooms.extend(room);
        }
        Ok(())
    }
}

/// The `len` elements that a contiguous tensor has.
fn view<'s>((storage, layout): &'s (impl Deref<Target = Storage>, &Layout), len: usize) -> Option<View<'s>> {
    match &**storage {
        Storage::Cpu(storage) => View::of(storage, layout.start_offset(), len),
        _ => None,
    }
}
