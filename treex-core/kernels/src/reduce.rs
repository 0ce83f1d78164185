//! What kernels over rows share: sums and maxima in lanes, and pieces of buffers on all cores.
//!
//! The order of a sum is that of its lanes, the same on every machine and however many threads there are.

use std::array;

use super::math::Real;
use super::parallel::pieces;

/// How many sums are taken side by side.
const LANES: usize = 64;

/// The `N` sums of what `f` makes of each element of `x`.
#[expect(clippy::needless_range_loop, reason = "one form for one slice and for several")]
#[inline(always)]
pub fn sums<A: Copy, W: Real, const N: usize>(x: &[A], f: impl Fn(A) -> [W; N]) -> [W; N] {
    let mut lanes = [[W::of(0.); LANES]; N];
    let mut chunks = x.chunks_exact(LANES);
    for x in &mut chunks {
        for lane in 0..LANES {
            add(&mut lanes, lane, f(x[lane]));
        }
    }
    for (lane, &x) in chunks.remainder().iter().enumerate() {
        add(&mut lanes, lane, f(x));
    }
    lanes.map(|lanes| across(lanes, |a, b| a + b))
}

/// As [`sums`], of pairs.
#[inline(always)]
pub fn sums2<A: Copy, B: Copy, W: Real, const N: usize>(
    x: &[A],
    y: &[B],
    f: impl Fn(A, B) -> [W; N],
) -> [W; N] {
    let mut lanes = [[W::of(0.); LANES]; N];
    let (mut x, mut y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (x, y) in (&mut x).zip(&mut y) {
        for lane in 0..LANES {
            add(&mut lanes, lane, f(x[lane], y[lane]));
        }
    }
    for (lane, (&x, &y)) in x.remainder().iter().zip(y.remainder()).enumerate() {
        add(&mut lanes, lane, f(x, y));
    }
    lanes.map(|lanes| across(lanes, |a, b| a + b))
}

/// As [`sums`], of triples.
#[inline(always)]
pub fn sums3<A: Copy, B: Copy, C: Copy, W: Real, const N: usize>(
    x: &[A],
    y: &[B],
    z: &[C],
    f: impl Fn(A, B, C) -> [W; N],
) -> [W; N] {
    let mut lanes = [[W::of(0.); LANES]; N];
    let (mut x, mut y, mut z) = (x.chunks_exact(LANES), y.chunks_exact(LANES), z.chunks_exact(LANES));
    for ((x, y), z) in (&mut x).zip(&mut y).zip(&mut z) {
        for lane in 0..LANES {
            add(&mut lanes, lane, f(x[lane], y[lane], z[lane]));
        }
    }
    let rest = x.remainder().iter().zip(y.remainder()).zip(z.remainder());
    for (lane, ((&x, &y), &z)) in rest.enumerate() {
        add(&mut lanes, lane, f(x, y, z));
    }
    lanes.map(|lanes| across(lanes, |a, b| a + b))
}

/// The largest of what `f` makes of each element of `x`; negative infinity of none. What is not a number is
/// passed over.
#[inline(always)]
pub fn largest<A: Copy, W: Real>(x: &[A], f: impl Fn(A) -> W) -> W {
    let mut lanes = [W::of(f64::NEG_INFINITY); LANES];
    let mut chunks = x.chunks_exact(LANES);
    for x in &mut chunks {
        // As a new array: lanes that may keep what they hold would become masked stores.
        lanes = array::from_fn(|lane| f(x[lane]).max(lanes[lane]));
    }
    for (largest, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *largest = f(x).max(*largest);
    }
    across(lanes, Real::max)
}

#[inline(always)]
fn add<W: Real, const N: usize>(lanes: &mut [[W; LANES]; N], lane: usize, terms: [W; N]) {
    for (lanes, term) in lanes.iter_mut().zip(terms) {
        lanes[lane] = lanes[lane] + term;
    }
}

/// The halves joined, their halves, and so on.
#[inline(always)]
fn across<W: Copy>(mut lanes: [W; LANES], join: impl Fn(W, W) -> W) -> W {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Elements that are summed in their own type before the sums are added in `f64`, in order.
const SUMMED: usize = 1 << 13;

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// The sum of what `kernel` makes of the pieces of two slices, as far as both go; on all cores if that is far.
pub fn total2<A: Sync, B: Sync>(x: &[A], y: &[B], kernel: impl Fn(&[A], &[B]) -> f64 + Sync) -> f64 {
    let len = x.len().min(y.len());
    let mut sums = vec![0.; len.div_ceil(SUMMED)];
    pieces(&mut sums, 1, len >= PARALLEL, |index, sum| {
        let of_piece = index * SUMMED..len.min((index + 1) * SUMMED);
        sum.fill(kernel(&x[of_piece.clone()], &y[of_piece]));
    });
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_lengths() {
        for len in [0, 1, 63, 64, 65, 200] {
            let x: Vec<f64> = (0..len).map(|i| f64::from((i * 37 + 11) % 23) - 11.).collect();
            let y: Vec<f64> = x.iter().map(|x| x * 0.5 + 1.).collect();
            let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(&y).map(|(&x, &y)| f(x, y)).sum::<f64>();
            assert_eq!(sums(&x, |x| [x, x * x]), [sum(&|x, _| x), sum(&|x, _| x * x)]);
            assert_eq!(sums2(&x, &y, |x, y| [x * y]), [sum(&|x, y| x * y)]);
            assert_eq!(sums3(&x, &y, &x, |x, y, z| [x * y - z]), [sum(&|x, y| x * y - x)]);
            let expected = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(largest(&x, |x| x), expected);
        }
        assert_eq!(largest(&[1f32, f32::NAN, 0.], |x| x), 1.);
    }

    #[test]
    fn totals_of_few_and_of_many() {
        for len in [0, 1, SUMMED + 1, PARALLEL + 3] {
            let x: Vec<f64> = (0..len).map(|i| (i % 7) as f64).collect();
            let total = total2(&x, &x, |x, y| x.iter().zip(y).map(|(x, y)| x + y).sum());
            assert_eq!(total, 2. * x.iter().sum::<f64>());
            assert_eq!(total2(&x, &[1., 1.], |x, y| (x.len() + y.len()) as f64), 2. * len.min(2) as f64);
        }
    }
}
