//! Correlations of a batch with a kernel, and their gradients to the kernel: products
//! `[positions, taps · cin]` by `[taps · cin, cout]`, whose left matrix is gathered from the input and never copied ([`Product`]).
//!
//! A task is a range of output positions of one item.

use std::ops::Range;

use super::channels::Channels;
use super::geometry::{Geometry, Phase};
use super::padding::Padded;
use crate::error::Result;
use crate::gather_gemm::{Product, max_width};
use crate::memory::{collected, zeros};
use crate::parallel::{Shared, map, pieces, try_share};
use crate::vector::Vectors;

/// The output positions of a task: what they read of the input and of the gradient stays in the first-level
/// cache.
const POSITIONS: usize = 96;

/// Bytes of a block of the kernel, which stays in the first-level cache for all output positions of a task.
const BLOCK: usize = 1 << 15;

/// Fewer multiplications than this run on the calling thread.
const PARALLEL: usize = 1 << 18;

/// The partial sums of a kernel's gradient. A fixed number, so results do not depend on the number of threads.
const PARTS: usize = 16;

/// Elements of all partial sums of a kernel's gradient together.
const PARTIAL_SUMS: usize = 1 << 22;

impl Channels {
    /// The output channels, in chunks that fit into registers.
    fn chunks<T: Vectors>(&self) -> Vec<Chunk> {
        let is_depthwise = self.is_depthwise();
        let max_width = max_width::<T>(is_depthwise);
        let groups = if is_depthwise { 1 } else { self.groups };
        let size = self.cout / groups;
        let chunk = |group: usize, at: usize| {
            let width = max_width.min(size - at);
            let input = if is_depthwise { at } else { group * self.per_group() };
            Chunk { input, output: group * size + at, width, row: width.next_multiple_of(T::registers().0) }
        };
        (0..groups).flat_map(|group| (0..size).step_by(max_width).map(move |at| chunk(group, at))).collect()
    }
}

/// Neighbouring output channels of a group, whose input channels begin at `input`.
struct Chunk {
    input: usize,
    output: usize,
    width: usize,
    /// The width in whole vectors.
    row: usize,
}

/// A range of output positions of a phase of an item.
struct Task {
    item: usize,
    phase: usize,
    range: Range<usize>,
}

/// A kernel over a batch. None of its sizes is 0, and the products of its sizes do not overflow.
#[derive(Clone, Copy)]
pub(super) struct Correlation<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) channels: Channels,
    pub(super) batch: usize,
}

impl Correlation<'_> {
    fn tasks(&self) -> Vec<Task> {
        let ranges = |phase: &Phase| {
            let len = phase.starts.len();
            (0..len).step_by(POSITIONS).map(move |at| at..(at + POSITIONS).min(len))
        };
        let phases = self.geometry.phases.iter().enumerate();
        let of_item = phases.flat_map(|(phase, of)| ranges(of).map(move |range| (phase, range)));
        let of_item: Vec<_> = of_item.collect();
        let task =
            |item, (phase, range): &(usize, Range<usize>)| Task { item, phase: *phase, range: range.clone() };
        (0..self.batch).flat_map(|item| of_item.iter().map(move |of| task(item, of))).collect()
    }

    /// The number of pieces into which tasks are divided, small enough that threads end at about the same
    /// time.
    fn pieces(&self) -> usize {
        if self.is_large() { rayon::current_num_threads() * 4 } else { 1 }
    }

    /// Whether the work is worth more than one thread.
    fn is_large(&self) -> bool {
        let kernel = self.geometry.taps * self.channels.per_group() * self.channels.cout;
        self.batch.saturating_mul(self.geometry.positions).saturating_mul(kernel) >= PARALLEL
    }

    fn padded<T: Vectors>(&self) -> Result<Padded<'_, T>> {
        // A depthwise product reads whole vectors, of the last channels too.
        let is_whole = self.geometry.channels.is_multiple_of(T::registers().0);
        let beyond = if self.channels.is_depthwise() && !is_whole { max_width::<T>(true) } else { 0 };
        Padded::new(self.geometry, beyond)
    }

    /// For each phase, the offsets of the elements that are multiplied with a row of the kernel.
    fn offsets(&self) -> Result<Vec<Vec<usize>>> {
        let per_group = self.channels.per_group();
        let of = |phase: &Phase| {
            let offsets = phase.offsets.iter().flat_map(|at| (0..per_group).map(move |i| at + i));
            collected(phase.offsets.len() * per_group, offsets)
        };
        self.geometry.phases.iter().map(of).collect()
    }

    /// `y = x * kernel + bias`; the kernel is `[taps, cin / groups, cout]`, or if it is `transposed`, flipped
    /// and `[taps, cout / groups, cin]`.
    ///
    /// # Safety
    /// `y` points to memory for `[batch, positions, cout]`, which is all written and not read before, and
    /// which nothing else uses meanwhile. With an error, not all is written.
    pub(super) unsafe fn write<T: Vectors>(
        &self,
        y: *mut T,
        x: &[T],
        kernel: &[T],
        transposed: bool,
        bias: Option<&[T]>,
    ) -> Result<()> {
        let Self { geometry, channels, .. } = self;
        let chunks = channels.chunks::<T>();
        let offsets = self.offsets()?;
        let packed = self.packed(&chunks, kernel, transposed)?;
        let rows_of_y = |phase: &Phase| phase.positions.iter().map(|at| at * channels.cout).collect();
        let targets: Vec<Vec<usize>> = geometry.phases.iter().map(rows_of_y).collect();
        let zeros = vec![T::of(0.); channels.cout];
        let bias = bias.unwrap_or(&zeros);
        let y = Shared::new(y);
        let run = |tasks: &[Task]| -> Result<()> {
            let mut padded = self.padded()?;
            for Task { item, phase: index, range } in tasks {
                let phase = &geometry.phases[*index];
                let x = padded.item(x, *item, phase, range.clone());
                for (chunk, packed) in chunks.iter().zip(&packed[*index]) {
                    let block = (BLOCK / size_of::<T>() / chunk.row).max(1);
                    let blocks = offsets[*index].chunks(block).zip(packed.chunks(block * chunk.row));
                    // Where no tap reads an element, the output is the bias.
                    let nothing: (&[usize], &[T]) = (&[], &[]);
                    let blocks = blocks.chain(offsets[*index].is_empty().then_some(nothing));
                    for (at, (columns, b)) in blocks.enumerate() {
                        let product = Product {
                            x: &x[chunk.input..],
                            rows: &phase.starts[range.clone()],
                            columns,
                            b,
                            b_row: chunk.row,
                            targets: &targets[*index][range.clone()],
                            width: chunk.width,
                            start: (at == 0).then_some(&bias[chunk.output..]),
                            depthwise: channels.is_depthwise(),
                        };
                        let row = item * geometry.positions * channels.cout + chunk.output;
                        // SAFETY: starts and offsets lead to whole rows of channels inside of the padded item
                        // (`Geometry`), which has memory beyond for whole vectors (`padded`). A row of `b`
                        // has `chunk.row` elements (`packed`), and `bias` has one for each channel of the
                        // chunk. Each output position is in one task and each channel in one chunk: the rows
                        // of `y` are disjoint.
                        unsafe { product.write(y.at(row)) };
                    }
                }
            }
            Ok(())
        };
        let tasks = self.tasks();
        let size = tasks.len().div_ceil(self.pieces()).max(1);
        let parts: Vec<_> = tasks.chunks(size).collect();
        try_share(parts.len(), true, &|mut range| range.try_for_each(|part| run(parts[part])))
    }

    /// For each phase and each chunk, the rows of the kernel in the order of the offsets, in whole vectors.
    fn packed<T: Vectors>(
        &self,
        chunks: &[Chunk],
        kernel: &[T],
        transposed: bool,
    ) -> Result<Vec<Vec<Vec<T>>>> {
        let Channels { cin, cout, groups } = self.channels;
        let (is_depthwise, taps) = (self.channels.is_depthwise(), self.geometry.taps);
        let per_group = self.channels.per_group();
        let pack = |phase: &Phase, chunk: &Chunk| {
            let rows = phase.taps.iter().flat_map(|&tap| (0..per_group).map(move |i| (tap, i)));
            let mut packed = vec![T::of(0.); phase.taps.len() * per_group * chunk.row];
            for ((tap, i), row) in rows.zip(packed.chunks_exact_mut(chunk.row)) {
                let row = &mut row[..chunk.width];
                let tap = if transposed { taps - 1 - tap } else { tap };
                if transposed && !is_depthwise {
                    let outputs = cout / groups;
                    let from = (tap * outputs + chunk.output % outputs) * cin + chunk.input + i;
                    row.iter_mut().zip(kernel[from..].iter().step_by(cin)).for_each(|(to, from)| *to = *from);
                } else {
                    row.copy_from_slice(
                        &kernel[(tap * per_group + i) * cout + chunk.output..][..chunk.width],
                    );
                }
            }
            packed
        };
        let is_large = kernel.len() >= PARALLEL;
        let all = |phase: &Phase| map(chunks.len(), is_large, |chunk| pack(phase, &chunks[chunk]));
        self.geometry.phases.iter().map(all).collect()
    }

    /// The gradients of kernel and bias from that of `y`. The order of the sums does not depend on the
    /// schedule.
    pub(super) fn kernel_gradient<T: Vectors>(&self, x: &[T], dy: &[T]) -> Result<(Vec<T>, Vec<T>)> {
        let Self { geometry, channels, .. } = self;
        let (cout, is_depthwise) = (channels.cout, channels.is_depthwise());
        let chunks = channels.chunks::<T>();
        let offsets = self.offsets()?;
        // The row after those of the kernel is the bias', whose input is 1 everywhere.
        let per_group = channels.per_group();
        let rows = geometry.taps * per_group;
        let firsts: Vec<usize> = sums_before(chunks.iter().map(|chunk| (rows + 1) * chunk.row));
        let total: usize = chunks.iter().map(|chunk| (rows + 1) * chunk.row).sum();
        let targets_of = |chunk: &Chunk, phase: &Phase| {
            let rows = phase.taps.iter().flat_map(|tap| (0..per_group).map(move |i| tap * per_group + i));
            collected(phase.taps.len() * per_group, rows.map(|row| row * chunk.row))
        };
        let targets = chunks
            .iter()
            .map(|chunk| geometry.phases.iter().map(|phase| targets_of(chunk, phase)).collect())
            .collect::<Result<Vec<Vec<_>>>>()?;
        // Whether rows of `dy` are whole vectors, and can be read where they are.
        let is_whole = |chunk: &Chunk| chunk.width == cout && chunk.row == cout;
        let in_place = geometry.phases.len() == 1 && chunks.iter().all(is_whole);
        let (one, no_offsets) = ([T::of(1.)], [0; POSITIONS]);
        let run = |tasks: &[Task]| -> Result<Vec<T>> {
            let mut padded = self.padded()?;
            let mut sums = zeros(total)?;
            let mut copies = vec![T::of(0.); if in_place { 0 } else { POSITIONS * max_width::<T>(false) }];
            for Task { item, phase: index, range } in tasks {
                let phase = &geometry.phases[*index];
                let x = padded.item(x, *item, phase, range.clone());
                let dy = &dy[item * geometry.positions * cout..][..geometry.positions * cout];
                for (at, chunk) in chunks.iter().enumerate() {
                    let b = if in_place {
                        &dy[range.start * cout..]
                    } else {
                        for (row, position) in
                            copies.chunks_exact_mut(chunk.row).zip(&phase.positions[range.clone()])
                        {
                            let from = &dy[position * cout + chunk.output..][..chunk.width];
                            row[..chunk.width].copy_from_slice(from);
                        }
                        &copies
                    };
                    let sums = &mut sums[firsts[at]..][..(rows + 1) * chunk.row];
                    let kernel = Product {
                        x: &x[chunk.input..],
                        rows: offsets[*index].as_slice(),
                        columns: &phase.starts[range.clone()],
                        b,
                        b_row: chunk.row,
                        targets: targets[at][*index].as_slice(),
                        width: chunk.row,
                        start: None,
                        depthwise: is_depthwise,
                    };
                    let (columns, targets) = (&no_offsets[..range.len()], &[rows * chunk.row][..]);
                    let bias =
                        Product { x: &one, rows: &[0][..], columns, targets, depthwise: false, ..kernel };
                    // SAFETY: what is read is inside of its memory, as in `write`; `b` has a row of
                    // `chunk.row` elements for each output position. `sums` has a row for each tap and
                    // channel, and one for the bias.
                    unsafe {
                        kernel.write(sums.as_mut_ptr());
                        bias.write(sums.as_mut_ptr());
                    }
                }
            }
            Ok(sums)
        };
        let tasks = self.tasks();
        let count = if self.is_large() { (PARTIAL_SUMS / total.max(1)).clamp(2, PARTS) } else { 1 };
        let size = tasks.len().div_ceil(count).max(1);
        let parts: Vec<_> = tasks.chunks(size).collect();
        let parts = map(parts.len(), true, |part| run(parts[part]))?;
        let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;

        let mut gradient = zeros((rows + 1) * cout)?;
        pieces(&mut gradient, cout, total * parts.len() >= PARALLEL, |row, to| {
            for (chunk, first) in chunks.iter().zip(&firsts) {
                for part in &parts {
                    let from = &part[first + row * chunk.row..][..chunk.width];
                    to[chunk.output..].iter_mut().zip(from).for_each(|(to, from)| *to = *to + *from);
                }
            }
        });
        let bias = gradient.split_off(rows * cout);
        Ok((gradient, bias))
    }
}

/// For each size, the sum of those before it.
fn sums_before(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let before = |sum: &mut usize, size: usize| {
        *sum += size;
        Some(*sum - size)
    };
    sizes.scan(0, before).collect()
}
