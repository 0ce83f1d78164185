//! Which element of its input a kernel sees, from each position and at each place: as sums of two offsets.
//!
//! Around the input stand zeros, as many as the kernel ever reaches. In that memory what place `k` sees from position
//! `p` is at `start(p) + offset(k)`, if the elements of the input are neighbours. Where there are zeros between them
//! (an input dilation), places see elements by turns: the positions fall into phases, in each of which the
//! same places see an element, and the others are not multiplied at all.

use crate::ops::patches::Axis;

/// How a kernel comes over one dimension of its input: an [`Axis`] or its transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Movement {
    /// The elements.
    n: usize,
    positions: usize,
    size: usize,
    stride: usize,
    /// The zeros before the first element; with fewer than none, the kernel begins further on.
    zeros: isize,
    window_dilation: usize,
    input_dilation: usize,
}

impl Movement {
    pub(crate) fn new(axis: &Axis, n: usize) -> Self {
        let &Axis { size, stride, zeros, window_dilation, input_dilation } = axis;
        let positions = axis.positions(n);
        Self { n, positions, size, stride, zeros: zeros.0 as isize, window_dilation, input_dilation }
    }

    /// From the positions back to the elements, with the kernel flipped.
    pub(crate) fn transposed(&self) -> Self {
        Self {
            n: self.positions,
            positions: self.n,
            stride: self.input_dilation,
            zeros: ((self.size - 1) * self.window_dilation) as isize - self.zeros,
            input_dilation: self.stride,
            ..*self
        }
    }

    fn phases(&self) -> Vec<AxisPhase> {
        let period = self.input_dilation / common_divisor(self.input_dilation, self.stride);
        let phase = |first: usize| {
            let source = |place: usize| {
                let at = (first * self.stride + place * self.window_dilation) as isize - self.zeros;
                let dilation = self.input_dilation as isize;
                (at.rem_euclid(dilation) == 0).then_some((place, at.div_euclid(dilation)))
            };
            AxisPhase {
                first,
                period,
                positions: (self.positions - first).div_ceil(period),
                step: self.stride * period / self.input_dilation,
                sources: (0..self.size).filter_map(source).collect(),
            }
        };
        (0..period.min(self.positions)).map(phase).collect()
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The positions `first`, `first + period`, ... along one dimension.
struct AxisPhase {
    first: usize,
    period: usize,
    positions: usize,
    /// From the element that one of them sees to that which the next one sees.
    step: usize,
    /// The places that see an element, and which one from the first position.
    sources: Vec<(usize, isize)>,
}

impl AxisPhase {
    /// The first and the last element that is seen, zeros around the input counted on.
    fn seen(&self) -> Option<(isize, isize)> {
        let ((_, first), (_, last)) = (self.sources.first()?, self.sources.last()?);
        Some((*first, last + ((self.positions - 1) * self.step) as isize))
    }
}

/// Positions from which the same places see an element.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// The number of each position.
    pub(crate) positions: Vec<usize>,
    /// For each position, where it begins.
    pub(crate) starts: Vec<usize>,
    /// The number of each place that sees an element.
    pub(crate) places: Vec<usize>,
    /// For each of these places, how far it is from where a position begins.
    pub(crate) offsets: Vec<usize>,
}

/// A kernel over an item, `[*spatial, channels]`.
#[derive(Debug)]
pub(crate) struct Geometry {
    pub(crate) spatial: Vec<usize>,
    pub(crate) channels: usize,
    /// For each dimension the zeros before, and the size with zeros on both sides.
    pub(crate) padded: Vec<(usize, usize)>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) positions: usize,
    pub(crate) places: usize,
}

/// An item with its zeros may be this many times as large as the item and the positions together.
const ROOM: usize = 8;

impl Geometry {
    /// `None` if the zeros around the item would be most of the memory.
    pub(crate) fn new(movements: &[Movement], channels: usize) -> Option<Self> {
        let axes: Vec<_> = movements.iter().map(Movement::phases).collect();
        let padded: Vec<_> =
            movements.iter().zip(&axes).map(|(movement, axis)| around(movement, axis)).collect();
        let item = elements(channels, movements.iter().map(|movement| movement.n))?;
        let positions = elements(channels, movements.iter().map(|movement| movement.positions))?;
        let room = ROOM.checked_mul(item.checked_add(positions)?)?;
        if elements(channels, padded.iter().map(|(_, size)| *size))? > room {
            return None;
        }

        let whole = Phase { positions: vec![0], starts: vec![0], places: vec![0], offsets: vec![0] };
        let mut phases = vec![whole];
        for (d, (movement, axis)) in movements.iter().zip(&axes).enumerate() {
            let step = padded[d + 1..].iter().map(|(_, size)| size).product::<usize>() * channels;
            let before = padded[d].0 as isize;
            let inner = |outer: &Phase, phase: &AxisPhase| {
                let mut joined = Phase::default();
                for (position, start) in outer.positions.iter().zip(&outer.starts) {
                    for at in 0..phase.positions {
                        let position = position * movement.positions + phase.first + at * phase.period;
                        joined.positions.push(position);
                        joined.starts.push(start + at * phase.step * step);
                    }
                }
                for (place, offset) in outer.places.iter().zip(&outer.offsets) {
                    for (inner, source) in &phase.sources {
                        joined.places.push(place * movement.size + inner);
                        joined.offsets.push(offset + (source + before) as usize * step);
                    }
                }
                joined
            };
            phases =
                phases.iter().flat_map(|outer| axis.iter().map(move |phase| inner(outer, phase))).collect();
        }
        Some(Self {
            spatial: movements.iter().map(|movement| movement.n).collect(),
            channels,
            padded,
            phases,
            positions: movements.iter().map(|movement| movement.positions).product(),
            places: movements.iter().map(|movement| movement.size).product(),
        })
    }

    /// Elements of an item.
    pub(crate) fn item(&self) -> usize {
        self.spatial.iter().product::<usize>() * self.channels
    }

    /// Elements of an item with its zeros.
    pub(crate) fn padded_item(&self) -> usize {
        self.padded.iter().map(|(_, size)| size).product::<usize>() * self.channels
    }

    /// Whether there are zeros around.
    pub(crate) fn pads(&self) -> bool {
        self.padded.iter().zip(&self.spatial).any(|((_, size), n)| size != n)
    }
}

fn elements(channels: usize, mut sizes: impl Iterator<Item = usize>) -> Option<usize> {
    sizes.try_fold(channels, usize::checked_mul)
}

/// The zeros before, and the size with zeros on both sides.
fn around(movement: &Movement, axis: &[AxisPhase]) -> (usize, usize) {
    let whole = (0, movement.n as isize - 1);
    let (first, last) = axis
        .iter()
        .filter_map(AxisPhase::seen)
        .fold(whole, |(first, last), seen| (first.min(seen.0), last.max(seen.1)));
    (first.unsigned_abs(), (last - first + 1) as usize)
}
