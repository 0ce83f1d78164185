//! The recurrent kernels, in the layout of the product of a step.

use super::operands::Affine;
use crate::math::Real;
use crate::microkernel::PANEL;

/// A matrix `[inner, columns]` in panels of [`PANEL`] columns, the last one padded with zeros.
pub(super) struct Packed<R> {
    pub(super) elements: Vec<R>,
    pub(super) inner: usize,
    /// With the padding.
    pub(super) columns: usize,
}

impl<R: Real> Packed<R> {
    fn zeros(inner: usize, columns: usize) -> Self {
        let columns = columns.next_multiple_of(PANEL);
        Self { elements: vec![R::of(0.); inner * columns], inner, columns }
    }

    /// Square kernels side by side.
    pub(super) fn concatenated(layers: &[Affine<&[R]>], features: usize) -> Self {
        let mut packed = Self::zeros(features, layers.len() * features);
        for (index, layer) in layers.iter().enumerate() {
            for (row, mut from) in layer.kernel.chunks_exact(features).enumerate() {
                let mut column = index * features;
                while !from.is_empty() {
                    let (len, at) = (from.len().min(PANEL - column % PANEL), packed.index(row, column));
                    packed.elements[at..at + len].copy_from_slice(&from[..len]);
                    (from, column) = (&from[len..], column + len);
                }
            }
        }
        packed
    }

    /// The transposes of square kernels above each other.
    pub(super) fn transposed(layers: &[Affine<&[R]>], features: usize) -> Self {
        let mut packed = Self::zeros(layers.len() * features, features);
        for (index, layer) in layers.iter().enumerate() {
            for (column, from) in layer.kernel.chunks_exact(features).enumerate() {
                let at = packed.index(index * features, column);
                for (to, x) in packed.elements[at..].iter_mut().step_by(PANEL).zip(from) {
                    *to = *x;
                }
            }
        }
        packed
    }

    fn index(&self, row: usize, column: usize) -> usize {
        (column / PANEL * self.inner + row) * PANEL + column % PANEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that fill no panel, one, and more than one.
    #[test]
    fn kernels_and_their_transposes() {
        for features in [1, 5, 32, 33, 70] {
            let kernels = [0., 0.5]
                .map(|offset| (0..features * features).map(|i| i as f64 + 1. + offset).collect::<Vec<_>>());
            let layers = kernels.each_ref().map(|kernel| Affine { kernel: kernel.as_slice(), bias: None });
            let (beside, above) =
                (Packed::concatenated(&layers, features), Packed::transposed(&layers, features));
            assert_eq!([beside.inner, above.inner], [features, 2 * features]);
            for (index, kernel) in kernels.iter().enumerate() {
                for (at, x) in kernel.iter().enumerate() {
                    let (row, column) = (at / features, at % features);
                    assert_eq!(beside.elements[beside.index(row, index * features + column)], *x);
                    assert_eq!(above.elements[above.index(index * features + column, row)], *x);
                }
            }
            for packed in [beside, above] {
                assert!(packed.columns.is_multiple_of(PANEL));
                assert_eq!(packed.elements.len(), packed.inner * packed.columns);
                let filled = packed.elements.iter().filter(|x| **x != 0.).count();
                assert_eq!(filled, 2 * features * features);
            }
        }
    }
}
