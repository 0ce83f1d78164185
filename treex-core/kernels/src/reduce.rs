//! Reductions: sums and maxima in lanes.
//!
//! The order of summation is that of the lanes, the same on every machine and for any number of threads.

use std::array;

use super::math::Real;
use super::parallel::pieces;

/// The number of partial sums.
const LANES: usize = 64;

/// The `N` sums of `f` over the elements of `x`.
#[inline(always)]
pub fn sums<A: Copy, W: Real, const N: usize>(x: &[A], f: impl Fn(A) -> [W; N]) -> [W; N] {
    partial_sums(x, f).map(|lanes| across(lanes, |a, b| a + b))
}

/// [`sums`] whose partial sums are added in `f64`: exact if none of them has more than two equal terms.
#[inline(always)]
pub(crate) fn sums_f64<A: Copy, W: Real, const N: usize>(x: &[A], f: impl Fn(A) -> [W; N]) -> [f64; N] {
    partial_sums(x, f).map(|lanes| across(lanes.map(Real::to_f64), |a, b| a + b))
}

#[expect(clippy::needless_range_loop, reason = "one form for one slice and for several")]
#[inline(always)]
fn partial_sums<A: Copy, W: Real, const N: usize>(x: &[A], f: impl Fn(A) -> [W; N]) -> [[W; LANES]; N] {
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
    lanes
}

/// [`sums`] over pairs, up to the shorter length.
#[inline(always)]
pub fn sums2<A: Copy, B: Copy, W: Real, const N: usize>(
    x: &[A],
    y: &[B],
    f: impl Fn(A, B) -> [W; N],
) -> [W; N] {
    let mut lanes = [[W::of(0.); LANES]; N];
    let len = x.len().min(y.len());
    let (mut x, mut y) = (x[..len].chunks_exact(LANES), y[..len].chunks_exact(LANES));
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

/// [`sums`] over triples, up to the shortest length.
#[inline(always)]
pub fn sums3<A: Copy, B: Copy, C: Copy, W: Real, const N: usize>(
    x: &[A],
    y: &[B],
    z: &[C],
    f: impl Fn(A, B, C) -> [W; N],
) -> [W; N] {
    let mut lanes = [[W::of(0.); LANES]; N];
    let len = x.len().min(y.len()).min(z.len());
    let (mut x, mut y) = (x[..len].chunks_exact(LANES), y[..len].chunks_exact(LANES));
    let mut z = z[..len].chunks_exact(LANES);
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

/// The maximum of `f` over the elements of `x`; negative infinity if there are none. NaN is ignored.
#[inline(always)]
pub fn largest<A: Copy, W: Real>(x: &[A], f: impl Fn(A) -> W) -> W {
    let mut lanes = [W::of(f64::NEG_INFINITY); LANES];
    let mut chunks = x.chunks_exact(LANES);
    for x in &mut chunks {
        // As a new array: conditional updates of the lanes would compile to masked stores.
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

/// Tree reduction: joins the two halves repeatedly.
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

/// Elements of a block that is summed in the computing type; block sums are added in `f64`, in order.
const SUMMED: usize = 1 << 13;

/// The least number of elements for which several threads are faster.
const PARALLEL: usize = 1 << 16;

/// The sum of `kernel` over the pieces of two slices, up to the shorter length; on all cores if that is large.
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
            assert_eq!(sums_f64(&x, |x| [x as f32]), [sum(&|x, _| x)]);
            assert_eq!(sums2(&x, &y, |x, y| [x * y]), [sum(&|x, y| x * y)]);
            assert_eq!(sums3(&x, &y, &x, |x, y, z| [x * y - z]), [sum(&|x, y| x * y - x)]);
            let expected = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(largest(&x, |x| x), expected);
        }
        assert_eq!(largest(&[1f32, f32::NAN, 0.], |x| x), 1.);
    }

    #[test]
    fn totals_of_short_and_long_slices() {
        for len in [0, 1, SUMMED + 1, PARALLEL + 3] {
            let x: Vec<f64> = (0..len).map(|i| (i % 7) as f64).collect();
            let total = total2(&x, &x, |x, y| x.iter().zip(y).map(|(x, y)| x + y).sum());
            assert_eq!(total, 2. * x.iter().sum::<f64>());
            assert_eq!(total2(&x, &[1., 1.], |x, y| (x.len() + y.len()) as f64), 2. * len.min(2) as f64);
        }
    }
}
