//! The loops over slices: a rule applied to a chunk, and sums over one.

use std::ops::AddAssign;

use treex_kernels::isa::{self, prefetch};
use treex_kernels::number::{Lane, Number};

use super::fusion::Fused;
use super::rule::{Rule, Terms};

/// Elements of a block: two registers of the widest kind.
const BLOCK: usize = 32;

/// The prefetch distance, in elements.
const AHEAD: usize = 512;

/// Prefetches the block at that distance, in this chunk or the next.
#[inline(always)]
fn ahead<T, const N: usize>(block: &[T; N]) {
    let next = block.as_ptr().wrapping_add(AHEAD);
    for line in (0..N).step_by(64 / size_of::<T>()) {
        prefetch(next.wrapping_add(line));
    }
}

/// The slices that a rule runs over, of one length.
pub(crate) struct Chunk<'c, 's, T> {
    pub(crate) fused: Fused,
    pub(crate) from: &'c [T],
    /// The next updates.
    pub(crate) to: &'c mut [T],
    /// The parameters; if `None`, they are in `to`, and the updates are added to them.
    pub(crate) p: Option<&'c [T]>,
    /// The state tensors of the rule, not in cache.
    pub(crate) state: &'c mut [&'s mut [T]],
    /// Whether `from` and the parameters are not in cache.
    pub(crate) is_cold: bool,
}

/// Elements that are computed before any is written, since the compiler cannot prove that slices in an array
/// do not overlap. Aligned to a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block<T, const N: usize>([T; N]);

impl<T: Copy + Default, const N: usize> Block<T, N> {
    /// Fewer elements, padded with zeros.
    #[inline(always)]
    fn part(elements: &[T]) -> Self {
        let mut block = Self([T::default(); N]);
        block.0[..elements.len()].copy_from_slice(elements);
        block
    }

    /// Replaces the updates by the elements of `to`.
    #[inline(always)]
    fn apply<R: Rule<K>, const K: usize>(
        &mut self,
        (rule, fused): (&R, Fused),
        p: &Self,
        adds: bool,
        state: &mut [Self; K],
    ) where
        Lane<T>: Number,
    {
        // The neutral element of a sum, also for minus zero.
        let neutral = || Lane::<T>::constant(-0.);
        for i in 0..N {
            let p = Lane(p.0[i]);
            let kept = std::array::from_fn(|k| Lane(state[k].0[i]));
            let (next, new) = rule.apply(Lane(self.0[i]) * fused.before, p, kept);
            let decay = if let Some(factor) = fused.decay { p * factor } else { neutral() };
            let next = (next + decay) * fused.after;
            let old = if adds { p } else { neutral() };
            self.0[i] = (old + next).0;
            for k in 0..K {
                state[k].0[i] = new[k].0;
            }
        }
    }
}

/// One rule over one chunk: whole blocks by `dispatch`, the rest by the instructions of every machine, since a second
/// copy of the rule for each instruction set would cost more to compile than it gains.
pub(super) fn apply<'b, R: Rule<K>, T: Copy + Default, const K: usize>(
    rule: &'b R,
    chunk: Chunk<'b, '_, T>,
    dispatch: impl FnOnce(Blocks<'_, 'b, R, T, K>),
) where
    Lane<T>: Number,
{
    let Chunk { fused, from, to, p, state, is_cold } = chunk;
    let Ok(state) = <&mut [_; K]>::try_from(state) else { return };
    let rule = (rule, fused);
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    let p = p.map(<[T]>::as_chunks);
    let mut state = state.each_mut().map(|state| state.as_chunks_mut());
    if !from.is_empty() {
        let state = state.each_mut().map(|state| &mut *state.0);
        dispatch(Blocks { rule, from, to, p: p.map(|p| p.0), state, is_cold });
    }
    let rest = from_rest.len();
    if rest > 0 {
        let mut u = Block::<T, BLOCK>::part(from_rest);
        let mut new = std::array::from_fn(|k| Block::<T, BLOCK>::part(state[k].1));
        u.apply(rule, &Block::part(p.map_or(to_rest, |p| p.1)), p.is_none(), &mut new);
        to_rest.copy_from_slice(&u.0[..rest]);
        for k in 0..K {
            state[k].1.copy_from_slice(&new[k].0[..rest]);
        }
    }
}

/// The whole blocks of a chunk, and the rule to apply to them.
pub(super) struct Blocks<'s, 'b, R, T, const K: usize> {
    rule: (&'b R, Fused),
    from: &'b [[T; BLOCK]],
    to: &'b mut [[T; BLOCK]],
    p: Option<&'b [[T; BLOCK]]>,
    state: [&'s mut [[T; BLOCK]]; K],
    is_cold: bool,
}

impl<R: Rule<K>, T: Copy + Default, const K: usize> isa::Kernel for Blocks<'_, '_, R, T, K>
where
    Lane<T>: Number,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rule, from, to, p, state, is_cold } = self;
        for (b, (from, to)) in from.iter().zip(to).enumerate() {
            let p_block = Block(p.map_or(*to, |p| p[b]));
            if is_cold {
                ahead(from);
                ahead(p.map_or(to, |p| &p[b]));
            }
            state.iter().for_each(|state| ahead(&state[b]));
            let mut u = Block::<T, BLOCK>(*from);
            let mut new = std::array::from_fn(|k| Block::<T, BLOCK>(state[k][b]));
            u.apply(rule, &p_block, p.is_none(), &mut new);
            *to = u.0;
            for k in 0..K {
                state[k][b] = new[k].0;
            }
        }
    }
}

/// Independent partial sums, each over every 128th element. With fewer, the loop is unrolled before it is
/// vectorized.
const LANES: usize = 128;

/// Adds the terms of the first `len` elements of a block.
#[inline(always)]
fn add_terms<S: Terms<M>, T: Copy + AddAssign + Default, const M: usize>(
    terms: &S,
    u: &[T; LANES],
    p: &[T; LANES],
    len: usize,
    sums: &mut [Block<T, LANES>; M],
) where
    Lane<T>: Number,
{
    for i in 0..LANES {
        let terms = terms.terms(Lane(u[i]), Lane(p[i]));
        for m in 0..M {
            sums[m].0[i] += if i < len { terms[m].0 } else { T::default() };
        }
    }
}

/// Sums over one chunk, accumulated in the element type, one per lane.
pub(super) struct Sum<'c, S, T, const M: usize> {
    pub(super) terms: &'c S,
    pub(super) u: &'c [T],
    pub(super) p: &'c [T],
}

impl<S: Terms<M>, T: Copy + Default + AddAssign + Into<f64>, const M: usize> isa::Kernel for Sum<'_, S, T, M>
where
    Lane<T>: Number,
{
    type Output = [f64; M];

    #[inline(always)]
    fn run(self) -> [f64; M] {
        let (u, u_rest) = self.u.as_chunks::<LANES>();
        let (p, p_rest) = self.p.as_chunks::<LANES>();
        let mut sums = [Block([T::default(); LANES]); M];
        for (u, p) in u.iter().zip(p) {
            ahead(u);
            add_terms(self.terms, u, p, LANES, &mut sums);
        }
        if !u_rest.is_empty() {
            add_terms(self.terms, &Block::part(u_rest).0, &Block::part(p_rest).0, u_rest.len(), &mut sums);
        }
        sums.map(|mut lanes| {
            // Halves onto each other, down to one register.
            let mut count = LANES;
            while count > 8 {
                count /= 2;
                let (left, right) = lanes.0.split_at_mut(count);
                left.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
            }
            lanes.0[..count].iter().map(|&lane| lane.into()).sum()
        })
    }
}
