//! Strided reads.

use crate::error::{Error, Result};

/// An array `[batch, i, j, k]` inside of a slice: the element at `(b, i, j, k)` is at
/// `offsets[b] + i * strides[0] + j * strides[1] + k * strides[2]`.
#[derive(Clone, Debug)]
pub struct StridedView<'a, T> {
    elements: &'a [T],
    offsets: Vec<usize>,
    strides: [usize; 3],
}

impl<'a, T> StridedView<'a, T> {
    /// Offsets and strides count elements. A kernel that is given a view checks them against its sizes.
    #[must_use]
    pub fn new(elements: &'a [T], offsets: Vec<usize>, strides: [usize; 3]) -> Self {
        Self { elements, offsets, strides }
    }

    /// Whether the view has the shape `[batch, i, j, k]`, with elements of a row side by side; `broadcast` also allows
    /// one element for all of a row.
    pub(super) fn check(&self, batch: usize, sizes: [usize; 3], broadcast: bool) -> Result<()> {
        let (rows, len) = (&self.strides[..2], self.elements.len());
        let stride = self.strides[2];
        if stride != 1 && sizes[2] > 1 && !(broadcast && stride == 0) {
            let expected = if broadcast { "a last stride of 0 or 1" } else { "a last stride of 1" };
            return Err(Error::shape("the elements of a row must be contiguous", expected, stride));
        }
        if self.offsets.len() != batch {
            let found = self.offsets.len();
            return Err(Error::shape("a view needs an offset for each item of the batch", batch, found));
        }
        let last = self.offsets.iter().max().and_then(|&offset| {
            rows.iter().chain([&stride]).zip(sizes).try_fold(offset, |at, (&stride, size)| {
                at.checked_add(stride.checked_mul(size.checked_sub(1)?)?)
            })
        });
        match last {
            Some(last) if last < len => Ok(()),
            _ => {
                let expected = format!("a slice that holds {batch} items of {sizes:?}");
                let found = format!("{len} elements with strides {:?}", self.strides);
                Err(Error::shape("a view reaches beyond its slice", expected, found))
            }
        }
    }

    /// `len` elements along `k`, or one that stands for all.
    #[inline(always)]
    pub(super) fn row(&self, item: usize, [i, j, k]: [usize; 3], len: usize) -> &'a [T] {
        let at = self.offsets[item] + i * self.strides[0] + j * self.strides[1] + k * self.strides[2];
        &self.elements[at..][..if self.strides[2] == 0 { 1 } else { len }]
    }
}
