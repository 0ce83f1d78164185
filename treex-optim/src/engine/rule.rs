//! Elementwise rules, and the loops that run them.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::compute::simd::{self, dispatch};

use super::expression::Expression;
use super::number::{Lane, Number};

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

/// A [`Rule`] whose type is forgotten, for a chain of any members.
pub(crate) trait AnyRule: Send + Sync {
    /// The number of tensors of state.
    fn width(&self) -> usize;
    fn run_f32(&self, u: &mut [f32], p: &[f32], state: &mut [&mut [f32]]);
    fn run_f64(&self, u: &mut [f64], p: &[f64], state: &mut [&mut [f64]]);
    /// The same on tensors: the update, then the state.
    fn plain(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// A rule with its number of state tensors.
pub(crate) struct Typed<R, const K: usize>(pub(crate) R);

impl<R: Rule<K>, const K: usize> AnyRule for Typed<R, K> {
    fn width(&self) -> usize {
        K
    }

    fn run_f32(&self, u: &mut [f32], p: &[f32], state: &mut [&mut [f32]]) {
        if let Ok(state) = state.try_into() {
            dispatch(Apply::<_, _, K> { rule: &self.0, u, p, state });
        }
    }

    fn run_f64(&self, u: &mut [f64], p: &[f64], state: &mut [&mut [f64]]) {
        if let Ok(state) = state.try_into() {
            dispatch(Apply::<_, _, K> { rule: &self.0, u, p, state });
        }
    }

    fn plain(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>> {
        let input = Expression::input;
        let (next, kept) = self.0.apply(input(0), input(1), std::array::from_fn(|k| input(k + 2)));
        let inputs = [&[u.clone(), p.clone()], state].concat();
        let expressions: Vec<_> = std::iter::once(next).chain(kept).collect();
        Ok(Expression::evaluate(&expressions, &inputs)?)
    }
}

/// One rule over one chunk. All slices have the length of `u`.
struct Apply<'c, 's, R, T, const K: usize> {
    rule: &'c R,
    u: &'c mut [T],
    p: &'c [T],
    state: &'c mut [&'s mut [T]; K],
}

/// The loop for each type that is computed in. Blocks are copied, since the compiler cannot know that slices
/// in an array do not overlap; the last one is filled up with zeros.
macro_rules! loops {
    ($($type:ty),*) => {$(
        impl<R: Rule<K>, const K: usize> simd::Kernel for Apply<'_, '_, R, $type, K> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                let len = self.u.len();
                let mut start = 0;
                while start < len {
                    let end = len.min(start + BLOCK);
                    let mut u = load(&self.u[start..end]);
                    let p = load(&self.p[start..end]);
                    let mut state = [[0.; BLOCK]; K];
                    for k in 0..K {
                        state[k] = load(&self.state[k][start..end]);
                    }
                    for i in 0..BLOCK {
                        let old = std::array::from_fn(|k| Lane(state[k][i]));
                        let (next, new) = self.rule.apply(Lane(u[i]), Lane(p[i]), old);
                        u[i] = next.0;
                        for k in 0..K {
                            state[k][i] = new[k].0;
                        }
                    }
                    store(&u, &mut self.u[start..end]);
                    for k in 0..K {
                        store(&state[k], &mut self.state[k][start..end]);
                    }
                    start = end;
                }
            }
        }

        impl<S: Terms<M>, const M: usize> simd::Kernel for Sum<'_, S, $type, M> {
            type Output = [f64; M];

            #[inline(always)]
            fn run(self) -> [f64; M] {
                let len = self.u.len();
                let mut sums = [[0 as $type; BLOCK]; M];
                let mut start = 0;
                while start < len {
                    let end = len.min(start + BLOCK);
                    let (u, p) = (load(&self.u[start..end]), load(&self.p[start..end]));
                    let rest = end - start;
                    for i in 0..BLOCK {
                        let terms = self.terms.terms(Lane(u[i]), Lane(p[i]));
                        for m in 0..M {
                            // What fills up the last block is no element.
                            sums[m][i] += if i < rest { terms[m].0 } else { 0. };
                        }
                    }
                    start = end;
                }
                sums.map(|lanes| lanes.iter().map(|&lane| f64::from(lane)).sum())
            }
        }
    )*};
}

loops!(f32, f64);

#[inline(always)]
fn load<T: Copy + Default>(slice: &[T]) -> [T; BLOCK] {
    match slice.first_chunk() {
        Some(block) => *block,
        None => {
            let mut block = [T::default(); BLOCK];
            block[..slice.len()].copy_from_slice(slice);
            block
        }
    }
}

#[inline(always)]
fn store<T: Copy>(block: &[T; BLOCK], slice: &mut [T]) {
    match slice.first_chunk_mut() {
        Some(chunk) => *chunk = *block,
        None => slice.copy_from_slice(&block[..slice.len()]),
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
