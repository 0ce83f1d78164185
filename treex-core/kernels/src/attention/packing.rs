//! Copies of rows in the layouts that the microkernel reads, and rounded results.

use std::mem::MaybeUninit;

use super::view::StridedView;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::microkernel::PANEL;

/// The rows of one head, `[length, depth]`, of a view `[batch, length, heads, depth]`.
pub(super) struct Head<'a, T> {
    pub(super) view: &'a StridedView<'a, T>,
    pub(super) item: usize,
    pub(super) head: usize,
    pub(super) depth: usize,
}

impl<'a, T> Head<'a, T> {
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [T] {
        self.view.row(self.item, [at, self.head, 0], self.depth)
    }

    fn padded_depth(&self) -> usize {
        self.depth.next_multiple_of(PANEL)
    }
}

impl<T: Float> Head<'_, T> {
    /// Fills `to` with rows of the padded depth: `count` rows from row `first` on, times `scale`; the rest is zeros.
    pub(super) fn pack_rows(&self, first: usize, count: usize, scale: T::Wide, to: &mut [T::Wide]) {
        dispatch(PackRows { head: self, first, count, scale, to });
    }

    /// Fills `to` with the transpose of the first `count` rows, in panels `[depth, PANEL]`; the last one is padded with
    /// zeros.
    pub(super) fn pack_panels(&self, count: usize, to: &mut [T::Wide]) {
        dispatch(PackPanels { head: self, count, to });
    }
}

struct PackRows<'a, T: Float> {
    head: &'a Head<'a, T>,
    first: usize,
    count: usize,
    scale: T::Wide,
    to: &'a mut [T::Wide],
}

impl<T: Float> Kernel for PackRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (at, to) in self.to.chunks_exact_mut(self.head.padded_depth()).enumerate() {
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

struct PackPanels<'a, T: Float> {
    head: &'a Head<'a, T>,
    count: usize,
    to: &'a mut [T::Wide],
}

impl<T: Float> Kernel for PackPanels<'_, T> {
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

/// Writes all of `to`: `from · scale`, rounded.
pub(super) fn narrow<T: Float>(to: &mut [MaybeUninit<T>], from: &[T::Wide], scale: T::Wide) {
    struct Narrow<'a, T: Float>(&'a mut [MaybeUninit<T>], &'a [T::Wide], T::Wide);
    impl<T: Float> Kernel for Narrow<'_, T> {
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
