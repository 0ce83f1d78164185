//! A piece of a leaf: all rules run over it chunk by chunk, each chunk in the nearest cache.

use std::cell::RefCell;
use std::ops::Range;

use super::erased::ErasedRule;
use super::loops::Chunk;
use super::pass::{Loop, Pass};
use super::slices::{Slice, View, Wide};

/// Elements that go through all rules before the next chunk; few enough to prefetch the next chunk meanwhile.
const CHUNK: usize = 1024;

/// Elements that are summed in the compute type before their sums are added in f64, in a pass of sums alone.
const SUM_CHUNK: usize = 4096;

/// Elements of one task.
pub(crate) const PIECE: usize = 1 << 15;

/// The most state tensors of one rule.
const MAX_STATE: usize = 8;

/// A leaf, or a part of one, with all slices that a pass reads and writes.
pub(crate) struct Piece<'p> {
    /// The position of the leaf.
    pub(crate) index: usize,
    /// Whether to compute in f64.
    pub(crate) wide: bool,
    pub(crate) len: usize,
    pub(crate) u: View<'p>,
    pub(crate) p: Param<'p>,
    /// The state of all rules, one after the other.
    pub(crate) state: Vec<Slice<'p>>,
    /// The new updates, if they are not added to the parameter.
    pub(crate) out: Option<Slice<'p>>,
}

/// The parameter: read, or overwritten by `p + u`.
pub(crate) enum Param<'s> {
    Read(View<'s>),
    Write(Slice<'s>),
}

impl Param<'_> {
    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::Read(view) => *view,
            Self::Write(slice) => slice.view(),
        }
    }

    /// The elements of a range: the parameter's own, or `converted` if its type is not the compute type.
    fn read<'s, T: Wide>(&'s self, range: &Range<usize>, converted: &'s [T]) -> &'s [T] {
        T::own(self.view()).map_or(converted, |own| &own[range.clone()])
    }

    /// The same for writing.
    fn write<'s, T: Wide>(&'s mut self, range: &Range<usize>, converted: &'s mut [T]) -> Option<&'s mut [T]> {
        let Self::Write(slice) = self else { return None };
        Some(match T::own_mut(slice) {
            Some(own) => &mut own[range.clone()],
            None => converted,
        })
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Read(view) => {
                let (left, right) = view.split_at(at);
                (Self::Read(left), Self::Read(right))
            }
            Self::Write(slice) => {
                let (left, right) = slice.split_at(at);
                (Self::Write(left), Self::Write(right))
            }
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of a thread for intermediate and converted elements.
#[derive(Default)]
struct Scratch {
    f32: Buffers<f32>,
    f64: Buffers<f64>,
}

#[derive(Default)]
struct Buffers<T> {
    /// The updates that a rule reads and writes, alternating.
    u: [Vec<T>; 2],
    p: Vec<T>,
    state: [Vec<T>; MAX_STATE],
}

impl Piece<'_> {
    /// Splits it into tasks. The split depends on the length alone, so sums do not depend on the number of
    /// threads.
    pub(crate) fn parts(mut self) -> Vec<Self> {
        let mut parts = Vec::with_capacity(self.len.div_ceil(PIECE));
        while self.len > PIECE {
            let Self { index, wide, len, u, p, state, out } = self;
            let (u, p) = (u.split_at(PIECE), p.split_at(PIECE));
            let state: (Vec<_>, Vec<_>) = state.into_iter().map(|slice| slice.split_at(PIECE)).unzip();
            let out = out.map(|slice| slice.split_at(PIECE)).unzip();
            parts.push(Self { index, wide, len: PIECE, u: u.0, p: p.0, state: state.0, out: out.0 });
            self = Self { index, wide, len: len - PIECE, u: u.1, p: p.1, state: state.1, out: out.1 };
        }
        parts.push(self);
        parts
    }

    /// Runs a pass, and adds its sums to `sums`.
    pub(crate) fn run(&mut self, pass: &Pass<'_>, sums: &mut [f64]) {
        SCRATCH.with_borrow_mut(|scratch| {
            if self.wide {
                self.run_in(pass, &mut scratch.f64, sums);
            } else {
                self.run_in(pass, &mut scratch.f32, sums);
            }
        });
    }

    fn run_in<T: Wide>(&mut self, pass: &Pass<'_>, buffers: &mut Buffers<T>, sums: &mut [f64]) {
        let size = if pass.rules.is_empty() { SUM_CHUNK } else { CHUNK };
        for buffer in buffers.u.iter_mut().chain([&mut buffers.p]) {
            buffer.resize(SUM_CHUNK.max(CHUNK), T::default()); // for either size
        }
        let is_target = matches!(self.p, Param::Write(_));
        for start in (0..self.len).step_by(size) {
            let range = start..self.len.min(start + size);
            let len = range.len();
            let [now, next] = &mut buffers.u;
            let (mut now, mut next) = (&mut now[..len], &mut next[..len]);
            let mut incoming = T::own(self.u).map(|u| &u[range.clone()]);
            if incoming.is_none() {
                T::read(self.u, range.clone(), now);
            }
            let p_buffer = &mut buffers.p[..len];
            let is_converted = T::own(self.p.view()).is_none();
            if is_converted {
                T::read(self.p.view(), range.clone(), p_buffer);
            }
            let mut state = &mut self.state[..];
            for Loop { rule, fused, is_last } in pass.loops(self.index, is_target) {
                let (own, rest) = state.split_at_mut(rule.width());
                state = rest;
                let is_cold = incoming.is_some();
                let from = incoming.take().unwrap_or(now);
                let (to, p) = match self.p.write(&range, p_buffer) {
                    Some(p) if is_last => (p, None),
                    _ => (&mut *next, Some(self.p.read(&range, p_buffer))),
                };
                let chunk = Chunk { fused, from, to, p, state: &mut [], is_cold };
                apply(rule, chunk, own, range.clone(), &mut buffers.state);
                (now, next) = (next, now);
            }
            let u = incoming.unwrap_or(now);
            if let Some((terms, on)) = pass.terms
                && on[self.index]
            {
                T::sum(terms, u, self.p.read(&range, p_buffer), sums);
            }
            match (&mut self.out, &mut self.p) {
                (Some(out), _) => T::write(u, out, range),
                (None, Param::Write(slice)) if is_converted => T::write(p_buffer, slice, range),
                _ => {}
            }
        }
    }
}

/// One rule over one chunk; converts the state if its type is not the compute type.
fn apply<T: Wide>(
    rule: &dyn ErasedRule,
    chunk: Chunk<'_, '_, T>,
    state: &mut [Slice<'_>],
    range: Range<usize>,
    buffers: &mut [Vec<T>; MAX_STATE],
) {
    let mut slices: [&mut [T]; MAX_STATE] = std::array::from_fn(|_| Default::default());
    let slices = &mut slices[..state.len()];
    if state.iter().all(|slice| T::own(slice.view()).is_some()) {
        for (to, slice) in slices.iter_mut().zip(state) {
            if let Some(own) = T::own_mut(slice) {
                *to = &mut own[range.clone()];
            }
        }
        return T::apply(rule, Chunk { state: slices, ..chunk });
    }
    for ((to, buffer), slice) in slices.iter_mut().zip(&mut *buffers).zip(&*state) {
        buffer.resize(range.len(), T::default());
        T::read(slice.view(), range.clone(), buffer);
        *to = buffer;
    }
    T::apply(rule, Chunk { state: slices, ..chunk });
    for (buffer, slice) in buffers.iter().zip(state) {
        T::write(buffer, slice, range.clone());
    }
}
