//! Which elements the windows of a pooling cover.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::memory::{collected, product, with_capacity};
use crate::window::{self, Axis};

/// How the elements of a window become one number. Each propagates NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Average {
        /// Whether padding counts as elements, which are 0.
        counts_padding: bool,
    },
    /// The largest one; the gradient goes to the first of equals. In a window with NaN it goes where XLA sends it: an
    /// element is passed over unless it is at least the next, from the first to the last.
    Max,
    /// The smallest one; the gradient as for `Max`.
    Min,
}

impl Reduction {
    /// The identity element: what it reduces no elements to.
    #[must_use]
    pub fn identity(self) -> f64 {
        match self {
            Self::Average { .. } => 0.,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
        }
    }
}

/// How windows move over an item, `[*spatial, channels]`. Products of its sizes do not overflow.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) arguments: Arguments,
    /// Elements of an item.
    pub(super) item: usize,
    /// For each output position along all axes but the last, the rows that its window covers.
    pub(super) rows: Vec<Vec<Row>>,
    /// For each output position along the last axis, the elements that its window covers.
    pub(super) spans: Vec<Span>,
    /// The taps of a window.
    pub(super) taps: usize,
    /// Whether windows do not overlap.
    pub(super) is_disjoint: bool,
}

/// What a plan is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) batch: usize,
    pub(super) spatial: Vec<usize>,
    pub(super) channels: usize,
    pub(super) window: Vec<Axis>,
    pub(super) reduction: Reduction,
}

/// A row that a window covers: the first tap of the window's row, and the first element of the item's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) tap: usize,
    pub(super) start: usize,
}

/// The elements of a row that a window covers, and the first tap that covers one, counted from that of the
/// row.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) elements: Range<usize>,
    pub(super) tap: usize,
}

impl Span {
    fn new(axis: &Axis, n: usize, position: usize) -> Self {
        let elements = axis.elements(n, position);
        Self { tap: (elements.start + axis.padding.0).saturating_sub(position * axis.stride), elements }
    }
}

impl Plan {
    /// For `[batch, *spatial, channels]`, and a window with an axis for each spatial size.
    ///
    /// # Errors
    /// If `window` and `spatial` have different lengths or are empty, an axis is refused by [`Axis::check`], a dilation
    /// is not 1, a product of sizes overflows, the taps of a maximum or minimum cannot be counted in 32 bits, or memory
    /// cannot be allocated.
    pub fn new(
        batch: usize,
        spatial: &[usize],
        channels: usize,
        window: &[Axis],
        reduction: Reduction,
    ) -> Result<Self> {
        window::check(window, spatial)?;
        let is_dense = |axis: &Axis| axis.window_dilation == 1 && axis.input_dilation == 1;
        if !window.iter().all(is_dense) {
            let found = format_args!("{window:?}");
            return Err(Error::shape("a pooling has no dilation", "dilations of 1", found));
        }
        let Some((last, outer)) = window.split_last() else {
            return Err(Error::shape("a pooling has a window", "at least one axis", 0));
        };
        let arguments =
            Arguments { batch, spatial: spatial.to_vec(), channels, window: window.to_vec(), reduction };
        let positions = window.iter().zip(spatial).map(|(axis, &n)| axis.positions(n));
        let x = product([batch, channels].into_iter().chain(spatial.iter().copied()));
        let y = product([batch, channels].into_iter().chain(positions));
        let Some(taps) = product(window.iter().map(|axis| axis.size)).filter(|_| x.and(y).is_some()) else {
            let found = format_args!("{arguments:?}");
            return Err(Error::shape("a pooling is too large", "at most `usize::MAX` elements", found));
        };
        let is_average = matches!(reduction, Reduction::Average { .. });
        if !is_average && u32::try_from(taps - 1).is_err() {
            return Err(Error::shape("a window has too many taps", "at most 2^32", taps));
        }

        let item: Vec<usize> = spatial.iter().copied().chain([channels]).collect();
        let spans = |axis: &Axis, n: usize| {
            let positions = axis.positions(n);
            collected(positions, (0..positions).map(|position| Span::new(axis, n, position)))
        };
        let mut rows = vec![vec![Row { tap: 0, start: 0 }]];
        for (d, axis) in outer.iter().enumerate() {
            let step: usize = item[d + 1..].iter().product();
            let spans = spans(axis, item[d])?;
            let mut inner = with_capacity(rows.len() * spans.len())?;
            for (outer, span) in rows.iter().flat_map(|outer| spans.iter().map(move |span| (outer, span))) {
                let row = |outer: &Row, (at, element): (usize, usize)| Row {
                    tap: outer.tap * axis.size + span.tap + at,
                    start: outer.start + element * step,
                };
                let elements = || span.elements.clone().enumerate();
                let covered =
                    outer.iter().flat_map(|outer| elements().map(move |element| row(outer, element)));
                inner.push(collected(outer.len() * span.elements.len(), covered)?);
            }
            rows = inner;
        }
        rows.iter_mut().flatten().for_each(|row| row.tap *= last.size);
        Ok(Self {
            arguments,
            item: item.iter().product(),
            rows,
            spans: spans(last, item[outer.len()])?,
            taps,
            is_disjoint: window.iter().all(|axis| axis.stride >= axis.size),
        })
    }

    /// Elements of the output for a row of output positions, and for an item.
    pub(super) fn output_sizes(&self) -> (usize, usize) {
        let row = self.spans.len() * self.arguments.channels;
        (row, row * self.rows.len())
    }

    /// The divisor of an average.
    pub(super) fn count(&self, rows: &[Row], span: &Span) -> f64 {
        match self.arguments.reduction {
            Reduction::Average { counts_padding: false } => (rows.len() * span.elements.len()) as f64,
            _ => self.taps as f64,
        }
    }
}
