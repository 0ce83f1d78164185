//! Which element of the input each tap of a kernel reads at each output position: as sums of two offsets.
//!
//! The input is padded to everything the kernel reads. Without input dilation, tap `t` at output position `p` reads
//! `start(p) + offset(t)`. With input dilation, a tap reads an element only at some positions; the positions at which
//! the same taps do form a phase, and a phase multiplies only those taps.

use crate::error::Result;
use crate::memory::{collected, product, with_capacity};
use crate::window::Axis;

/// How a kernel moves along one axis of its input: an [`Axis`] that passed its check, or its transpose. All indices of
/// both are below `isize::MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Movement {
    /// Elements of the input.
    pub(super) n: usize,
    /// Output positions.
    pub(super) positions: usize,
    /// Taps.
    pub(super) size: usize,
    stride: usize,
    /// The padding before the first element; if negative, the input is cropped.
    padding: isize,
    window_dilation: usize,
    input_dilation: usize,
}

impl Movement {
    pub(super) fn new(axis: &Axis, n: usize) -> Self {
        let &Axis { size, stride, padding, window_dilation, input_dilation } = axis;
        // Larger ones, of a single position or element, lead nowhere either.
        let [stride, input_dilation] = [stride, input_dilation].map(|step| step.min(isize::MAX as usize));
        let positions = axis.positions(n);
        Self { n, positions, size, stride, padding: padding.0 as isize, window_dilation, input_dilation }
    }

    /// From the output positions back to the elements, with the kernel flipped.
    pub(super) fn transposed(&self) -> Self {
        Self {
            n: self.positions,
            positions: self.n,
            stride: self.input_dilation,
            padding: ((self.size - 1) * self.window_dilation) as isize - self.padding,
            input_dilation: self.stride,
            ..*self
        }
    }

    fn phases(&self) -> Result<Vec<AxisPhase>> {
        let divisor = greatest_common_divisor(self.input_dilation, self.stride);
        let period = self.input_dilation / divisor;
        let phase = |first: usize| {
            let source = |tap: usize| {
                let at = (first * self.stride + tap * self.window_dilation) as isize - self.padding;
                let dilation = self.input_dilation as isize;
                (at.rem_euclid(dilation) == 0).then_some((tap, at.div_euclid(dilation)))
            };
            Ok(AxisPhase {
                first,
                period,
                positions: (self.positions - first).div_ceil(period),
                step: self.stride / divisor,
                sources: collected(self.size, (0..self.size).filter_map(source))?,
            })
        };
        let count = period.min(self.positions);
        let mut phases = with_capacity(count)?;
        for first in 0..count {
            phases.push(phase(first)?);
        }
        Ok(phases)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The output positions `first`, `first + period`, ... along one axis.
struct AxisPhase {
    first: usize,
    period: usize,
    positions: usize,
    /// The distance between the elements that a tap reads at successive positions.
    step: usize,
    /// Each tap that reads an element, with the index of that element at the first position.
    sources: Vec<(usize, isize)>,
}

impl AxisPhase {
    /// The first and the last element that is read. Indices in the padding continue beyond both ends.
    fn range(&self) -> Option<(isize, isize)> {
        let ((_, first), (_, last)) = (self.sources.first()?, self.sources.last()?);
        Some((*first, last + ((self.positions - 1) * self.step) as isize))
    }
}

/// Output positions at which the same taps read an element.
#[derive(Debug)]
pub(super) struct Phase {
    /// The index of each output position.
    pub(super) positions: Vec<usize>,
    /// Where each output position begins in the padded item.
    pub(super) starts: Vec<usize>,
    /// The index of each tap that reads an element.
    pub(super) taps: Vec<usize>,
    /// For each of these taps, the offset of its element from where an output position begins.
    pub(super) offsets: Vec<usize>,
}

/// A kernel over an item, `[*spatial, channels]`.
///
/// Each output position is in one phase. For each start and each offset of a phase, the elements from
/// `start + offset` on, one for each channel, are inside of the padded item.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) spatial: Vec<usize>,
    pub(super) channels: usize,
    /// For each axis the padding before, and the size with padding on both sides.
    pub(super) padded: Vec<(usize, usize)>,
    pub(super) phases: Vec<Phase>,
    pub(super) positions: usize,
    pub(super) taps: usize,
}

/// A padded item may be this many times as large as the item and the output positions together.
const GROWTH: usize = 8;

impl Geometry {
    /// `None` if the padding would be most of the memory, or a product of sizes overflows.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub(super) fn new(movements: &[Movement], channels: usize) -> Result<Option<Self>> {
        let axes = movements.iter().map(Movement::phases).collect::<Result<Vec<_>>>()?;
        let padded: Vec<_> =
            movements.iter().zip(&axes).map(|(movement, axis)| padded(movement, axis)).collect();
        let sizes = |of: fn(&Movement) -> usize| movements.iter().map(of);
        let item = product(sizes(|movement| movement.n).chain([channels]));
        let positions = product(sizes(|movement| movement.positions).chain([channels]));
        let most = item.zip(positions).map(|(item, positions)| item.saturating_add(positions));
        let most = most.map_or(0, |most| most.saturating_mul(GROWTH));
        let padded_item = product(padded.iter().map(|(_, size)| *size).chain([channels]));
        let Some(padded_item) = padded_item.filter(|padded_item| *padded_item <= most) else {
            return Ok(None);
        };
        let Some(taps) = product(sizes(|movement| movement.size)) else { return Ok(None) };

        let whole = Phase { positions: vec![0], starts: vec![0], taps: vec![0], offsets: vec![0] };
        let mut phases = vec![whole];
        for (d, (movement, axis)) in movements.iter().zip(&axes).enumerate() {
            let step = padded[d + 1..].iter().map(|(_, size)| size).product::<usize>() * channels;
            let before = padded[d].0 as isize;
            let inner = |outer: &Phase, phase: &AxisPhase| -> Result<Phase> {
                let (positions, taps) =
                    (outer.positions.len() * phase.positions, outer.taps.len() * phase.sources.len());
                let mut joined = Phase {
                    positions: with_capacity(positions)?,
                    starts: with_capacity(positions)?,
                    taps: with_capacity(taps)?,
                    offsets: with_capacity(taps)?,
                };
                for (position, start) in outer.positions.iter().zip(&outer.starts) {
                    for at in 0..phase.positions {
                        let position = position * movement.positions + phase.first + at * phase.period;
                        joined.positions.push(position);
                        // Where no tap reads an element, a start can be anywhere.
                        let distance = at.saturating_mul(phase.step).saturating_mul(step);
                        joined.starts.push(start.saturating_add(distance));
                    }
                }
                for (tap, offset) in outer.taps.iter().zip(&outer.offsets) {
                    for (inner, source) in &phase.sources {
                        joined.taps.push(tap * movement.size + inner);
                        joined.offsets.push(offset + (source + before) as usize * step);
                    }
                }
                Ok(joined)
            };
            let joined = phases.iter().flat_map(|outer| axis.iter().map(move |phase| inner(outer, phase)));
            phases = joined.collect::<Result<_>>()?;
        }
        for phase in &mut phases {
            // Where no tap reads an element, output positions may begin beyond the padded item.
            if phase.offsets.is_empty() {
                phase.starts.fill(0);
            }
            let largest = |of: &[usize]| of.iter().copied().max().unwrap_or(0);
            let last = largest(&phase.starts).saturating_add(largest(&phase.offsets));
            if last.saturating_add(channels) > padded_item {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            spatial: movements.iter().map(|movement| movement.n).collect(),
            channels,
            padded,
            phases,
            positions: movements.iter().map(|movement| movement.positions).product(),
            taps,
        }))
    }

    /// Elements of an item.
    pub(super) fn item_len(&self) -> usize {
        self.spatial.iter().product::<usize>() * self.channels
    }

    /// Elements of an item with its padding.
    pub(super) fn padded_len(&self) -> usize {
        self.padded.iter().map(|(_, size)| size).product::<usize>() * self.channels
    }

    /// Whether there is padding.
    pub(super) fn has_padding(&self) -> bool {
        self.padded.iter().zip(&self.spatial).any(|((_, size), n)| size != n)
    }
}

/// The padding before, and the size with padding on both sides.
fn padded(movement: &Movement, axis: &[AxisPhase]) -> (usize, usize) {
    let whole = (0, movement.n as isize - 1);
    let (first, last) = axis
        .iter()
        .filter_map(AxisPhase::range)
        .fold(whole, |(first, last), range| (first.min(range.0), last.max(range.1)));
    (first.unsigned_abs(), (last - first + 1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::testing::{Draw, sources};

    /// Starts and offsets lead to the elements that the padded input has there, forward and for the
    /// transpose.
    #[test]
    fn starts_and_offsets_are_sources() {
        let mut draw = Draw(6);
        for _ in 0..300 {
            let (window, spatial) = draw.window();
            let expected = sources(&window, &spatial);
            let mut reads = Vec::new();
            for (position, sources) in expected.iter().enumerate() {
                let taps = sources.iter().enumerate();
                reads.extend(taps.filter_map(|(tap, source)| Some((position, tap, (*source)?))));
            }
            let movements: Vec<_> =
                window.iter().zip(&spatial).map(|(axis, &n)| Movement::new(axis, n)).collect();
            if let Some(geometry) = Geometry::new(&movements, 1).unwrap() {
                assert_eq!(found(&geometry), reads, "{window:?} {spatial:?}");
            }
            let transposed: Vec<_> = movements.iter().map(Movement::transposed).collect();
            if let Some(geometry) = Geometry::new(&transposed, 1).unwrap() {
                let last = geometry.taps - 1;
                let mut reads: Vec<_> =
                    reads.iter().map(|&(position, tap, source)| (source, last - tap, position)).collect();
                reads.sort_unstable();
                assert_eq!(found(&geometry), reads, "{window:?} {spatial:?}");
            }
        }
    }

    /// Output position, tap and element of each read that is not of padding, sorted.
    fn found(geometry: &Geometry) -> Vec<(usize, usize, usize)> {
        let source = |at: usize| {
            let mut source = Some((0, at));
            let mut step = geometry.padded_len();
            for ((before, size), n) in geometry.padded.iter().zip(&geometry.spatial) {
                step /= size;
                source = source.and_then(|(index, at)| {
                    let element = (at / step).checked_sub(*before).filter(|element| element < n)?;
                    Some((index * n + element, at % step))
                });
            }
            source.map(|(index, _)| index)
        };
        let mut reads = Vec::new();
        let mut positions: Vec<usize> = Vec::new();
        for phase in &geometry.phases {
            positions.extend(&phase.positions);
            for (position, start) in phase.positions.iter().zip(&phase.starts) {
                let taps = phase.taps.iter().zip(&phase.offsets);
                reads.extend(
                    taps.filter_map(|(tap, offset)| Some((*position, *tap, source(start + offset)?))),
                );
            }
        }
        positions.sort_unstable();
        assert!(positions.into_iter().eq(0..geometry.positions), "each output position is in one phase");
        reads.sort_unstable();
        reads
    }
}
