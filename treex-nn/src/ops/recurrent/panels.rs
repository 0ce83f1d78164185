//! The kernels that read the carry, as the product of each step wants them.

use treex_core::Result;
use treex_core::autograd::elements;

use super::{Affine, Element};
use treex_kernels::microkernel::PANEL;

/// `[inner, columns]` in panels of [`PANEL`] columns, the last one filled up with zeros.
pub(super) struct Panels<R> {
    pub(super) elements: Vec<R>,
    pub(super) inner: usize,
    /// With the zeros.
    pub(super) columns: usize,
}

impl<R: Element> Panels<R> {
    fn zeros(inner: usize, columns: usize) -> Self {
        let columns = columns.next_multiple_of(PANEL);
        Self { elements: vec![R::of(0.); inner * columns], inner, columns }
    }

    /// The rows of square kernels side by side.
    pub(super) fn beside(kernels: &[Affine], features: usize) -> Result<Self> {
        let mut panels = Self::zeros(features, kernels.len() * features);
        for (index, affine) in kernels.iter().enumerate() {
            let kernel = elements::<R>(&affine.kernel)?;
            for (row, mut from) in kernel.chunks_exact(features).enumerate() {
                let mut column = index * features;
                while !from.is_empty() {
                    let (len, at) = (from.len().min(PANEL - column % PANEL), panels.place(row, column));
                    panels.elements[at..at + len].copy_from_slice(&from[..len]);
                    (from, column) = (&from[len..], column + len);
                }
            }
        }
        Ok(panels)
    }

    /// The transposes of square kernels above each other.
    pub(super) fn transposed(kernels: &[Affine], features: usize) -> Result<Self> {
        let mut panels = Self::zeros(kernels.len() * features, features);
        for (index, affine) in kernels.iter().enumerate() {
            let kernel = elements::<R>(&affine.kernel)?;
            for (column, from) in kernel.chunks_exact(features).enumerate() {
                let at = panels.place(index * features, column);
                for (to, x) in panels.elements[at..].iter_mut().step_by(PANEL).zip(from) {
                    *to = *x;
                }
            }
        }
        Ok(panels)
    }

    fn place(&self, row: usize, column: usize) -> usize {
        (column / PANEL * self.inner + row) * PANEL + column % PANEL
    }
}
