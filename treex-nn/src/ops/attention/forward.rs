//! Attention forward, tile by tile: of the scores, those of some queries and some keys are there at a time. The
//! softmax goes along (Milakov and Gimelshein, 2018): with a larger maximum, what has been summed so far shrinks.

use treex_core::Result;
use treex_core::autograd::Element;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::share;

use super::memory::{Head, View, narrow};
use super::scores::{LANES, Place, Scores, weight};
use super::{KEYS, QUERIES, SCORES_ROW, Sizes};
use treex_kernels::microkernel::{PANEL, Product, ROWS, multiply};
use treex_kernels::output::Output;

/// The inputs of attention.
pub(super) struct Inputs<'a, T: Element> {
    pub(super) sizes: Sizes,
    pub(super) query: View<'a, T>,
    pub(super) key: View<'a, T>,
    pub(super) value: View<'a, T>,
    pub(super) scores: Scores<'a, T>,
}

/// Of each row of scores, `[batch.., heads, query_length]`: the largest, and 1 over the sum of the exponentials of what
/// the others are below it.
pub(super) type Normalizers<R> = Vec<[R; 2]>;

/// What one thread works in.
struct Scratch<R> {
    keys: Vec<R>,
    values: Vec<R>,
    queries: Vec<R>,
    scores: Vec<R>,
    sums: Vec<R>,
    normalizers: [[R; 2]; QUERIES],
}

impl<T: Element> Inputs<'_, T> {
    /// The head that reads queries, keys or values.
    pub(super) fn head<'a>(
        &self,
        view: &'a View<'a, T>,
        item: usize,
        head: usize,
        depth: usize,
    ) -> Head<'a, T> {
        Head { view, item, head, depth }
    }

    /// `[batch.., query_length, heads, value_depth]`.
    pub(super) fn forward(&self) -> Result<(Vec<T>, Normalizers<T::Wide>)> {
        let s = self.sizes;
        let y = Output::new(s.items * s.queries * s.heads * s.value_depth)?;
        let normalizers = Output::new(s.items * s.queries * s.heads)?;
        // Each part of the queries packs the keys anew: no more parts than keep all threads busy.
        let (pairs, tiles) = (s.items * s.kv_heads, s.queries.div_ceil(QUERIES));
        let parts =
            if s.is_large() { (4 * rayon::current_num_threads()).div_ceil(pairs).min(tiles) } else { 1 };
        let length = tiles.div_ceil(parts) * QUERIES;
        let part = |scratch: &mut Scratch<T::Wide>, at: usize| {
            let (pair, first) = (at / parts, at % parts * length);
            self.queries(
                scratch,
                pair,
                (first.min(s.queries), s.queries.min(first + length)),
                &y,
                &normalizers,
            );
        };
        share(pairs * parts, s.is_large(), &|turns| {
            let mut scratch = Scratch::new(s);
            turns.for_each(|at| part(&mut scratch, at));
        });
        // SAFETY: every query of every head of every item has been in one part, which wrote its rows.
        Ok(unsafe { (y.finish(), normalizers.finish()) })
    }

    /// Queries from `first` to `last` of the heads that share one head of keys.
    fn queries(
        &self,
        scratch: &mut Scratch<T::Wide>,
        pair: usize,
        (first, last): (usize, usize),
        y: &Output<T>,
        normalizers: &Output<[T::Wide; 2]>,
    ) {
        let s = self.sizes;
        let (item, kv_head) = (pair / s.kv_heads, pair % s.kv_heads);
        if first == last {
            return;
        }
        self.head(&self.key, item, kv_head, s.depth).panels(s.keys, &mut scratch.keys);
        let values = self.head(&self.value, item, kv_head, s.value_depth);
        values.rows(0, s.keys, T::Wide::of(1.), &mut scratch.values);
        for head in s.group(kv_head) {
            let queries = self.head(&self.query, item, head, s.depth);
            for first in (first..last).step_by(QUERIES) {
                let count = QUERIES.min(last - first);
                queries.rows(first, count, s.scale(), &mut scratch.queries);
                self.tile(scratch, [item, head, first], count);
                // SAFETY: this thread alone has these queries of this head.
                let rows = unsafe { normalizers.row((item * s.heads + head) * s.queries + first, count) };
                for (at, to) in rows.iter_mut().enumerate() {
                    let [most, inverse] = scratch.normalizers[at];
                    to.write([most, inverse]);
                    let row = ((item * s.queries + first + at) * s.heads + head) * s.value_depth;
                    // SAFETY: as above.
                    let row = unsafe { y.row(row, s.value_depth) };
                    narrow(row, &scratch.sums[at * values.width()..], inverse);
                }
            }
        }
    }

    /// A tile of queries over all keys.
    fn tile(&self, scratch: &mut Scratch<T::Wide>, [item, head, first]: [usize; 3], count: usize) {
        let (s, scores) = (self.sizes, &self.scores);
        let (rows, width, value_width) = (count.next_multiple_of(ROWS), s.width(), s.value_width());
        scratch.normalizers.fill([scores.hidden, T::Wide::of(0.)]);
        let mut end = scores.seen(first + count - 1, s.keys).next_multiple_of(PANEL).min(s.keys);
        let mut key = 0;
        while key < end {
            let len = KEYS.min(end - key);
            multiply(Product {
                c: &mut scratch.scores,
                c_row: SCORES_ROW,
                a: &scratch.queries,
                a_strides: [width, 1],
                b: &scratch.keys[key * s.depth..],
                b_strides: [PANEL, s.depth * PANEL],
                sizes: [rows, s.depth, len.next_multiple_of(PANEL)],
                accumulate: false,
            });
            let place = [item, head, first, key];
            dispatch(Softmax { scores, scratch, place, sizes: [count, len, value_width] });
            multiply(Product {
                c: &mut scratch.sums,
                c_row: value_width,
                a: &scratch.scores,
                a_strides: [SCORES_ROW, 1],
                b: &scratch.values[key * value_width..],
                b_strides: [value_width, PANEL],
                sizes: [rows, len, value_width],
                accumulate: key > 0,
            });
            key += len;
            // Who has not seen any key weighs all of them the same, also those that lie ahead.
            if key == end && scratch.normalizers[..count].iter().any(|[most, _]| *most <= scores.hidden) {
                end = s.keys;
            }
        }
        for [_, sum] in &mut scratch.normalizers {
            *sum = T::Wide::of(1.) / *sum;
        }
    }
}

impl<R: Real> Scratch<R> {
    fn new(s: Sizes) -> Self {
        let zeros = |len: usize| vec![R::of(0.); len];
        Self {
            keys: zeros(s.padded_keys() * s.depth),
            values: zeros(s.padded_keys() * s.value_width()),
            queries: zeros(QUERIES * s.width()),
            scores: zeros(QUERIES * SCORES_ROW),
            sums: zeros(QUERIES * s.value_width()),
            normalizers: [[R::of(0.); 2]; QUERIES],
        }
    }
}

/// Scores of a tile become exponentials, and the sums so far shrink to the new maxima.
struct Softmax<'a, 'b, T: Element> {
    scores: &'a Scores<'b, T>,
    scratch: &'a mut Scratch<T::Wide>,
    place: Place,
    /// Rows, keys, and elements of a row of sums.
    sizes: [usize; 3],
}

impl<T: Element> Kernel for Softmax<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { scores, scratch, place: [item, head, first, key], sizes: [count, len, width] } = self;
        for at in 0..count {
            let place = [item, head, first + at, key];
            let row = &mut scratch.scores[at * SCORES_ROW..][..len.next_multiple_of(PANEL)];
            scores.adjust(row, len, place);
            let [before, sum] = scratch.normalizers[at];
            let most = largest(row, before);
            let added = exponentials(row, most);
            let shrunk = weight(before - most);
            scratch.normalizers[at] = [most, sum.mul_add(shrunk, added)];
            if key > 0 {
                scratch.sums[at * width..][..width].iter_mut().for_each(|sum| *sum = *sum * shrunk);
            }
            scores.drop(row, len, place);
        }
    }
}

#[inline(always)]
fn largest<R: Real>(row: &[R], least: R) -> R {
    let mut lanes = [least; LANES];
    for x in row.chunks_exact(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = x.max(*lane);
        }
    }
    lanes.into_iter().fold(least, |most, x| x.max(most))
}

/// WorkRange scores into exponentials, and gives their sum.
#[inline(always)]
fn exponentials<R: Real>(row: &mut [R], most: R) -> R {
    let mut lanes = [R::of(0.); LANES];
    for x in row.chunks_exact_mut(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *x = weight(*x - most);
            *lane = *lane + *x;
        }
    }
    lanes.into_iter().fold(R::of(0.), |sum, x| sum + x)
}
