//! An item of a batch with padding around it, copied as far as it is needed.

use std::ops::Range;

use super::geometry::{Geometry, Phase};
use crate::error::Result;
use crate::memory::zeros;
use crate::vector::{Vector, VectorKernel, Vectors};

/// The memory of one item, used for one after another. The padding is written only once.
pub(super) struct Padded<'g, T> {
    geometry: &'g Geometry,
    /// `None` where the item can be read where it is.
    memory: Option<Vec<T>>,
    /// The first element: vectors in a cache line each are read faster.
    first: usize,
    /// The item that the memory contains, and which of its rows.
    contents: (usize, Range<usize>),
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl<'g, T: Vectors> Padded<'g, T> {
    /// With readable memory for `beyond` elements after the last.
    pub(super) fn new(geometry: &'g Geometry, beyond: usize) -> Result<Self> {
        let len = geometry.padded_len().saturating_add(beyond + LINE);
        let memory = (geometry.has_padding() || beyond > 0).then(|| zeros::<T>(len)).transpose()?;
        let first = memory.as_ref().map_or(0, |memory| memory.as_ptr().align_offset(LINE)).min(LINE);
        Ok(Self { geometry, memory, first, contents: (0, 0..0) })
    }

    /// The item at `index` of `x`, padded. Only the rows that this range of output positions reads are valid.
    /// It has at least as many elements as a padded item and what was asked for beyond.
    pub(super) fn item<'s>(
        &'s mut self,
        x: &'s [T],
        index: usize,
        phase: &Phase,
        range: Range<usize>,
    ) -> &'s [T] {
        let geometry = self.geometry;
        let x = &x[index * geometry.item_len()..][..geometry.item_len()];
        let Some(memory) = &mut self.memory else { return x };
        let memory = &mut memory[self.first..];
        let starts = &phase.starts[range];
        let (Some(start), Some(end), Some(first), Some(last)) =
            (starts.first(), starts.last(), phase.offsets.first(), phase.offsets.last())
        else {
            return memory;
        };
        let size = geometry.padded[0].1;
        let row = geometry.padded_len() / size;
        let needed = (start + first) / row..((end + last) / row + 1).min(size);
        // Of a range after another one, the common rows have been copied.
        let (item, rows) = &self.contents;
        let continues = *item == index && rows.contains(&needed.start);
        let missing = if continues { rows.end..needed.end.max(rows.end) } else { needed.clone() };
        self.contents = (index, if continues { rows.start } else { needed.start }..missing.end);

        let before = geometry.padded[0].0;
        let n = geometry.spatial[0];
        let x_row = geometry.item_len() / n;
        for at in missing.start.max(before)..missing.end.min(before + n) {
            let (from, to) = (&x[(at - before) * x_row..][..x_row], &mut memory[at * row..][..row]);
            copy(from, to, &geometry.spatial[1..], &geometry.padded[1..], geometry.channels);
        }
        memory
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

/// A copy by vectors: `memcpy` copies byte by byte where the two slices are not aligned alike.
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
        // SAFETY: `at` and the lanes after it are below the lengths of both; the caller promises the
        // instructions of `V`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// With the vectors of every instruction set, from and to any alignment.
    fn check<T: Vectors + std::fmt::Debug>() {
        let from: Vec<T> = (0..200).map(|at| T::of(f64::from(at))).collect();
        for isa in Isa::available() {
            for (offset, len) in [(0, 0), (1, 1), (3, 15), (0, 64), (5, 64), (2, 65), (7, 193)] {
                let mut to = [T::of(-1.); 210];
                T::dispatch_on(isa, Copy { from: &from[offset..][..len], to: &mut to[9..][..len] });
                assert_eq!(to[9..][..len], from[offset..][..len]);
                let untouched = to[..9].iter().chain(&to[9 + len..]);
                assert!(untouched.copied().all(|x| x == T::of(-1.)), "{isa:?} {offset} {len}");
            }
        }
    }

    #[test]
    fn copies_of_all_sizes() {
        check::<f32>();
        check::<f64>();
    }
}
