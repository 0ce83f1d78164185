//! How a pass is divided among threads.
//!
//! Tasks have about the same size: a piece of a large leaf, or a batch of adjacent small leaves, so thousands
//! of small leaves cost little more than a few large ones. A batch opens the storage of its leaves itself, on
//! the thread that runs its rules, while it is in that thread's cache.

use std::borrow::Cow;
use std::mem;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Layout, Storage, Tensor, TensorId};
use treex_core::autograd::StorageGuard;
use treex_core::id_map::IdMap;
use treex_core::{Error, ErrorKind, Handle, Leaves, Result};
use treex_kernels::parallel::pieces;

use super::job::{Output, Target, compute_dtype};
use super::pass::Pass;
use super::piece::{PIECE, Param, Piece};
use super::slices::{Slice, View};

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 16;

/// The fixed cost of a leaf, in elements.
const LEAF: usize = 256;

/// Shared by all batches of a pass.
pub(super) struct SharedPass<'a> {
    pub(super) current: &'a Leaves,
    pub(super) present: &'a [bool],
    pub(super) pass: Pass<'a>,
    /// Copies to read instead of the tensors with these ids.
    pub(super) copies: IdMap<TensorId, Tensor>,
    /// The number of sums of each leaf.
    pub(super) width: usize,
    /// Whether the pass returns the updates.
    pub(super) keep: bool,
}

/// Adjacent leaves.
pub(super) struct Batch<'b, 't> {
    positions: Range<usize>,
    /// The number of elements of the leaves with an update.
    elements: usize,
    params: Params<'b, 't>,
    /// The tensors of state at these positions, each with the number of its rule.
    states: Vec<(usize, &'b mut [Handle])>,
    /// The sums of each leaf.
    sums: &'b mut [f64],
    /// The new updates of each leaf, if the pass returns them.
    new_updates: &'b mut [Option<CpuStorage>],
}

enum Params<'b, 't> {
    Read(&'b Target<'t>),
    Write(&'b mut [&'t mut Handle]),
}

/// A leaf with an update, with its storage.
struct OpenLeaf<'o> {
    index: usize,
    u: Cow<'o, Tensor>,
    /// The parameter, if it is only read.
    p: Option<Cow<'o, Tensor>>,
    wide: bool,
    param: Option<StorageGuard<'o>>,
    state: Vec<StorageGuard<'o>>,
    new_update: Option<&'o mut CpuStorage>,
    sums: &'o mut [f64],
}

/// One task of a thread.
enum Task<'k, 'b, 't> {
    Batch(&'k mut Batch<'b, 't>, Result<()>),
    /// A piece of a large leaf, and its sums.
    Piece(Piece<'k>, Vec<f64>),
}

impl<'a> SharedPass<'a> {
    /// The update at a position, if it was not dropped and has elements.
    fn update(&self, index: usize) -> Option<&'a Tensor> {
        self.current.get(index).filter(|update| self.present[index] && update.elem_count() > 0)
    }

    /// A contiguous tensor to read instead of this one: itself in most cases.
    fn contiguous<'t>(&self, tensor: &'t Tensor) -> Result<Cow<'t, Tensor>> {
        match self.copies.get(&tensor.id()) {
            Some(copy) => Ok(Cow::Owned(copy.clone())),
            None if tensor.is_contiguous() => Ok(Cow::Borrowed(tensor)),
            None => Ok(Cow::Owned(tensor.detach().contiguous()?)),
        }
    }

    /// Divides the leaves into batches; a large leaf is a batch of its own.
    pub(super) fn batches<'b, 't>(
        &self,
        mut states: Vec<(usize, &'b mut [Handle])>,
        output: Output<'_>,
        target: &'b mut Target<'t>,
        mut sums: &'b mut [f64],
        mut new_updates: &'b mut [Option<CpuStorage>],
    ) -> Vec<Batch<'b, 't>> {
        let mut params = match (output, target) {
            (Output::Params, Target::Model(handles)) => Params::Write(handles),
            (_, target) => Params::Read(target),
        };
        let size = |index: usize| self.update(index).map_or(0, Tensor::elem_count);
        let mut batches = Vec::new();
        let (mut start, mut elements, mut costs) = (0, 0, 0);
        for end in 1..=self.current.len() {
            let own = size(end - 1);
            (elements, costs) = (elements + own, costs + own + if own > 0 { LEAF } else { 0 });
            let is_next_large = end < self.current.len() && size(end) > PIECE;
            if costs < PIECE && end < self.current.len() && !is_next_large {
                continue;
            }
            let count = end - start;
            batches.push(Batch {
                positions: start..end,
                elements,
                params: match &mut params {
                    Params::Read(target) => Params::Read(target),
                    Params::Write(handles) => Params::Write(first(handles, count)),
                },
                states: states.iter_mut().map(|(rule, state)| (*rule, first(state, count))).collect(),
                sums: first(&mut sums, self.width * count),
                new_updates: first(&mut new_updates, count),
            });
            (start, elements, costs) = (end, 0, 0);
        }
        batches
    }

    /// Runs the pass over all batches.
    pub(super) fn run(&self, mut batches: Vec<Batch<'_, '_>>) -> Result<()> {
        let elements: usize = batches.iter().map(|batch| batch.elements).sum();
        let (mut open, mut small) = (Vec::new(), Vec::new());
        for batch in &mut batches {
            if batch.elements > PIECE && batch.positions.len() == 1 {
                open.extend(batch.open(self)?);
            } else {
                small.push(batch);
            }
        }
        self.with_pieces(&mut open, |leaves| {
            let (mut tasks, mut totals) = (Vec::new(), Vec::new());
            for (leaf, sums) in leaves {
                let parts = leaf.parts().into_iter().map(|part| Task::Piece(part, vec![0.; self.width]));
                let before = tasks.len();
                tasks.extend(parts);
                totals.push((sums, tasks.len() - before));
            }
            tasks.extend(small.into_iter().map(|batch| Task::Batch(batch, Ok(()))));
            pieces(&mut tasks, 1, elements >= PARALLEL, |_, tasks| match &mut tasks[0] {
                Task::Piece(piece, sums) => piece.run(&self.pass, sums),
                Task::Batch(batch, result) => *result = batch.run(self),
            });
            let mut tasks = tasks.into_iter();
            for (total, count) in totals {
                for task in tasks.by_ref().take(count) {
                    if let Task::Piece(_, sums) = task {
                        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                    }
                }
            }
            tasks.try_for_each(|task| if let Task::Batch(_, result) = task { result } else { Ok(()) })
        })?
    }

    /// Calls `f` with the storage of leaves, and the sums to add to.
    fn with_pieces<R>(
        &self,
        leaves: &mut [OpenLeaf<'_>],
        f: impl FnOnce(Vec<(Piece<'_>, &mut [f64])>) -> R,
    ) -> Result<R> {
        let (mut reads, mut writes) = (Vec::with_capacity(leaves.len()), Vec::with_capacity(leaves.len()));
        for OpenLeaf { index, u, p, wide, param, state, new_update, sums } in leaves {
            let len = u.elem_count();
            reads.push((u.storage_and_layout(), p.as_ref().map(|p| p.storage_and_layout())));
            writes.push((*index, *wide, len, param, state, new_update, sums));
        }
        let mut pieces = Vec::with_capacity(reads.len());
        for ((u, p), (index, wide, len, param, state, new_update, sums)) in reads.iter().zip(writes) {
            let p = match p {
                Some(p) => view(p, len).map(Param::Read),
                None => param.as_mut().and_then(|buffer| Slice::of(buffer.storage())).map(Param::Write),
            };
            let (Some(u), Some(p)) = (view(u, len), p) else {
                return Err(
                    Error::new(ErrorKind::DType, "a leaf cannot be updated").at(self.current.path(index))
                );
            };
            let state = state.iter_mut().filter_map(|buffer| Slice::of(buffer.storage())).collect();
            let out = new_update.as_mut().and_then(|new_update| Slice::of(new_update));
            pieces.push((Piece { index, wide, len, u, p, state, out }, &mut **sums));
        }
        Ok(f(pieces))
    }
}

/// Splits the first `count` elements off `slice`.
fn first<'b, T>(slice: &mut &'b mut [T], count: usize) -> &'b mut [T] {
    let (first, rest) = mem::take(slice).split_at_mut(count);
    *slice = rest;
    first
}

impl Batch<'_, '_> {
    /// Opens the storage of the leaves with an update.
    fn open<'o>(&'o mut self, all: &SharedPass<'o>) -> Result<Vec<OpenLeaf<'o>>> {
        let Self { positions, params, states, sums, new_updates, .. } = self;
        let (target, mut handles) = match params {
            Params::Read(target) => (Some(&**target), Default::default()),
            Params::Write(handles) => (None, handles.iter_mut()),
        };
        let mut states: Vec<_> = states.iter_mut().map(|(rule, state)| (*rule, state.iter_mut())).collect();
        let (mut sums, mut new_updates) = (&mut **sums, new_updates.iter_mut());
        let mut leaves = Vec::with_capacity(positions.len());
        for index in positions.clone() {
            let (sums, new_update, handle) =
                (first(&mut sums, all.width), new_updates.next(), handles.next());
            let mut state = Vec::with_capacity(states.len());
            let update = all.update(index);
            for (rule, handles) in &mut states {
                if let Some(handle) = handles.next()
                    && update.is_some()
                    && all.pass.rules[*rule].on[index]
                {
                    state.extend(StorageGuard::take(handle)?);
                }
            }
            let Some(u) = update else { continue };
            let p = target.and_then(|target| target.param(index));
            let of_p = p.or(handle.as_ref().and_then(|handle| handle.value())).unwrap_or(u);
            let wide = compute_dtype(u, of_p) == DType::F64;
            let new_update = new_update.filter(|_| all.keep).map(|new_update| {
                let len = u.elem_count();
                new_update.insert(if wide {
                    CpuStorage::F64(vec![0.; len])
                } else {
                    CpuStorage::F32(vec![0.; len])
                })
            });
            let p = p.map(|p| all.contiguous(p)).transpose()?;
            let param = handle.map(|handle| StorageGuard::take(handle)).transpose()?.flatten();
            leaves.push(OpenLeaf { index, u: all.contiguous(u)?, p, wide, param, state, new_update, sums });
        }
        Ok(leaves)
    }

    fn run(&mut self, all: &SharedPass<'_>) -> Result<()> {
        all.with_pieces(&mut self.open(all)?, |leaves| {
            for (mut leaf, sums) in leaves {
                leaf.run(&all.pass, sums);
            }
        })
    }
}

/// The `len` elements that a contiguous tensor has.
fn view<'s>((storage, layout): &'s (impl Deref<Target = Storage>, &Layout), len: usize) -> Option<View<'s>> {
    match &**storage {
        Storage::Cpu(storage) => View::of(storage, layout.start_offset(), len),
        _ => None,
    }
}
