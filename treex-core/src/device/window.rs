//! Windows in a launch.

use treex_kernels::window::Axis;

use super::kernel::Value;
use super::rows::MOST_COLUMNS;
use crate::error::{Error, Result};

/// The axes that kernels know.
const AXES: usize = 3;

/// A window that moves over `[batch, *spatial, channels]`.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Items whose windows are apart.
    pub(super) batch: usize,
    /// Neighbours in memory, which the window does not move along.
    pub(super) channels: usize,
    /// The sizes of the input, and the window, along three axes.
    axes: [(usize, Axis); AXES],
}

impl Windows {
    /// Over these spatial sizes; `None` if there are more than three, or nothing to read or to write.
    ///
    /// # Errors
    /// If a size does not fit into what kernels count in.
    pub fn new(batch: usize, spatial: &[usize], channels: usize, window: &[Axis]) -> Result<Option<Self>> {
        let one = Axis { size: 1, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
        let mut axes = [(1, one); AXES];
        if spatial.len() != window.len() || window.len() > AXES {
            return Ok(None);
        }
        for (axis, (n, window)) in axes.iter_mut().zip(spatial.iter().zip(window)) {
            window.check(*n)?;
            *axis = (*n, *window);
        }
        let windows = Self { batch, channels, axes };
        let numbers = windows.numbers();
        if numbers.iter().chain([&channels, &windows.taps()]).any(|&number| number > MOST_COLUMNS) {
            return Err(Error::shape("a window is too large for a kernel")
                .expected(format!("sizes, strides, padding and dilations of at most {MOST_COLUMNS}"))
                .found(format!("{window:?} over {spatial:?} and {channels} channels")));
        }
        let is_there = windows.input_len() > 0 && windows.positions() > 0 && windows.taps() > 0;
        Ok((is_there && windows.columns_len().is_some()).then_some(windows))
    }

    /// Over the first `batch` items, or all if there are not more.
    #[must_use]
    pub fn first(&self, batch: usize) -> Self {
        Self { batch: batch.clamp(1, self.batch), ..self.clone() }
    }

    /// The number of items.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    fn numbers(&self) -> [usize; 7 * AXES] {
        let mut numbers = [0; 7 * AXES];
        for ((n, axis), to) in self.axes.iter().zip(numbers.chunks_exact_mut(7)) {
            let Axis { size, stride, padding, window_dilation, input_dilation } = *axis;
            to.copy_from_slice(&[
                *n,
                axis.positions(*n),
                size,
                stride,
                padding.0,
                window_dilation,
                input_dilation,
            ]);
        }
        numbers
    }

    /// The parameters of a kernel.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> {
        self.numbers().into_iter().map(Value::Index)
    }

    /// Elements of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.axes.iter().fold(self.batch.saturating_mul(self.channels), |len, (n, _)| len.saturating_mul(*n))
    }

    /// Output positions of an item.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.axes.iter().fold(1, |positions, (n, axis)| positions.saturating_mul(axis.positions(*n)))
    }

    /// Taps of a window.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.axes.iter().fold(1, |taps, (_, axis)| taps.saturating_mul(axis.size))
    }

    /// Elements of all windows; `None` if they are too many.
    fn columns_len(&self) -> Option<usize> {
        self.batch.checked_mul(self.positions())?.checked_mul(self.taps())?.checked_mul(self.channels)
    }
}
