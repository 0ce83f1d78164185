//! How the kernels of attention read tensors, and write results.

use std::mem::MaybeUninit;

use candle_core::{Layout, Storage, Tensor, WithDType};
use treex_core::autograd::Element;
use treex_core::{Error, Result};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;

use treex_kernels::microkernel::PANEL;

/// A tensor `[batch.., i, j, k]` of any strides, of which that of `k` is 0 or 1.
pub(super) struct View<'a, T> {
    elements: &'a [T],
    /// Where each item of the batch begins.
    items: Vec<usize>,
    strides: [usize; 3],
}

/// `x`, detached, so that [`View`] can read it: a copy if the elements of a row are apart.
pub(super) fn readable(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    Ok(if x.stride().last() == Some(&1) { x } else { x.contiguous()? })
}

impl<'a, T: WithDType> View<'a, T> {
    pub(super) fn new(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        let (Storage::Cpu(storage), [batch @ .., _, _, _], [batch_strides @ .., i, j, k]) =
            (storage, layout.dims(), layout.stride())
        else {
            return Err(Error::argument("a kernel of attention needs a tensor in the host's memory"));
        };
        let mut items = vec![layout.start_offset()];
        for (&size, &stride) in batch.iter().zip(batch_strides) {
            items = items.iter().flat_map(|&item| (0..size).map(move |at| item + at * stride)).collect();
        }
        Ok(Self { elements: storage.as_slice()?, items, strides: [*i, *j, *k] })
    }
}

impl<'a, T> View<'a, T> {
    /// `len` elements along `k`, or one that stands for all.
    #[inline(always)]
    pub(super) fn row(&self, item: usize, [i, j, k]: [usize; 3], len: usize) -> &'a [T] {
        let at = self.items[item] + i * self.strides[0] + j * self.strides[1] + k * self.strides[2];
        &self.elements[at..][..if self.strides[2] == 0 { 1 } else { len }]
    }
}

/// The rows of one head, `[length, depth]`, from a view `[batch.., length, heads, depth]`.
pub(super) struct Head<'a, T> {
    pub(super) view: &'a View<'a, T>,
    pub(super) item: usize,
    pub(super) head: usize,
    pub(super) depth: usize,
}

impl<'a, T> Head<'a, T> {
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [T] {
        self.view.row(self.item, [at, self.head, 0], self.depth)
    }

    /// How many elements [`rows`](Self::rows) makes of a row.
    pub(super) fn width(&self) -> usize {
        self.depth.next_multiple_of(PANEL)
    }
}

impl<T: Element> Head<'_, T> {
    /// `count` rows from the row `first` on, times `scale`, as many as `to` has room for, with zeros behind them and
    /// below.
    pub(super) fn rows(&self, first: usize, count: usize, scale: T::Wide, to: &mut [T::Wide]) {
        dispatch(Rows { head: self, first, count, scale, to });
    }

    /// The transpose of the first `count` rows: panels `[depth, PANEL]`, with zeros behind the last.
    pub(super) fn panels(&self, count: usize, to: &mut [T::Wide]) {
        dispatch(Panels { head: self, count, to });
    }
}

struct Rows<'a, T: Element> {
    head: &'a Head<'a, T>,
    first: usize,
    count: usize,
    scale: T::Wide,
    to: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (at, to) in self.to.chunks_exact_mut(self.head.width()).enumerate() {
            let filled = if at < self.count { self.head.depth } else { 0 };
            let (to, rest) = to.split_at_mut(filled);
            if filled > 0 {
                for (to, x) in to.iter_mut().zip(self.head.row(self.first + at)) {
                    *to = x.widen() * self.scale;
                }
            }
            rest.fill(T::Wide::of(0.));
        }
    }
}

struct Panels<'a, T: Element> {
    head: &'a Head<'a, T>,
    count: usize,
    to: &'a mut [T::Wide],
}

impl<T: Element> Kernel for Panels<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (panel, to) in self.to.chunks_exact_mut(self.head.depth * PANEL).enumerate() {
            let count = self.count.saturating_sub(panel * PANEL).min(PANEL);
            if count < PANEL {
                to.fill(T::Wide::of(0.));
            }
            for column in 0..count {
                for (to, x) in to.chunks_exact_mut(PANEL).zip(self.head.row(panel * PANEL + column)) {
                    to[column] = x.widen();
                }
            }
        }
    }
}

/// Writes `from · scale`.
pub(super) fn narrow<T: Element>(to: &mut [MaybeUninit<T>], from: &[T::Wide], scale: T::Wide) {
    struct Narrow<'a, T: Element>(&'a mut [MaybeUninit<T>], &'a [T::Wide], T::Wide);
    impl<T: Element> Kernel for Narrow<'_, T> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for (to, from) in self.0.iter_mut().zip(self.1) {
                to.write(T::narrow(*from * self.2));
            }
        }
    }
    dispatch(Narrow(to, &from[..to.len()], scale));
}
