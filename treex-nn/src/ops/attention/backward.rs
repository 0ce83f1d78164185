//! Attention backward, tile by tile: scores are computed again, and become weights by what forward kept of each row.
//!
//! With weights `p`, their gradients `dp = dy · vᵀ` and `δ = Σ p dp = y · dy` of a row, that of the scores is
//! `p (dp - δ)`.

use treex_core::Result;
use treex_core::autograd::Element;
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::parallel::share;

use super::forward::{Inputs, Normalizers};
use super::memory::{View, narrow};
use super::scores::{Place, Scores, weight};
use super::{KEYS, QUERIES, SCORES_ROW, Sizes};
use treex_kernels::microkernel::{PANEL, Product, ROWS, multiply};
use treex_kernels::output::Output;

/// What backward reads.
pub(super) struct Backward<'a, T: Element> {
    pub(super) inputs: Inputs<'a, T>,
    pub(super) normalizers: &'a Normalizers<T::Wide>,
    pub(super) y: View<'a, T>,
    pub(super) dy: View<'a, T>,
    /// Of query, key and value.
    pub(super) wanted: [bool; 3],
}

/// What one thread works in.
struct Scratch<R> {
    key_panels: Vec<R>,
    value_panels: Vec<R>,
    keys: Vec<R>,
    dkeys: Vec<R>,
    dvalues: Vec<R>,
    queries: Vec<R>,
    dqueries: Vec<R>,
    y: Vec<R>,
    dy: Vec<R>,
    scores: Vec<R>,
    dscores: Vec<R>,
    deltas: [R; QUERIES],
}

impl<T: Element> Backward<'_, T> {
    /// The gradients of query, key and value. What is not wanted is empty.
    pub(super) fn run(&self) -> Result<[Vec<T>; 3]> {
        let s = self.inputs.sizes;
        let lens = [
            s.items * s.queries * s.heads * s.depth,
            s.items * s.keys * s.kv_heads * s.depth,
            s.items * s.keys * s.kv_heads * s.value_depth,
        ];
        let output = |at: usize| Output::new(if self.wanted[at] { lens[at] } else { 0 });
        let outputs = [output(0)?, output(1)?, output(2)?];
        let pair = |scratch: &mut Scratch<T::Wide>, pair: usize| {
            self.pair(scratch, [pair / s.kv_heads, pair % s.kv_heads], &outputs);
        };
        share(s.items * s.kv_heads, s.is_large(), &|turns| {
            let mut scratch = Scratch::new(s);
            turns.for_each(|at| pair(&mut scratch, at));
        });
        // SAFETY: each pair has written the rows of its heads, where they are wanted.
        Ok(outputs.map(|output| unsafe { output.finish() }))
    }

    /// One head of keys and values, and those of the queries that share it.
    fn pair(&self, scratch: &mut Scratch<T::Wide>, [item, kv_head]: [usize; 2], to: &[Output<T>; 3]) {
        let (s, inputs, one) = (self.inputs.sizes, &self.inputs, T::Wide::of(1.));
        let keys = inputs.head(&inputs.key, item, kv_head, s.depth);
        keys.panels(s.keys, &mut scratch.key_panels);
        keys.rows(0, s.keys, one, &mut scratch.keys);
        inputs.head(&inputs.value, item, kv_head, s.value_depth).panels(s.keys, &mut scratch.value_panels);
        scratch.dkeys.fill(T::Wide::of(0.));
        scratch.dvalues.fill(T::Wide::of(0.));
        for head in s.group(kv_head) {
            for first in (0..s.queries).step_by(QUERIES) {
                let count = QUERIES.min(s.queries - first);
                let tile = |view, depth, scale, to: &mut _| {
                    inputs.head(view, item, head, depth).rows(first, count, scale, to);
                };
                tile(&inputs.query, s.depth, s.scale(), &mut scratch.queries);
                tile(&self.y, s.value_depth, one, &mut scratch.y);
                tile(&self.dy, s.value_depth, one, &mut scratch.dy);
                self.tile(scratch, [item, head, first], count);
                if self.wanted[0] {
                    for at in 0..count {
                        let row = ((item * s.queries + first + at) * s.heads + head) * s.depth;
                        // SAFETY: this thread alone has the heads that share this one of keys.
                        let row = unsafe { to[0].row(row, s.depth) };
                        narrow(row, &scratch.dqueries[at * s.width()..], s.scale());
                    }
                }
            }
        }
        let sums =
            [(1, &scratch.dkeys, s.depth, s.width()), (2, &scratch.dvalues, s.value_depth, s.value_width())];
        for (which, sums, depth, width) in sums.into_iter().filter(|(which, ..)| self.wanted[*which]) {
            for at in 0..s.keys {
                let row = ((item * s.keys + at) * s.kv_heads + kv_head) * depth;
                // SAFETY: this thread alone has this head of keys and values.
                let row = unsafe { to[which].row(row, depth) };
                narrow(row, &sums[at * width..], one);
            }
        }
    }

    /// A tile of queries over all keys.
    fn tile(&self, scratch: &mut Scratch<T::Wide>, [item, head, first]: [usize; 3], count: usize) {
        let (s, scores) = (self.inputs.sizes, &self.inputs.scores);
        let (rows, width, value_width) = (count.next_multiple_of(ROWS), s.width(), s.value_width());
        let normalizers = &self.normalizers[(item * s.heads + head) * s.queries + first..][..count];
        dispatch(Deltas { y: &scratch.y, dy: &scratch.dy, width: value_width, to: &mut scratch.deltas });
        let is_blind = normalizers.iter().any(|[most, _]| *most <= scores.hidden);
        let end = if is_blind { s.keys } else { scores.seen(first + count - 1, s.keys) };
        for key in (0..end).step_by(KEYS) {
            let len = KEYS.min(end - key);
            let columns = len.next_multiple_of(PANEL);
            let by_panels = |a: &[T::Wide], row, panels: &[T::Wide], depth, c: &mut [T::Wide]| {
                let b = &panels[key * depth..];
                let (a_strides, b_strides, sizes) =
                    ([row, 1], [PANEL, depth * PANEL], [rows, depth, columns]);
                let c_row = SCORES_ROW;
                multiply(Product { c, c_row, a, a_strides, b, b_strides, sizes, accumulate: false });
            };
            by_panels(&scratch.queries, width, &scratch.key_panels, s.depth, &mut scratch.scores);
            by_panels(&scratch.dy, value_width, &scratch.value_panels, s.value_depth, &mut scratch.dscores);
            dispatch(Slopes {
                scores,
                scratch,
                normalizers,
                place: [item, head, first, key],
                sizes: [rows, len],
            });
            // What keys and values get from all of these queries.
            let transposed = |a: &[T::Wide], b: &[T::Wide], row: usize, c: &mut [T::Wide]| {
                let (a_strides, b_strides, sizes) = ([1, SCORES_ROW], [row, PANEL], [columns, rows, row]);
                let c = &mut c[key * row..];
                multiply(Product { c, c_row: row, a, a_strides, b, b_strides, sizes, accumulate: true });
            };
            if self.wanted[2] {
                transposed(&scratch.scores, &scratch.dy, value_width, &mut scratch.dvalues);
            }
            if self.wanted[1] {
                transposed(&scratch.dscores, &scratch.queries, width, &mut scratch.dkeys);
            }
            if self.wanted[0] {
                multiply(Product {
                    c: &mut scratch.dqueries,
                    c_row: width,
                    a: &scratch.dscores,
                    a_strides: [SCORES_ROW, 1],
                    b: &scratch.keys[key * width..],
                    b_strides: [width, PANEL],
                    sizes: [rows, len, width],
                    accumulate: key > 0,
                });
            }
        }
    }
}

impl<R: Real> Scratch<R> {
    fn new(s: Sizes) -> Self {
        let zeros = |len: usize| vec![R::of(0.); len];
        Self {
            key_panels: zeros(s.padded_keys() * s.depth),
            value_panels: zeros(s.padded_keys() * s.value_depth),
            keys: zeros(s.padded_keys() * s.width()),
            dkeys: zeros(s.padded_keys() * s.width()),
            dvalues: zeros(s.padded_keys() * s.value_width()),
            queries: zeros(QUERIES * s.width()),
            dqueries: zeros(QUERIES * s.width()),
            y: zeros(QUERIES * s.value_width()),
            dy: zeros(QUERIES * s.value_width()),
            scores: zeros(QUERIES * SCORES_ROW),
            dscores: zeros(QUERIES * SCORES_ROW),
            deltas: [R::of(0.); QUERIES],
        }
    }
}

/// `δ` of each row, added in the order of the products with values: over a single key, both are the same to the last
/// bit, and the gradient of its score is 0.
struct Deltas<'a, R> {
    y: &'a [R],
    dy: &'a [R],
    width: usize,
    to: &'a mut [R],
}

impl<R: Real> Kernel for Deltas<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let tiles = self.y.chunks_exact(ROWS * self.width).zip(self.dy.chunks_exact(ROWS * self.width));
        for (to, (y, dy)) in self.to.chunks_exact_mut(ROWS).zip(tiles) {
            let mut sums = [R::of(0.); ROWS];
            for at in 0..self.width {
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum = y[row * self.width + at].mul_add(dy[row * self.width + at], *sum);
                }
            }
            to.copy_from_slice(&sums);
        }
    }
}

/// Scores of a tile become weights, and gradients of weights those of scores.
struct Slopes<'a, 'b, T: Element> {
    scores: &'a Scores<'b, T>,
    scratch: &'a mut Scratch<T::Wide>,
    normalizers: &'a [[T::Wide; 2]],
    place: Place,
    /// Rows and keys.
    sizes: [usize; 2],
}

impl<T: Element> Kernel for Slopes<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { scores, scratch, normalizers, place: [item, head, first, key], sizes: [rows, len] } = self;
        let columns = len.next_multiple_of(PANEL);
        for at in 0..rows {
            let row = &mut scratch.scores[at * SCORES_ROW..][..columns];
            let slopes = &mut scratch.dscores[at * SCORES_ROW..][..columns];
            let Some(&[most, inverse]) = normalizers.get(at) else {
                // No query: nothing comes from it.
                row.fill(T::Wide::of(0.));
                slopes.fill(T::Wide::of(0.));
                continue;
            };
            let place = [item, head, first + at, key];
            scores.adjust(row, len, place);
            scores.drop(slopes, len, place);
            let delta = scratch.deltas[at];
            for (row, slope) in row.iter_mut().zip(slopes.iter_mut()) {
                *row = weight(*row - most) * inverse;
                *slope = (*slope - delta) * *row;
            }
            // A score that is hidden is a constant; elsewhere its weight is 0.
            if most <= scores.hidden {
                slopes.fill(T::Wide::of(0.));
            }
            scores.drop(row, len, place);
        }
    }
}
