//! The kernels of convolutions on the CPU.
//!
//! Forward, and backward to the input, which is a convolution with the flipped kernel, and backward to the kernel are
//! one product of matrices each, `[positions, places · cin]` by `[places · cin, cout]`, whose left
//! side is never written: [`Product`] reads it where it is seen. Tasks are a range of positions of one item.

use std::ops::Range;

use treex_kernels::gather_gemm::{Product, widest};
use treex_kernels::parallel::pieces;
use treex_kernels::parallel::{Shared, for_each, map};
use treex_kernels::vector::Vectors;

use crate::ops::geometry::{Geometry, Phase};
use crate::ops::padded::Padded;

/// The positions of a task: what they read of the input and of the gradient stays in the first cache.
const POSITIONS: usize = 96;

/// Bytes of a kernel's block, which stays in the first cache while all positions of a task pass.
const BLOCK: usize = 1 << 15;

/// Fewer multiplications than this are not worth waking other threads.
const PARALLEL: usize = 1 << 18;

/// Elements of all partial sums of a kernel's gradient together.
const PARTS: usize = 1 << 22;

/// The channels of a convolution's input and output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channels {
    pub(crate) cin: usize,
    pub(crate) cout: usize,
    pub(crate) groups: usize,
}

impl Channels {
    pub(crate) fn transposed(self) -> Self {
        Self { cin: self.cout, cout: self.cin, ..self }
    }

    /// Whether each channel is convolved by itself.
    fn each(&self) -> bool {
        self.groups > 1 && self.cin == self.groups && self.cout == self.groups
    }

    /// Input channels that an output channel sees.
    fn seen(&self) -> usize {
        self.cin / self.groups
    }

    /// The output channels, as many at a time as fit into registers.
    fn chunks<T: Vectors>(&self) -> Vec<Chunk> {
        let each = self.each();
        let widest = widest::<T>(each);
        let groups = if each { 1 } else { self.groups };
        let size = self.cout / groups;
        let chunk = |group: usize, at: usize| {
            let width = widest.min(size - at);
            let input = if each { at } else { group * self.seen() };
            Chunk { input, output: group * size + at, width, row: width.next_multiple_of(T::registers().0) }
        };
        (0..groups).flat_map(|group| (0..size).step_by(widest).map(move |at| chunk(group, at))).collect()
    }
}

/// Neighbouring output channels that see the same input channels, the first of which is `input`.
struct Chunk {
    input: usize,
    output: usize,
    width: usize,
    /// The width in whole vectors.
    row: usize,
}

/// Positions `range` of a phase of an item.
struct Task {
    item: usize,
    phase: usize,
    range: Range<usize>,
}

/// A convolution's forward half for a batch.
#[derive(Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) channels: Channels,
    pub(crate) batch: usize,
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

    /// Into how many pieces tasks should fall, so that the last ones keep nobody waiting for long.
    fn pieces(&self) -> usize {
        let kernel = self.geometry.places * self.channels.seen() * self.channels.cout;
        let products = self.batch.saturating_mul(self.geometry.positions).saturating_mul(kernel);
        if products < PARALLEL { 1 } else { rayon::current_num_threads() * 4 }
    }

    fn padded<T: Vectors>(&self) -> Padded<'_, T> {
        // Whole vectors are read at the last channels too.
        let whole = self.geometry.channels.is_multiple_of(T::registers().0);
        let beyond = if self.channels.each() && !whole { widest::<T>(true) } else { 0 };
        Padded::new(self.geometry, beyond)
    }

    /// For each phase, where the elements that are multiplied with a row of the kernel lie.
    fn offsets(&self) -> Vec<Vec<usize>> {
        let seen = if self.channels.each() { 1 } else { self.channels.seen() };
        let of = |phase: &Phase| phase.offsets.iter().flat_map(|at| (0..seen).map(move |i| at + i)).collect();
        self.geometry.phases.iter().map(of).collect()
    }

    /// `y = x * kernel + bias`; the kernel is `[places, cin / groups, cout]`, or if it is `transposed`, flipped and
    /// `[places, cout / groups, cin]`.
    ///
    /// # Safety
    /// There is memory for `[batch, positions, cout]` at `y`, which is written and not read before, and which
    /// nobody else uses; `x` is `[batch, *spatial, cin]`.
    pub(crate) unsafe fn write<T: Vectors>(
        &self,
        y: *mut T,
        x: &[T],
        kernel: &[T],
        transposed: bool,
        bias: Option<&[T]>,
    ) {
        let Self { geometry, channels, .. } = self;
        let chunks = channels.chunks::<T>();
        let offsets = self.offsets();
        let packed = self.packed(&chunks, kernel, transposed);
        let rows_of_y = |phase: &Phase| phase.positions.iter().map(|at| at * channels.cout).collect();
        let targets: Vec<Vec<usize>> = geometry.phases.iter().map(rows_of_y).collect();
        let zeros = vec![T::of(0.); channels.cout];
        let bias = bias.unwrap_or(&zeros);
        let y = Shared::new(y);
        let run = |tasks: &[Task]| {
            let mut padded = self.padded();
            for Task { item, phase: index, range } in tasks {
                let phase = &geometry.phases[*index];
                let x = padded.item(x, *item, phase, range.clone());
                for (chunk, packed) in chunks.iter().zip(&packed[*index]) {
                    let block = (BLOCK / size_of::<T>() / chunk.row).max(1);
                    let blocks = offsets[*index].chunks(block).zip(packed.chunks(block * chunk.row));
                    // Without a place that sees anything, the bias remains.
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
                            each: channels.each(),
                        };
                        let row = item * geometry.positions * channels.cout + chunk.output;
                        // SAFETY: `Geometry` has starts and offsets inside of the padded item, which has room beyond
                        // for whole vectors; each position is in one task, each channel in one chunk.
                        unsafe { product.write(y.at(row)) };
                    }
                }
            }
        };
        let tasks = self.tasks();
        let size = tasks.len().div_ceil(self.pieces()).max(1);
        let parts: Vec<_> = tasks.chunks(size).collect();
        for_each(parts.len(), true, &|part| run(parts[part]));
    }

    /// For each phase and each chunk, the rows of the kernel in the order of the offsets, in whole vectors.
    fn packed<T: Vectors>(&self, chunks: &[Chunk], kernel: &[T], transposed: bool) -> Vec<Vec<Vec<T>>> {
        let Channels { cin, cout, groups } = self.channels;
        let (each, places) = (self.channels.each(), self.geometry.places);
        let seen = self.channels.seen();
        let pack = |phase: &Phase, chunk: &Chunk| {
            let rows = phase.places.iter().flat_map(|&place| (0..seen).map(move |i| (place, i)));
            let mut packed = vec![T::of(0.); phase.places.len() * seen * chunk.row];
            for ((place, i), row) in rows.zip(packed.chunks_exact_mut(chunk.row)) {
                let row = &mut row[..chunk.width];
                let place = if transposed { places - 1 - place } else { place };
                if transposed && !each {
                    let per_group = cout / groups;
                    let from = (place * per_group + chunk.output % per_group) * cin + chunk.input + i;
                    row.iter_mut().zip(kernel[from..].iter().step_by(cin)).for_each(|(to, from)| *to = *from);
                } else {
                    row.copy_from_slice(&kernel[(place * seen + i) * cout + chunk.output..][..chunk.width]);
                }
            }
            packed
        };
        let is_large = kernel.len() >= PARALLEL;
        let all = |phase: &Phase| map(chunks.len(), is_large, |chunk| pack(phase, &chunks[chunk]));
        self.geometry.phases.iter().map(all).collect()
    }

    /// The gradients of kernel and bias from that of `y`. The sums are the same whichever thread comes first.
    pub(crate) fn kernel_gradient<T: Vectors>(&self, x: &[T], dy: &[T]) -> (Vec<T>, Vec<T>) {
        let Self { geometry, channels, .. } = self;
        let (cout, each) = (channels.cout, channels.each());
        let chunks = channels.chunks::<T>();
        let offsets = self.offsets();
        // The row after those of the kernel is the bias', for which everything seen is 1.
        let seen = channels.seen();
        let rows = geometry.places * seen;
        let firsts: Vec<usize> = sums_before(chunks.iter().map(|chunk| (rows + 1) * chunk.row));
        let total: usize = chunks.iter().map(|chunk| (rows + 1) * chunk.row).sum();
        let targets_of = |chunk: &Chunk, phase: &Phase| -> Vec<usize> {
            let rows = phase.places.iter().flat_map(|place| (0..seen).map(move |i| place * seen + i));
            rows.map(|row| row * chunk.row).collect()
        };
        let targets: Vec<Vec<_>> = chunks
            .iter()
            .map(|chunk| geometry.phases.iter().map(|phase| targets_of(chunk, phase)).collect())
            .collect();
        // Whether rows of `dy` can be read where they are.
        let is_whole = |chunk: &Chunk| chunk.width == cout && chunk.row == cout;
        let in_place = geometry.phases.len() == 1 && chunks.iter().all(is_whole);
        let (one, nowhere) = ([T::of(1.)], [0; POSITIONS]);
        let run = |tasks: &[Task]| {
            let mut padded = self.padded();
            let mut sums = vec![T::of(0.); total];
            let mut room = vec![T::of(0.); if in_place { 0 } else { POSITIONS * widest::<T>(false) }];
            for Task { item, phase: index, range } in tasks {
                let phase = &geometry.phases[*index];
                let x = padded.item(x, *item, phase, range.clone());
                let dy = &dy[item * geometry.positions * cout..][..geometry.positions * cout];
                for (at, chunk) in chunks.iter().enumerate() {
                    let b = if in_place {
                        &dy[range.start * cout..]
                    } else {
                        for (row, position) in
                            room.chunks_exact_mut(chunk.row).zip(&phase.positions[range.clone()])
                        {
                            let from = &dy[position * cout + chunk.output..][..chunk.width];
                            row[..chunk.width].copy_from_slice(from);
                        }
                        &room
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
                        each,
                    };
                    let (columns, targets) = (&nowhere[..range.len()], &[rows * chunk.row][..]);
                    let bias = Product { x: &one, rows: &[0][..], columns, targets, each: false, ..kernel };
                    // SAFETY: what is read is inside, as in `write`; `sums` has a row for each place and channel.
                    unsafe {
                        kernel.write(sums.as_mut_ptr());
                        bias.write(sums.as_mut_ptr());
                    }
                }
            }
            sums
        };
        let tasks = self.tasks();
        let most = (PARTS / total.max(1)).max(rayon::current_num_threads());
        let size = tasks.len().div_ceil(self.pieces().min(most)).max(1);
        let parts: Vec<_> = tasks.chunks(size).collect();
        let parts = map(parts.len(), true, |part| run(parts[part]));

        let mut gradient = vec![T::of(0.); (rows + 1) * cout];
        pieces(&mut gradient, cout, total * parts.len() >= PARALLEL, |row, to| {
            for (chunk, first) in chunks.iter().zip(&firsts) {
                for part in &parts {
                    let from = &part[first + row * chunk.row..][..chunk.width];
                    to[chunk.output..].iter_mut().zip(from).for_each(|(to, from)| *to = *to + *from);
                }
            }
        });
        let bias = gradient.split_off(rows * cout);
        (gradient, bias)
    }
}

/// The sum of those before each one.
fn sums_before(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let before = |sum: &mut usize, size: usize| {
        *sum += size;
        Some(*sum - size)
    };
    sizes.scan(0, before).collect()
}
