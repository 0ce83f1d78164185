//! Elementwise rules, and the loops that run them.

use std::ops::AddAssign;

use candle_core::Tensor;
use treex_core::Result;
use treex_kernels::isa::{self, dispatch, prefetch};

use super::expression::Expression;
use super::number::{Lane, Number};
use super::pass::{Edge, Edges};

/// What one step does to each element: its update `u`, its parameter `p`, and the `K` numbers that the state
/// holds for it. A value of this type holds what is the same for all elements: decays, corrections, rates.
///
/// ```
/// use treex_optim::engine::{Number, Rule};
///
/// /// Momentum: `trace = u + decay * trace`, which is the update.
/// #[derive(Clone)]
/// struct Momentum {
///     decay: f64,
/// }
///
/// impl Rule<1> for Momentum {
///     #[inline(always)]
///     fn apply<N: Number>(&self, u: N, _p: N, [trace]: [N; 1]) -> (N, [N; 1]) {
///         let trace = u + trace * self.decay;
///         (trace.clone(), [trace])
///     }
/// }
/// ```
pub trait Rule<const K: usize>: Send + Sync + 'static {
    /// The next update and state of one element. `#[inline(always)]`, so that the loop around it becomes
    /// vector instructions.
    fn apply<N: Number>(&self, u: N, p: N, state: [N; K]) -> (N, [N; K]);
}

/// What is summed over the elements of each leaf, `M` sums at once.
pub trait Terms<const M: usize>: Send + Sync + 'static {
    /// The terms of one element. `#[inline(always)]`, as [`Rule::apply`].
    fn terms<N: Number>(&self, u: N, p: N) -> [N; M];
}

/// The squares of the updates: what norms are made of.
#[derive(Clone, Copy, Debug)]
pub struct Squares;

impl Terms<1> for Squares {
    #[inline(always)]
    fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
        [u.sqr()]
    }
}

/// Elements of a block: two registers of the widest kind.
const BLOCK: usize = 32;

/// Elements between those that are worked on and those that are asked for.
const AHEAD: usize = 512;

/// Asks for the block that comes some after this one, in this chunk or in the next.
#[inline(always)]
fn ahead<T, const N: usize>(block: &[T; N]) {
    let next = block.as_ptr().wrapping_add(AHEAD);
    for line in (0..N).step_by(64 / size_of::<T>()) {
        prefetch(next.wrapping_add(line));
    }
}

/// What a rule runs over: slices of one length.
pub(crate) struct Chunk<'c, 's, T> {
    pub(crate) edges: Edges,
    pub(crate) from: &'c [T],
    /// Where the next updates go.
    pub(crate) to: &'c mut [T],
    /// The parameters; if `None`, they stand in `to`, and the updates are added to them.
    pub(crate) p: Option<&'c [T]>,
    /// As many as the rule has. They come from far.
    pub(crate) state: &'c mut [&'s mut [T]],
    /// Whether `from` and the parameters come from far.
    pub(crate) fresh: bool,
}

/// A [`Rule`] whose type is forgotten, for a chain of any members.
pub(crate) trait AnyRule: Send + Sync {
    /// The number of tensors of state.
    fn width(&self) -> usize;
    /// What this is, if a loop can do it beside another rule.
    fn edge(&self) -> Option<Edge>;
    fn run_f32(&self, chunk: Chunk<'_, '_, f32>);
    fn run_f64(&self, chunk: Chunk<'_, '_, f64>);
    /// The same on tensors: the update, then the state.
    fn plain(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// A rule with its number of state tensors.
pub(crate) struct Typed<R, const K: usize>(pub(crate) R);

impl<R: Rule<K>, const K: usize> Typed<R, K> {
    /// The rule over update, parameter and state as inputs, in this order.
    fn outline(&self) -> (Expression, [Expression; K]) {
        let input = Expression::input;
        self.0.apply(input(0), input(1), std::array::from_fn(|k| input(k + 2)))
    }
}

impl<R: Rule<K>, const K: usize> AnyRule for Typed<R, K> {
    fn width(&self) -> usize {
        K
    }

    fn edge(&self) -> Option<Edge> {
        if K > 0 {
            return None;
        }
        self.outline().0.edge()
    }

    fn run_f32(&self, chunk: Chunk<'_, '_, f32>) {
        dispatch(Apply::<_, _, K> { rule: &self.0, chunk });
    }

    fn run_f64(&self, chunk: Chunk<'_, '_, f64>) {
        dispatch(Apply::<_, _, K> { rule: &self.0, chunk });
    }

    fn plain(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>> {
        let (next, kept) = self.outline();
        let inputs = [&[u.clone(), p.clone()], state].concat();
        let expressions: Vec<_> = std::iter::once(next).chain(kept).collect();
        Ok(Expression::evaluate(&expressions, &inputs)?)
    }
}

/// One rule over one chunk.
struct Apply<'c, 's, R, T, const K: usize> {
    rule: &'c R,
    chunk: Chunk<'c, 's, T>,
}

/// Elements that are computed before any is written: the compiler cannot know that slices in an array do not
/// overlap. It stands where lines of the cache begin.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block<T, const N: usize>([T; N]);

impl<T: Copy + Default, const N: usize> Block<T, N> {
    /// Fewer elements, filled up with zeros.
    #[inline(always)]
    fn part(elements: &[T]) -> Self {
        let mut block = Self([T::default(); N]);
        block.0[..elements.len()].copy_from_slice(elements);
        block
    }

    /// Makes the elements of `u` what goes to `to`.
    #[inline(always)]
    fn apply<R: Rule<K>, const K: usize>(
        &mut self,
        (rule, edges): (&R, Edges),
        p: &Self,
        adds: bool,
        state: &mut [Self; K],
    ) where
        Lane<T>: Number,
    {
        // What a sum keeps every bit with, minus zero too.
        let nothing = || Lane::<T>::constant(-0.);
        for i in 0..N {
            let p = Lane(p.0[i]);
            let kept = std::array::from_fn(|k| Lane(state[k].0[i]));
            let (next, new) = rule.apply(Lane(self.0[i]) * edges.before, p, kept);
            let decay = if let Some(factor) = edges.decay { p * factor } else { nothing() };
            let next = (next + decay) * edges.after;
            let old = if adds { p } else { nothing() };
            self.0[i] = (old + next).0;
            for k in 0..K {
                state[k].0[i] = new[k].0;
            }
        }
    }
}

impl<R: Rule<K>, T: Copy + Default, const K: usize> isa::Kernel for Apply<'_, '_, R, T, K>
where
    Lane<T>: Number,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Chunk { edges, from, to, p, state, fresh } = self.chunk;
        let Ok(state) = <&mut [_; K]>::try_from(state) else { return };
        let rule = (self.rule, edges);
        let (from, from_rest) = from.as_chunks::<BLOCK>();
        let (to, to_rest) = to.as_chunks_mut::<BLOCK>();
        let p = p.map(<[T]>::as_chunks::<BLOCK>);
        let state = state.each_mut().map(|state| state.as_chunks_mut::<BLOCK>());
        for (b, (from, to)) in from.iter().zip(to).enumerate() {
            let p_block = Block(p.map_or(*to, |p| p.0[b]));
            if fresh {
                ahead(from);
                ahead(p.map_or(to, |p| &p.0[b]));
            }
            state.iter().for_each(|state| ahead(&state.0[b]));
            let mut u = Block::<T, BLOCK>(*from);
            let mut new = std::array::from_fn(|k| Block::<T, BLOCK>(state[k].0[b]));
            u.apply(rule, &p_block, p.is_none(), &mut new);
            *to = u.0;
            for k in 0..K {
                state[k].0[b] = new[k].0;
            }
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
}

/// Sums that are kept side by side, each over every 128th element. With fewer, their loop is taken apart before it
/// becomes vector instructions.
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

/// [`Terms`] whose type is forgotten.
pub(crate) trait AnyTerms: Send + Sync {
    /// The number of sums.
    fn width(&self) -> usize;
    /// Adds the sums over a chunk to `sums`.
    fn sum_f32(&self, u: &[f32], p: &[f32], sums: &mut [f64]);
    fn sum_f64(&self, u: &[f64], p: &[f64], sums: &mut [f64]);
    /// The terms as tensors.
    fn plain(&self, u: &Tensor, p: &Tensor) -> Result<Vec<Tensor>>;
}

/// Terms with their number.
pub(crate) struct TypedTerms<S, const M: usize>(pub(crate) S);

impl<S: Terms<M>, const M: usize> AnyTerms for TypedTerms<S, M> {
    fn width(&self) -> usize {
        M
    }

    fn sum_f32(&self, u: &[f32], p: &[f32], sums: &mut [f64]) {
        add(sums, dispatch(Sum::<_, _, M> { terms: &self.0, u, p }));
    }

    fn sum_f64(&self, u: &[f64], p: &[f64], sums: &mut [f64]) {
        add(sums, dispatch(Sum::<_, _, M> { terms: &self.0, u, p }));
    }

    fn plain(&self, u: &Tensor, p: &Tensor) -> Result<Vec<Tensor>> {
        let terms = self.0.terms(Expression::input(0), Expression::input(1));
        Ok(Expression::evaluate(&terms, &[u.clone(), p.clone()])?)
    }
}

fn add(sums: &mut [f64], more: impl IntoIterator<Item = f64>) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Some sums over one chunk. Within it they are kept in the type of the elements, a sum a lane.
struct Sum<'c, S, T, const M: usize> {
    terms: &'c S,
    u: &'c [T],
    p: &'c [T],
}
