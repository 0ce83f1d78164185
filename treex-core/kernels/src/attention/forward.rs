//! Attention forward, tile by tile: where a tile brings a larger maximum, the sums so far are rescaled to it.

use super::modifiers::{LANES, Modifiers, Position, exp_flushed};
use super::packing::{Head, narrow};
use super::sizes::{KEY_TILE, QUERY_TILE, SCORES_STRIDE, Sizes};
use super::view::StridedView;
use crate::error::Result;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::memory::zeros;
use crate::microkernel::{PANEL, Product, ROWS, multiply};
use crate::output::Output;
use crate::parallel::try_share;

/// The inputs of attention.
#[derive(Clone, Debug)]
pub struct Inputs<'a, T: Float> {
    /// All sizes; views must hold them.
    pub sizes: Sizes,
    /// `[batch, queries, heads, depth]`, with a last stride of 1.
    pub query: StridedView<'a, T>,
    /// `[batch, keys, kv_heads, depth]`, with a last stride of 1.
    pub key: StridedView<'a, T>,
    /// `[batch, keys, kv_heads, value_depth]`, with a last stride of 1.
    pub value: StridedView<'a, T>,
    /// What modifies scores and weights.
    pub modifiers: Modifiers<'a, T>,
}

/// Of a row of scores: its maximum, and `1 / Σ exp(score - maximum)`.
pub type RowStatistics<R> = [R; 2];

/// `y`, and the statistics of the rows of scores.
pub type Outputs<T> = (Vec<T>, Vec<RowStatistics<<T as Float>::Wide>>);

pub(super) fn forward<T: Float>(inputs: &Inputs<'_, T>) -> Result<Outputs<T>> {
    inputs.check()?;
    inputs.run()
}

/// The buffers of one thread.
struct Scratch<R> {
    keys: Vec<R>,
    values: Vec<R>,
    queries: Vec<R>,
    scores: Vec<R>,
    sums: Vec<R>,
    /// During a pass over the keys, the sum itself instead of its inverse.
    statistics: [RowStatistics<R>; QUERY_TILE],
}

impl<T: Float> Inputs<'_, T> {
    pub(super) fn check(&self) -> Result<()> {
        let s = &self.sizes;
        s.check()?;
        self.query.check(s.batch, [s.queries, s.heads, s.depth], false)?;
        self.key.check(s.batch, [s.keys, s.kv_heads, s.depth], false)?;
        self.value.check(s.batch, [s.keys, s.kv_heads, s.value_depth], false)?;
        self.modifiers.check(s)
    }

    /// One head of queries, keys or values.
    pub(super) fn head<'a>(
        &self,
        view: &'a StridedView<'a, T>,
        item: usize,
        head: usize,
        depth: usize,
    ) -> Head<'a, T> {
        Head { view, item, head, depth }
    }

    /// All queries of all heads; sizes and views have been checked.
    fn run(&self) -> Result<Outputs<T>> {
        let s = self.sizes;
        let y = Output::new(s.batch * s.queries * s.heads * s.value_depth)?;
        let statistics = Output::new(s.batch * s.queries * s.heads)?;
        // Each part of the queries packs the keys again: no more parts than keep all threads busy.
        let (pairs, tiles) = (s.batch * s.kv_heads, s.queries.div_ceil(QUERY_TILE));
        let parts =
            if s.is_large() { (4 * rayon::current_num_threads()).div_ceil(pairs).min(tiles) } else { 1 };
        let length = tiles.div_ceil(parts) * QUERY_TILE;
        let part = |scratch: &mut Scratch<T::Wide>, at: usize| {
            let (pair, first) = (at / parts, at % parts * length);
            self.queries(
                scratch,
                pair,
                (first.min(s.queries), s.queries.min(first + length)),
                &y,
                &statistics,
            );
        };
        try_share(pairs * parts, s.is_large(), &|range| {
            let mut scratch = Scratch::new(s)?;
            range.for_each(|at| part(&mut scratch, at));
            Ok(())
        })?;
        // SAFETY: heads are a multiple of the heads of keys, so that every query of every head of every item has been
        // in one part, which wrote its row of both.
        Ok(unsafe { (y.finish(), statistics.finish()) })
    }

    /// Queries from `first` to `last` of the heads that share one head of keys.
    fn queries(
        &self,
        scratch: &mut Scratch<T::Wide>,
        pair: usize,
        (first, last): (usize, usize),
        y: &Output<T>,
        statistics: &Output<RowStatistics<T::Wide>>,
    ) {
        let s = self.sizes;
        let (item, kv_head) = (pair / s.kv_heads, pair % s.kv_heads);
        if first == last {
            return;
        }
        self.head(&self.key, item, kv_head, s.depth).pack_panels(s.keys, &mut scratch.keys);
        let values = self.head(&self.value, item, kv_head, s.value_depth);
        values.pack_rows(0, s.keys, T::Wide::of(1.), &mut scratch.values);
        for head in s.group(kv_head) {
            let queries = self.head(&self.query, item, head, s.depth);
            for first in (first..last).step_by(QUERY_TILE) {
                let count = QUERY_TILE.min(last - first);
                queries.pack_rows(first, count, s.scale(), &mut scratch.queries);
                self.attend_tile(scratch, [item, head, first], count);
                // SAFETY: this thread alone has these queries of this head.
                let rows = unsafe { statistics.row((item * s.heads + head) * s.queries + first, count) };
                for (at, to) in rows.iter_mut().enumerate() {
                    let [max, inverse] = scratch.statistics[at];
                    to.write([max, inverse]);
                    let row = ((item * s.queries + first + at) * s.heads + head) * s.value_depth;
                    // SAFETY: as above.
                    let row = unsafe { y.row(row, s.value_depth) };
                    narrow(row, &scratch.sums[at * s.padded_value_depth()..], inverse);
                }
            }
        }
    }

    /// A tile of queries over all keys.
    fn attend_tile(&self, scratch: &mut Scratch<T::Wide>, [item, head, first]: [usize; 3], count: usize) {
        let (s, modifiers) = (self.sizes, &self.modifiers);
        let (rows, depth, value_depth) =
            (count.next_multiple_of(ROWS), s.padded_depth(), s.padded_value_depth());
        scratch.statistics.fill([modifiers.masked(), T::Wide::of(0.)]);
        let mut end = modifiers.visible_keys(first + count - 1, s.keys).next_multiple_of(PANEL).min(s.keys);
        let mut key = 0;
        while key < end {
            let len = KEY_TILE.min(end - key);
            multiply(Product {
                c: &mut scratch.scores,
                c_row: SCORES_STRIDE,
                a: &scratch.queries,
                a_strides: [depth, 1],
                b: &scratch.keys[key * s.depth..],
                b_strides: [PANEL, s.depth * PANEL],
                sizes: [rows, s.depth, len.next_multiple_of(PANEL)],
                accumulate: false,
            });
            let position = [item, head, first, key];
            dispatch(OnlineSoftmax { modifiers, scratch, position, sizes: [count, len, value_depth] });
            multiply(Product {
                c: &mut scratch.sums,
                c_row: value_depth,
                a: &scratch.scores,
                a_strides: [SCORES_STRIDE, 1],
                b: &scratch.values[key * value_depth..],
                b_strides: [value_depth, PANEL],
                sizes: [rows, len, value_depth],
                accumulate: key > 0,
            });
            key += len;
            // A row of which all keys are masked has equal weights, also for keys after its own.
            if key == end && scratch.statistics[..count].iter().any(|[max, _]| *max <= modifiers.masked()) {
                end = s.keys;
            }
        }
        for [_, sum] in &mut scratch.statistics {
            *sum = T::Wide::of(1.) / *sum;
        }
    }
}

impl<R: Real> Scratch<R> {
    fn new(s: Sizes) -> Result<Self> {
        Ok(Self {
            keys: zeros(s.padded_keys() * s.depth)?,
            values: zeros(s.padded_keys() * s.padded_value_depth())?,
            queries: zeros(QUERY_TILE * s.padded_depth())?,
            scores: zeros(QUERY_TILE * SCORES_STRIDE)?,
            sums: zeros(QUERY_TILE * s.padded_value_depth())?,
            statistics: [[R::of(0.); 2]; QUERY_TILE],
        })
    }
}

/// Turns the scores of a tile into exponentials, and rescales the sums so far to the new maxima.
struct OnlineSoftmax<'a, 'b, T: Float> {
    modifiers: &'a Modifiers<'b, T>,
    scratch: &'a mut Scratch<T::Wide>,
    position: Position,
    /// Rows, keys, and elements of a row of sums.
    sizes: [usize; 3],
}

impl<T: Float> Kernel for OnlineSoftmax<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { modifiers, scratch, position: [item, head, first, key], sizes: [count, len, width] } =
            self;
        for at in 0..count {
            let position = [item, head, first + at, key];
            let row = &mut scratch.scores[at * SCORES_STRIDE..][..len.next_multiple_of(PANEL)];
            modifiers.adjust_scores(row, len, position);
            let [before, sum] = scratch.statistics[at];
            let max = maximum(row, before);
            let added = exponentials(row, max);
            let factor = exp_flushed(before - max);
            scratch.statistics[at] = [max, sum.mul_add(factor, added)];
            if key > 0 {
                scratch.sums[at * width..][..width].iter_mut().for_each(|sum| *sum = *sum * factor);
            }
            modifiers.drop_weights(row, len, position);
        }
    }
}

/// The maximum of a row and `least`.
#[inline(always)]
fn maximum<R: Real>(row: &[R], least: R) -> R {
    let mut lanes = [least; LANES];
    for x in row.chunks_exact(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = x.max(*lane);
        }
    }
    lanes.into_iter().fold(least, |max, x| x.max(max))
}

/// Turns scores into exponentials, and returns their sum.
#[inline(always)]
fn exponentials<R: Real>(row: &mut [R], max: R) -> R {
    let mut lanes = [R::of(0.); LANES];
    for x in row.chunks_exact_mut(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *x = exp_flushed(*x - max);
            *lane = *lane + *x;
        }
    }
    lanes.into_iter().fold(R::of(0.), |sum, x| sum + x)
}
