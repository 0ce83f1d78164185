//! An item of a batch with zeros around it, copied as far as it is needed.

use std::ops::Range;

use treex_kernels::vector::{Vector, VectorKernel, Vectors};

use crate::ops::geometry::{Geometry, Phase};

/// The memory of one item, used for one after another. Nobody writes the zeros after the first time.
pub(crate) struct Padded<'g, T> {
    geometry: &'g Geometry,
    /// Nothing where the item can be read where it is.
    room: Option<Vec<T>>,
    /// The first element: vectors in a line of the cache each are read faster.
    first: usize,
    /// The item that is there, and which of its rows.
    there: (usize, Range<usize>),
}

/// Bytes of a line of the cache.
const LINE: usize = 64;

impl<'g, T: Vectors> Padded<'g, T> {
    /// With readable memory for `beyond` elements after the last.
    pub(crate) fn new(geometry: &'g Geometry, beyond: usize) -> Self {
        let len = geometry.padded_item() + beyond + LINE;
        let room = (geometry.pads() || beyond > 0).then(|| vec![T::of(0.); len]);
        let first = room.as_ref().map_or(0, |room| room.as_ptr().align_offset(LINE)).min(LINE);
        Self { geometry, room, first, there: (0, 0..0) }
    }

    /// The item at `index` of `x`; only what the positions of the range see is sure to be there.
    pub(crate) fn item<'s>(
        &'s mut self,
        x: &'s [T],
        index: usize,
        phase: &Phase,
        range: Range<usize>,
    ) -> &'s [T] {
        let geometry = self.geometry;
        let x = &x[index * geometry.item()..][..geometry.item()];
        let Some(room) = &mut self.room else { return x };
        let room = &mut room[self.first..];
        let starts = &phase.starts[range];
        let (Some(start), Some(end), Some(first), Some(last)) =
            (starts.first(), starts.last(), phase.offsets.first(), phase.offsets.last())
        else {
            return room;
        };
        let size = geometry.padded[0].1;
        let row = geometry.padded_item() / size;
        let seen = (start + first) / row..((end + last) / row + 1).min(size);
        // A range after another one: what they share is there already.
        let (item, rows) = &self.there;
        let goes_on = *item == index && rows.contains(&seen.start);
        let missing = if goes_on { rows.end..seen.end.max(rows.end) } else { seen.clone() };
        self.there = (index, if goes_on { rows.start } else { seen.start }..missing.end);

        let before = geometry.padded[0].0;
        let n = geometry.spatial[0];
        let x_row = geometry.item() / n;
        for at in missing.start.max(before)..missing.end.min(before + n) {
            let (from, to) = (&x[(at - before) * x_row..][..x_row], &mut room[at * row..][..row]);
            copy(from, to, &geometry.spatial[1..], &geometry.padded[1..], geometry.channels);
        }
        room
    }
}

/// `from`, `[*n, channels]`, into the middle of `to`.
fn copy<T: Vectors>(from: &[T], to: &mut [T], n: &[usize], padded: &[(usize, usize)], channels: usize) {
    match (n, padded) {
        ([n, inner_n @ ..], [(before, size), inner @ ..]) if !inner_n.is_empty() => {
            let (row, padded_row) = (from.len() / n, to.len() / size);
            let to = to[before * padded_row..].chunks_exact_mut(padded_row);
            for (from, to) in from.chunks_exact(row).zip(to) {
                copy(from, to, inner_n, inner, channels);
            }
        }
        _ => {
            let before = padded.first().map_or(0, |(before, _)| before * channels);
            T::dispatch(Copy { from, to: &mut to[before..][..from.len()] });
        }
    }
}

/// What the library's function copies byte by byte where the two are not aligned alike.
struct Copy<'a, T> {
    from: &'a [T],
    to: &'a mut [T],
}

impl<T: Vectors> VectorKernel<T> for Copy<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let len = self.from.len().min(self.to.len());
        let (from, to) = (self.from.as_ptr(), self.to.as_mut_ptr());
        let mut at = 0;
        // SAFETY: `at` and what follows it is below the lengths of both.
        unsafe {
            while at + 4 * V::LANES <= len {
                for next in 0..4 {
                    let at = at + next * V::LANES;
                    V::load(from.add(at)).store(to.add(at));
                }
                at += 4 * V::LANES;
            }
            while at < len {
                *to.add(at) = *from.add(at);
                at += 1;
            }
        }
    }
}
