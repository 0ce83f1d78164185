//! A part of a leaf, small enough for a core's cache, with everything that a pass reads and writes of it.

use std::ops::Range;

use super::rule::{AnyRule, AnyTerms};
use super::slices::{Slice, View, Wide};
use super::updates::{Mask, Rules};

/// Elements that go through all rules while they are in the nearest cache.
const CHUNK: usize = 2048;

/// Tensors of state that one rule can have.
pub(crate) const MAX_STATE: usize = 8;

/// A part of one leaf.
pub(crate) struct Piece<'s> {
    /// The position of the leaf.
    pub(crate) index: usize,
    /// Whether to compute in f64.
    pub(crate) wide: bool,
    pub(crate) len: usize,
    pub(crate) u: View<'s>,
    pub(crate) p: Param<'s>,
    /// The state of all rules, one after the other.
    pub(crate) state: Vec<Slice<'s>>,
    /// Where the updates go, if they are not added to the parameter.
    pub(crate) out: Option<Slice<'s>>,
    pub(crate) sums: Vec<f64>,
}

/// The parameter: to be read, or to become `p + u`.
pub(crate) enum Param<'s> {
    Read(View<'s>),
    Write(Slice<'s>),
}

impl Param<'_> {
    fn view(&self) -> View<'_> {
        match self {
            Self::Read(view) => *view,
            Self::Write(slice) => slice.view(),
        }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Read(view) => {
                let (a, b) = view.split_at(at);
                (Self::Read(a), Self::Read(b))
            }
            Self::Write(slice) => {
                let (a, b) = slice.split_at(at);
                (Self::Write(a), Self::Write(b))
            }
        }
    }
}

/// What a pass computes of each piece.
pub(crate) struct Pass<'r> {
    /// Rules in order, and where each applies.
    pub(crate) rules: &'r [(Mask, Rules)],
    /// What to sum of the outcome, and where.
    pub(crate) terms: Option<(&'r dyn AnyTerms, &'r Mask)>,
}

/// Room for what is computed, and for what must be converted.
#[derive(Default)]
pub(crate) struct Scratch {
    f32: Rooms<f32>,
    f64: Rooms<f64>,
}

#[derive(Default)]
struct Rooms<T> {
    u: Vec<T>,
    p: Vec<T>,
    state: [Vec<T>; MAX_STATE],
}

impl Piece<'_> {
    /// Cuts this into pieces of at most `size` elements, in order.
    pub(crate) fn cut(self, size: usize, pieces: &mut Vec<Self>) {
        let Self { index, wide, len, mut u, mut p, mut state, mut out, sums } = self;
        let mut rest = len;
        while rest > size {
            let (u_now, u_then) = u.split_at(size);
            let (p_now, p_then) = p.split_at(size);
            let (state_now, state_then) = state.into_iter().map(|slice| slice.split_at(size)).unzip();
            let (out_now, out_then) = out.map(|slice| slice.split_at(size)).unzip();
            let sums = sums.clone();
            pieces.push(Self {
                index,
                wide,
                len: size,
                u: u_now,
                p: p_now,
                state: state_now,
                out: out_now,
                sums,
            });
            (u, p, state, out) = (u_then, p_then, state_then, out_then);
            rest -= size;
        }
        pieces.push(Self { index, wide, len: rest, u, p, state, out, sums });
    }

    pub(crate) fn run(&mut self, pass: &Pass<'_>, scratch: &mut Scratch) {
        if self.wide { self.run_in(pass, &mut scratch.f64) } else { self.run_in(pass, &mut scratch.f32) }
    }

    fn run_in<T: Wide>(&mut self, pass: &Pass<'_>, rooms: &mut Rooms<T>) {
        rooms.u.resize(CHUNK, T::default());
        rooms.p.resize(CHUNK, T::default());
        for start in (0..self.len).step_by(CHUNK) {
            let range = start..self.len.min(start + CHUNK);
            let u = &mut rooms.u[..range.len()];
            T::read(self.u, range.clone(), u);
            let p = match T::own(self.p.view()) {
                Some(p) => &p[range.clone()],
                None => {
                    T::read(self.p.view(), range.clone(), &mut rooms.p[..range.len()]);
                    &rooms.p[..range.len()]
                }
            };
            let mut state = &mut self.state[..];
            for (on, rules) in pass.rules {
                if on[self.index] {
                    let rule = rules.at(self.index);
                    let (own, rest) = state.split_at_mut(rule.width());
                    state = rest;
                    apply(rule, u, p, own, range.clone(), &mut rooms.state);
                }
            }
            if let Some((terms, on)) = pass.terms
                && on[self.index]
            {
                T::sum(terms, u, p, &mut self.sums);
            }
            if let Some(out) = &mut self.out {
                T::write(u, out, range);
            } else if let Param::Write(_) = self.p {
                u.iter_mut().zip(p).for_each(|(u, p)| *u = *p + *u);
                if let Param::Write(p) = &mut self.p {
                    T::write(u, p, range);
                }
            }
        }
    }
}

/// One rule over one chunk, whose state may be of another type than is computed in.
fn apply<T: Wide>(
    rule: &dyn AnyRule,
    u: &mut [T],
    p: &[T],
    state: &mut [Slice<'_>],
    range: Range<usize>,
    rooms: &mut [Vec<T>; MAX_STATE],
) {
    let mut slices: [&mut [T]; MAX_STATE] = std::array::from_fn(|_| Default::default());
    let width = state.len();
    if state.iter().all(|slice| T::own(slice.view()).is_some()) {
        for (to, slice) in slices.iter_mut().zip(state) {
            if let Some(own) = T::own_mut(slice) {
                *to = &mut own[range.clone()];
            }
        }
        return T::apply(rule, u, p, &mut slices[..width]);
    }
    for ((to, room), slice) in slices.iter_mut().zip(&mut *rooms).zip(&*state) {
        room.resize(range.len(), T::default());
        T::read(slice.view(), range.clone(), room);
        *to = room;
    }
    T::apply(rule, u, p, &mut slices[..width]);
    for (room, slice) in rooms.iter().zip(state) {
        T::write(room, slice, range.clone());
    }
}
