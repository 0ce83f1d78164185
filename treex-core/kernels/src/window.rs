//! How the window of a convolution or pooling moves over its input.

use std::ops::Range;

use crate::error::{Error, Result};

/// What device kernels know of a window along three axes.
pub const DIALECT: &str = include_str!("window.h");

/// How a window moves along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The number of taps of the window, at least 1.
    pub size: usize,
    /// The step from one output position to the next, at least 1.
    pub stride: usize,
    /// The padding before and after the input.
    pub padding: (usize, usize),
    /// The step from one tap to the next, at least 1.
    pub window_dilation: usize,
    /// The step from one element of the input to the next, at least 1, with zeros between them.
    pub input_dilation: usize,
}

impl Axis {
    /// Checks that a kernel can move a window along it over an input of size `n`.
    ///
    /// # Errors
    /// If the size, the stride or a dilation is 0, or the padded input and the dilated window together have more than
    /// `isize::MAX` elements.
    pub fn check(&self, n: usize) -> Result<()> {
        if !self.is_window() {
            let message = "a window has sizes, strides and dilations";
            return Err(Error::shape(message, "numbers above 0", format_args!("{self:?}")));
        }
        if self.padded(n).saturating_add(self.extent()) > isize::MAX as u128 {
            let found = format_args!("{self:?} over {n} elements");
            return Err(Error::shape("a window is too large", "at most `isize::MAX` elements", found));
        }
        Ok(())
    }

    /// The number of output positions over an input of size `n`, at most `usize::MAX`: 0 where the window is larger than
    /// the padded input, and for a size, stride or dilation of 0, which [`check`](Self::check) refuses.
    #[must_use]
    pub fn positions(&self, n: usize) -> usize {
        let slack = self.padded(n).checked_sub(self.extent()).filter(|_| self.is_window());
        slack.map_or(0, |slack| usize::try_from(slack / self.stride as u128 + 1).unwrap_or(usize::MAX))
    }

    /// The element that `tap` reads at an output position: an index below `n`, or `None` for a zero, and for an axis that
    /// [`check`](Self::check) refuses where a number overflows.
    #[must_use]
    pub fn source(&self, n: usize, position: usize, tap: usize) -> Option<usize> {
        let at = position.checked_mul(self.stride)?.checked_add(tap.checked_mul(self.window_dilation)?)?;
        let at = at.checked_sub(self.padding.0)?;
        let index = at.checked_div(self.input_dilation)?;
        (at % self.input_dilation == 0 && index < n).then_some(index)
    }

    /// The elements that the window covers at an output position, of an axis without dilation.
    #[must_use]
    pub fn elements(&self, n: usize, position: usize) -> Range<usize> {
        let first = position as u128 * self.stride as u128;
        let index = |at: u128| at.saturating_sub(self.padding.0 as u128).min(n as u128) as usize;
        index(first)..index(first + self.size as u128)
    }

    fn is_window(&self) -> bool {
        ![self.size, self.stride, self.window_dilation, self.input_dilation].contains(&0)
    }

    /// Elements of the input with the zeros between and around them.
    fn padded(&self, n: usize) -> u128 {
        let dilated = n.checked_sub(1).map_or(0, |gaps| gaps as u128 * self.input_dilation as u128 + 1);
        dilated + self.padding.0 as u128 + self.padding.1 as u128
    }

    /// Elements from the first tap to the last.
    fn extent(&self) -> u128 {
        self.size.saturating_sub(1) as u128 * self.window_dilation as u128 + 1
    }
}

/// Checks that a window has an axis for each of the sizes of its input, and each axis for its size.
pub(crate) fn check(window: &[Axis], spatial: &[usize]) -> Result<()> {
    if window.len() != spatial.len() {
        let expected = format_args!("{} axes", spatial.len());
        return Err(Error::shape("a window needs an axis for each spatial size", expected, window.len()));
    }
    window.iter().zip(spatial).try_for_each(|(axis, &n)| axis.check(n))
}

/// Windows for tests, and an oracle that writes the padded input down.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Pseudo-random choices (splitmix64).
    pub(crate) struct Draw(pub(crate) u64);

    impl Draw {
        pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            choices[((mixed ^ mixed >> 31) % choices.len() as u64) as usize]
        }

        /// Windows over one to three axes, and the sizes of their input.
        pub(crate) fn window(&mut self) -> (Vec<Axis>, Vec<usize>) {
            let axis = |draw: &mut Self| Axis {
                size: draw.of(&[1, 2, 3, 4]),
                stride: draw.of(&[1, 1, 2, 3, 5]),
                padding: (draw.of(&[0, 0, 1, 3]), draw.of(&[0, 0, 1, 2])),
                window_dilation: draw.of(&[1, 1, 2, 3]),
                input_dilation: draw.of(&[1, 1, 2, 3]),
            };
            let rank = self.of(&[1, 2, 3]);
            (0..rank).map(|_| (axis(self), self.of(&[1, 2, 3, 5, 6]))).unzip()
        }

        /// Small integers: their sums are exact in any order.
        pub(crate) fn numbers(&mut self, len: usize) -> Vec<f64> {
            (0..len).map(|_| self.of(&[-3., -2., -1., 0., 1., 2., 4.])).collect()
        }
    }

    /// For each output position and each tap the element of the input, or `None` for a zero; all row-major.
    pub(crate) fn sources(window: &[Axis], spatial: &[usize]) -> Vec<Vec<Option<usize>>> {
        let mut sources = vec![vec![Some(0)]];
        for (axis, &n) in window.iter().zip(spatial) {
            let mut padded = vec![None; axis.padding.0];
            for element in 0..n {
                padded.extend(vec![None; if element > 0 { axis.input_dilation - 1 } else { 0 }]);
                padded.push(Some(element));
            }
            padded.extend(vec![None; axis.padding.1]);
            let inner: Vec<Vec<Option<usize>>> = (0..padded.len())
                .step_by(axis.stride)
                .filter(|start| start + (axis.size - 1) * axis.window_dilation < padded.len())
                .map(|start| (0..axis.size).map(|tap| padded[start + tap * axis.window_dilation]).collect())
                .collect();
            let joined = |outer: &[Option<usize>], inner: &[Option<usize>]| -> Vec<Option<usize>> {
                let pairs = outer.iter().flat_map(|outer| inner.iter().map(move |inner| outer.zip(*inner)));
                pairs.map(|pair| pair.map(|(outer, inner)| outer * n + inner)).collect()
            };
            sources = sources
                .iter()
                .flat_map(|outer| inner.iter().map(move |inner| joined(outer, inner)))
                .collect();
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Draw, sources};

    #[test]
    fn positions_and_sources_are_those_of_the_padded_input() {
        let mut draw = Draw(0);
        for _ in 0..300 {
            let (window, spatial) = draw.window();
            for (axis, n) in window.into_iter().zip(spatial) {
                let expected = sources(&[axis], &[n]);
                assert_eq!(axis.positions(n), expected.len(), "{axis:?} {n}");
                for (position, expected) in expected.iter().enumerate() {
                    let found: Vec<_> = (0..axis.size).map(|tap| axis.source(n, position, tap)).collect();
                    assert_eq!(&found, expected, "{axis:?} {n} {position}");
                    if axis.window_dilation == 1 && axis.input_dilation == 1 {
                        assert!(axis.elements(n, position).eq(expected.iter().flatten().copied()));
                    }
                }
            }
        }
    }
}
