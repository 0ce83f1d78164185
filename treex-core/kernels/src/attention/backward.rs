//! Attention backward, tile by tile: scores are computed again, and become weights by the statistics of their rows.
//!
//! With the weights `p` of a row, their gradients `dp = dy · vᵀ` and `δ = Σ p dp = y · dy`, the gradient of its scores
//! is `p (dp - δ)`.

use super::forward::{Inputs, RowStatistics};
use super::modifiers::{Modifiers, Position, exp_flushed};
use super::packing::narrow;
use super::sizes::{KEY_TILE, QUERY_TILE, SCORES_STRIDE, Sizes};
use super::view::StridedView;
use crate::error::{Error, Result};
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::memory::zeros;
use crate::microkernel::{PANEL, Product, ROWS, multiply};
use crate::output::Output;
use crate::parallel::try_share;

pub(super) fn backward<T: Float>(
    inputs: &Inputs<'_, T>,
    statistics: &[RowStatistics<T::Wide>],
    y: &StridedView<'_, T>,
    dy: &StridedView<'_, T>,
    wanted: [bool; 3],
) -> Result<[Vec<T>; 3]> {
    inputs.check()?;
    let s = inputs.sizes;
    for view in [y, dy] {
        view.check(s.batch, [s.queries, s.heads, s.value_depth], false)?;
    }
    let rows = s.batch * s.heads * s.queries;
    if statistics.len() != rows {
        return Err(Error::shape("statistics do not belong to the inputs", rows, statistics.len()));
    }
    Backward { inputs, statistics, y, dy, wanted }.run()
}

/// What backward reads; sizes and views have been checked.
struct Backward<'a, T: Float> {
    inputs: &'a Inputs<'a, T>,
    statistics: &'a [RowStatistics<T::Wide>],
    y: &'a StridedView<'a, T>,
    dy: &'a StridedView<'a, T>,
    /// Of query, key and value.
    wanted: [bool; 3],
}

/// The buffers of one thread.
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
    deltas: [R; QUERY_TILE],
}

impl<T: Float> Backward<'_, T> {
    /// The gradients of query, key and value; empty where `wanted` is false.
    fn run(&self) -> Result<[Vec<T>; 3]> {
        let s = self.inputs.sizes;
        let lens = [
            s.batch * s.queries * s.heads * s.depth,
            s.batch * s.keys * s.kv_heads * s.depth,
            s.batch * s.keys * s.kv_heads * s.value_depth,
        ];
        let output = |at: usize| Output::new(if self.wanted[at] { lens[at] } else { 0 });
        let outputs = [output(0)?, output(1)?, output(2)?];
        let pair = |scratch: &mut Scratch<T::Wide>, pair: usize| {
            self.pair(scratch, [pair / s.kv_heads, pair % s.kv_heads], &outputs);
        };
        try_share(s.batch * s.kv_heads, s.is_large(), &|range| {
            let mut scratch = Scratch::new(s)?;
            range.for_each(|at| pair(&mut scratch, at));
            Ok(())
        })?;
        // SAFETY: heads are a multiple of the heads of keys, so that each row of each wanted gradient has been written
        // with its item and head of keys; what is not wanted is empty.
        Ok(outputs.map(|output| unsafe { output.finish() }))
    }

    /// One head of keys and values, and the heads of queries that share it.
    fn pair(&self, scratch: &mut Scratch<T::Wide>, [item, kv_head]: [usize; 2], to: &[Output<T>; 3]) {
        let (s, inputs, one) = (self.inputs.sizes, self.inputs, T::Wide::of(1.));
        let keys = inputs.head(&inputs.key, item, kv_head, s.depth);
        keys.pack_panels(s.keys, &mut scratch.key_panels);
        keys.pack_rows(0, s.keys, one, &mut scratch.keys);
        inputs
            .head(&inputs.value, item, kv_head, s.value_depth)
            .pack_panels(s.keys, &mut scratch.value_panels);
        scratch.dkeys.fill(T::Wide::of(0.));
        scratch.dvalues.fill(T::Wide::of(0.));
        for head in s.group(kv_head) {
            for first in (0..s.queries).step_by(QUERY_TILE) {
                let count = QUERY_TILE.min(s.queries - first);
                let tile = |view, depth, scale, to: &mut _| {
                    inputs.head(view, item, head, depth).pack_rows(first, count, scale, to);
                };
                tile(&inputs.query, s.depth, s.scale(), &mut scratch.queries);
                tile(self.y, s.value_depth, one, &mut scratch.y);
                tile(self.dy, s.value_depth, one, &mut scratch.dy);
                self.differentiate_tile(scratch, [item, head, first], count);
                if self.wanted[0] {
                    for at in 0..count {
                        let row = ((item * s.queries + first + at) * s.heads + head) * s.depth;
                        // SAFETY: this thread alone has the heads that share this one of keys.
                        let row = unsafe { to[0].row(row, s.depth) };
                        narrow(row, &scratch.dqueries[at * s.padded_depth()..], s.scale());
                    }
                }
            }
        }
        let sums = [
            (1, &scratch.dkeys, s.depth, s.padded_depth()),
            (2, &scratch.dvalues, s.value_depth, s.padded_value_depth()),
        ];
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
    fn differentiate_tile(
        &self,
        scratch: &mut Scratch<T::Wide>,
        [item, head, first]: [usize; 3],
        count: usize,
    ) {
        let (s, modifiers) = (self.inputs.sizes, &self.inputs.modifiers);
        let (rows, width, value_width) =
            (count.next_multiple_of(ROWS), s.padded_depth(), s.padded_value_depth());
        let statistics = &self.statistics[(item * s.heads + head) * s.queries + first..][..count];
        dispatch(Deltas { y: &scratch.y, dy: &scratch.dy, width: value_width, to: &mut scratch.deltas });
        let has_masked_row = statistics.iter().any(|[max, _]| *max <= modifiers.masked());
        let end = if has_masked_row { s.keys } else { modifiers.visible_keys(first + count - 1, s.keys) };
        for key in (0..end).step_by(KEY_TILE) {
            let len = KEY_TILE.min(end - key);
            let columns = len.next_multiple_of(PANEL);
            let by_panels = |a: &[T::Wide], row, panels: &[T::Wide], depth, c: &mut [T::Wide]| {
                let b = &panels[key * depth..];
                let (a_strides, b_strides, sizes) =
                    ([row, 1], [PANEL, depth * PANEL], [rows, depth, columns]);
                let c_row = SCORES_STRIDE;
                multiply(Product { c, c_row, a, a_strides, b, b_strides, sizes, accumulate: false });
            };
            by_panels(&scratch.queries, width, &scratch.key_panels, s.depth, &mut scratch.scores);
            by_panels(&scratch.dy, value_width, &scratch.value_panels, s.value_depth, &mut scratch.dscores);
            dispatch(ScoreGradients {
                modifiers,
                scratch,
                statistics,
                position: [item, head, first, key],
                sizes: [rows, len],
            });
            // The gradients of keys and values sum over all queries.
            let transposed = |a: &[T::Wide], b: &[T::Wide], row: usize, c: &mut [T::Wide]| {
                let (a_strides, b_strides, sizes) = ([1, SCORES_STRIDE], [row, PANEL], [columns, rows, row]);
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
                    a_strides: [SCORES_STRIDE, 1],
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
    fn new(s: Sizes) -> Result<Self> {
        Ok(Self {
            key_panels: zeros(s.padded_keys() * s.depth)?,
            value_panels: zeros(s.padded_keys() * s.value_depth)?,
            keys: zeros(s.padded_keys() * s.padded_depth())?,
            dkeys: zeros(s.padded_keys() * s.padded_depth())?,
            dvalues: zeros(s.padded_keys() * s.padded_value_depth())?,
            queries: zeros(QUERY_TILE * s.padded_depth())?,
            dqueries: zeros(QUERY_TILE * s.padded_depth())?,
            y: zeros(QUERY_TILE * s.padded_value_depth())?,
            dy: zeros(QUERY_TILE * s.padded_value_depth())?,
            scores: zeros(QUERY_TILE * SCORES_STRIDE)?,
            dscores: zeros(QUERY_TILE * SCORES_STRIDE)?,
            deltas: [R::of(0.); QUERY_TILE],
        })
    }
}

/// `δ` of each row, added in the order of the products with values: for a single key, `dp` equals `δ`
/// exactly and the gradient of its score is 0.
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

/// Turns the scores of a tile into weights, and the gradients of weights into those of scores.
struct ScoreGradients<'a, 'b, T: Float> {
    modifiers: &'a Modifiers<'b, T>,
    scratch: &'a mut Scratch<T::Wide>,
    statistics: &'a [RowStatistics<T::Wide>],
    position: Position,
    /// Rows and keys.
    sizes: [usize; 2],
}

impl<T: Float> Kernel for ScoreGradients<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { modifiers, scratch, statistics, position: [item, head, first, key], sizes: [rows, len] } =
            self;
        let columns = len.next_multiple_of(PANEL);
        for at in 0..rows {
            let row = &mut scratch.scores[at * SCORES_STRIDE..][..columns];
            let gradients = &mut scratch.dscores[at * SCORES_STRIDE..][..columns];
            let Some(&[max, inverse]) = statistics.get(at) else {
                // A row of padding contributes nothing.
                row.fill(T::Wide::of(0.));
                gradients.fill(T::Wide::of(0.));
                continue;
            };
            let position = [item, head, first + at, key];
            modifiers.adjust_scores(row, len, position);
            modifiers.drop_weights(gradients, len, position);
            let delta = scratch.deltas[at];
            for (row, gradient) in row.iter_mut().zip(gradients.iter_mut()) {
                *row = exp_flushed(*row - max) * inverse;
                *gradient = (*gradient - delta) * *row;
            }
            modifiers.hide_gradients(gradients, len, position);
            modifiers.drop_weights(row, len, position);
        }
    }
}
