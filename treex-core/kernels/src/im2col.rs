//! `im2col` copies what a window reads at each output position into the rows of a matrix; `col2im`, its
//! transpose, adds these rows back to where they were read.
//!
//! `[batch, *spatial, channels]` becomes `[batch, *positions, taps, channels]`, with the taps in row-major
//! order. What a tap reads is the same for every item and channel, and splits into one question per axis
//! ([`Axis::source`]). Each item is a piece of work.

use crate::error::{Error, Result};
use crate::math::Real;
use crate::memory::{collected, product, with_capacity, zeros};
use crate::parallel::pieces;
use crate::window::{self, Axis};

/// The kernels for devices, of [all elements](crate::dialect::EACH) behind [`DIALECT`](crate::window::DIALECT) of windows.
pub const DIALECT: &str = include_str!("im2col.h");

entry_points! {
    /// Windows of an array as the rows of a matrix.
    pub trait Im2col: Real for [f32, f64] {
        /// From `x`, `[batch, *spatial, channels]`, to `[batch, *positions, taps, channels]`, with zeros for
        /// padding.
        ///
        /// # Errors
        /// If `x` has another number of elements than the plan, or memory cannot be allocated.
        fn im2col(plan: &Plan, x: &[Self]) -> Result<Vec<Self>> = im2col;

        /// From `columns`, `[batch, *positions, taps, channels]`, to sums in `[batch, *spatial, channels]`.
        ///
        /// # Errors
        /// If `columns` has another number of elements than the plan, or memory cannot be allocated.
        fn col2im(plan: &Plan, columns: &[Self]) -> Result<Vec<Self>> = col2im;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 16;

/// Where each element comes from and goes to. Products of its sizes do not overflow. All axes but the last are flattened into tables of rows; along
/// the last axis, taps that read neighbouring elements are joined into runs.
#[derive(Debug)]
pub struct Plan {
    batch: usize,
    /// Elements of an item, and of its columns.
    item: usize,
    item_columns: usize,
    /// For each output position and each tap along all axes but the last: the first element of the input row,
    /// or `None` for a row of zeros.
    rows: Vec<Option<usize>>,
    /// Taps along all axes but the last.
    row_taps: usize,
    /// Elements of all taps along the last axis.
    row: usize,
    /// For each output position along the last axis.
    runs: Vec<Vec<Run>>,
}

/// `len` neighbouring elements: from `source` in the input row to `target` in the row of the window.
#[derive(Debug)]
struct Run {
    source: usize,
    target: usize,
    len: usize,
}

impl Plan {
    /// For `[batch, *spatial, channels]`, and a window with an axis for each spatial size.
    ///
    /// # Errors
    /// If `window` and `spatial` have different lengths, an axis is refused by [`Axis::check`], a product of sizes
    /// overflows, or memory cannot be allocated.
    pub fn new(batch: usize, spatial: &[usize], channels: usize, window: &[Axis]) -> Result<Self> {
        window::check(window, spatial)?;
        let positions: Vec<_> = window.iter().zip(spatial).map(|(axis, &n)| axis.positions(n)).collect();
        let taps = window.iter().map(|axis| axis.size);
        let x = [batch, channels].into_iter().chain(spatial.iter().copied());
        let columns = [batch, channels].into_iter().chain(positions.iter().copied()).chain(taps);
        if product(x).and(product(columns.clone())).is_none() {
            let found = format_args!("[{batch}, *{spatial:?}, {channels}] with {window:?}");
            return Err(Error::shape("im2col is too large", "at most `usize::MAX` elements", found));
        }
        let outer = window.len().saturating_sub(1);
        let (mut rows, mut row_taps) = (vec![Some(0)], 1);
        for d in 0..outer {
            let (axis, n) = (window[d], spatial[d]);
            let step: usize = spatial[d + 1..].iter().product::<usize>() * channels;
            let mut inner = with_capacity(rows.len() * positions[d] * axis.size)?;
            for outer in rows.chunks(row_taps) {
                for position in 0..positions[d] {
                    for start in outer {
                        for tap in 0..axis.size {
                            let source = axis.source(n, position, tap);
                            inner.push(start.zip(source).map(|(start, index)| start + index * step));
                        }
                    }
                }
            }
            (rows, row_taps) = (inner, row_taps * axis.size);
        }
        let runs = match window.last().zip(spatial.last()) {
            Some((axis, &n)) => collected(
                positions[outer],
                (0..positions[outer]).map(|position| runs_at(axis, n, position, channels)),
            )?,
            None => vec![vec![Run { source: 0, target: 0, len: channels }]],
        };
        Ok(Self {
            batch,
            item: spatial.iter().product::<usize>() * channels,
            item_columns: columns.skip(1).product(),
            rows,
            row_taps,
            row: window.last().map_or(1, |axis| axis.size) * channels,
            runs,
        })
    }

    /// Calls `f` for each run of an item: its first element in the input and in the columns, and its length.
    fn for_each_run(&self, mut f: impl FnMut(usize, usize, usize)) {
        let mut target = 0;
        for rows in self.rows.chunks(self.row_taps) {
            for runs in &self.runs {
                for start in rows {
                    if let Some(start) = start {
                        runs.iter().for_each(|run| f(start + run.source, target + run.target, run.len));
                    }
                    target += self.row;
                }
            }
        }
    }

    /// `f` from each item of `size` elements to `new_size` zeros.
    fn map_items<T: Real>(
        &self,
        from: &[T],
        size: usize,
        new_size: usize,
        f: impl Fn(&[T], &mut [T]) + Sync,
    ) -> Result<Vec<T>> {
        if from.len() != self.batch * size {
            let expected = format!("{} elements", self.batch * size);
            return Err(Error::shape("an array does not fit its windows", expected, from.len()));
        }
        let mut to = zeros(self.batch * new_size)?;
        if from.is_empty() || to.is_empty() {
            return Ok(to);
        }
        let parallel = from.len().max(to.len()) >= PARALLEL;
        pieces(&mut to, new_size, parallel, |item, to| f(&from[item * size..][..size], to));
        Ok(to)
    }
}

fn im2col<T: Real>(plan: &Plan, x: &[T]) -> Result<Vec<T>> {
    plan.map_items(x, plan.item, plan.item_columns, |x, columns| {
        plan.for_each_run(|source, target, len| {
            columns[target..target + len].copy_from_slice(&x[source..source + len]);
        });
    })
}

fn col2im<T: Real>(plan: &Plan, columns: &[T]) -> Result<Vec<T>> {
    plan.map_items(columns, plan.item_columns, plan.item, |columns, x| {
        plan.for_each_run(|source, target, len| {
            for (sum, value) in x[source..source + len].iter_mut().zip(&columns[target..target + len]) {
                *sum = *sum + *value;
            }
        });
    })
}

/// What the window reads at an output position along the last axis.
fn runs_at(axis: &Axis, n: usize, position: usize, channels: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for tap in 0..axis.size {
        let Some(index) = axis.source(n, position, tap) else { continue };
        let (source, target) = (index * channels, tap * channels);
        match runs.last_mut() {
            Some(run) if run.source + run.len == source && run.target + run.len == target => {
                run.len += channels;
            }
            _ => runs.push(Run { source, target, len: channels }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::testing::{Draw, sources};

    /// Both directions against a loop over elements, in whole numbers.
    fn check(
        draw: &mut Draw,
        batch: usize,
        spatial: &[usize],
        channels: usize,
        window: &[Axis],
    ) -> Result<()> {
        let plan = Plan::new(batch, spatial, channels, window)?;
        let item = spatial.iter().product::<usize>();
        let x = draw.numbers(batch * item * channels);
        let sources = sources(window, spatial);
        let mut expected = Vec::new();
        for item in x.chunks(item * channels) {
            for source in sources.iter().flatten() {
                expected.extend((0..channels).map(|c| source.map_or(0., |at| item[at * channels + c])));
            }
        }
        assert_eq!(f64::im2col(&plan, &x)?, expected, "{spatial:?} {window:?}");

        let columns = draw.numbers(expected.len());
        let mut sums = vec![0.; x.len()];
        let rows = (0..batch).flat_map(|item| sources.iter().flatten().map(move |source| (item, source)));
        for ((n, source), row) in rows.zip(columns.chunks(channels)) {
            let Some(source) = source else { continue };
            let to = &mut sums[(n * item + source) * channels..][..channels];
            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        assert_eq!(f64::col2im(&plan, &columns)?, sums, "{spatial:?} {window:?}");
        let narrow: Vec<f32> = columns.iter().map(|&x| x as f32).collect();
        assert!(f32::col2im(&plan, &narrow)?.iter().zip(sums).all(|(found, sum)| f64::from(*found) == sum));
        Ok(())
    }

    #[test]
    fn windows_of_every_kind() -> Result<()> {
        let mut draw = Draw(1);
        for _ in 0..200 {
            let (window, spatial) = draw.window();
            let (batch, channels) = (draw.of(&[1, 2, 3]), draw.of(&[1, 2, 5]));
            check(&mut draw, batch, &spatial, channels, &window)?;
        }
        let axis = Axis { size: 3, stride: 1, padding: (1, 1), window_dilation: 1, input_dilation: 1 };
        check(&mut draw, 40, &[16, 16], 8, &[axis, axis])?; // on all cores
        check(&mut draw, 2, &[], 3, &[])
    }

    #[test]
    fn other_sizes_are_refused() -> Result<()> {
        let axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
        let plan = Plan::new(2, &[3], 1, &[axis])?;
        assert!(f32::im2col(&plan, &[0.; 5]).is_err() && f32::im2col(&plan, &[0.; 6]).is_ok());
        assert!(f32::col2im(&plan, &[0.; 6]).is_err() && f32::col2im(&plan, &[0.; 8]).is_ok());
        // A window larger than its input has no output positions.
        let large = Plan::new(2, &[3], 1, &[Axis { size: 4, ..axis }])?;
        assert_eq!(f32::im2col(&large, &[1.; 6]), Ok(vec![]));
        assert_eq!(f32::col2im(&large, &[]), Ok(vec![0.; 6]));
        Ok(())
    }
}
