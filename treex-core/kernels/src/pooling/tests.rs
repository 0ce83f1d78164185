use super::*;
use crate::window::Axis;
use crate::window::testing::{Draw, sources};

const REDUCTIONS: [Reduction; 4] = [
    Reduction::Average { counts_padding: true },
    Reduction::Average { counts_padding: false },
    Reduction::Max,
    Reduction::Min,
];

/// The result, and the gradient for `dy`, by a loop over windows.
fn expected(
    [batch, channels]: [usize; 2],
    (window, spatial): (&[Axis], &[usize]),
    reduction: Reduction,
    x: &[f64],
    dy: impl Fn(usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let item = spatial.iter().product::<usize>();
    let (mut y, mut dx) = (Vec::new(), vec![0.; x.len()]);
    for n in 0..batch {
        for sources in sources(window, spatial) {
            for c in 0..channels {
                let index = |source: usize| (n * item + source) * channels + c;
                let covered: Vec<usize> = sources.iter().flatten().map(|&source| index(source)).collect();
                let dy = dy(y.len());
                let best = |is_better: fn(f64, f64) -> bool| {
                    covered.iter().copied().reduce(|a, b| if is_better(x[b], x[a]) { b } else { a })
                };
                let best = match reduction {
                    Reduction::Average { counts_padding } => {
                        let count = if counts_padding { sources.len() } else { covered.len() } as f64;
                        covered.iter().for_each(|&at| dx[at] += dy / count);
                        y.push(covered.iter().map(|&at| x[at]).sum::<f64>() / count);
                        continue;
                    }
                    Reduction::Max => best(|x, best| x > best),
                    Reduction::Min => best(|x, best| x < best),
                };
                y.push(best.map_or(reduction.identity(), |at| x[at]));
                best.into_iter().for_each(|at| dx[at] += dy);
            }
        }
    }
    (y, dx)
}

fn assert_close(found: &[impl Into<f64> + Copy], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().map(|&found| found.into()).zip(expected) {
        let is_same = found == *expected || found.is_nan() && expected.is_nan();
        assert!(is_same || (found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
    }
}

fn check(draw: &mut Draw, sizes: [usize; 2], window: &[Axis], spatial: &[usize]) -> Result<()> {
    let [batch, channels] = sizes;
    let x = draw.numbers(batch * channels * spatial.iter().product::<usize>());
    let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    for reduction in REDUCTIONS {
        let what = format!("{sizes:?} {window:?} {spatial:?} {reduction:?}");
        let plan = Plan::new(batch, spatial, channels, window, reduction)?;
        let dy = |at: usize| (at % 7) as f64 - 2.;
        let (y, dx) = expected(sizes, (window, spatial), reduction, &x, dy);
        let (found, taps) = f64::pool(&plan, &x, true)?;
        assert_close(&found, &y, 1e-13, &what);
        assert_close(&f64::pool(&plan, &x, false)?.0, &y, 1e-13, &what);
        let dy: Vec<f64> = (0..y.len()).map(dy).collect();
        assert_close(&f64::pool_backward(&plan, &dy, &taps)?, &dx, 1e-12, &what);

        let (found, taps) = f32::pool(&plan, &narrow, true)?;
        assert_close(&found, &y, 2e-6, &what);
        let dy: Vec<f32> = dy.iter().map(|&dy| dy as f32).collect();
        assert_close(&f32::pool_backward(&plan, &dy, &taps)?, &dx, 1e-4, &what);
    }
    Ok(())
}

#[test]
fn windows_of_every_kind() -> Result<()> {
    let mut draw = Draw(2);
    for _ in 0..120 {
        let (mut window, spatial) = draw.window();
        window.iter_mut().for_each(|axis| (axis.window_dilation, axis.input_dilation) = (1, 1));
        let sizes = [draw.of(&[1, 3]), draw.of(&[1, 3, 17])];
        check(&mut draw, sizes, &window, &spatial)?;
    }
    Ok(())
}

/// Large enough for all cores, with taps that fit into a byte and taps that do not.
#[test]
fn on_all_cores() -> Result<()> {
    let axis = |size, stride| Axis { size, stride, padding: (1, 2), window_dilation: 1, input_dilation: 1 };
    for window in [[axis(3, 2), axis(3, 2)], [axis(17, 16), axis(16, 16)]] {
        check(&mut Draw(3), [7, 9], &window, &[40, 41])?;
    }
    Ok(())
}

/// By JAX 0.10.2: `jax.vjp` of Flax's `max_pool`, and of the minimum by `flax.linen.pool`, with the cotangents 1, 2, ..
/// Only of the last window in the third row, which is NaN and padding, JAX gives the gradient to the padding.
#[test]
fn nan_and_infinities() -> Result<()> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let pair = Axis { size: 2, stride: 2, padding: (0, 1), window_dilation: 1, input_dilation: 1 };
    let pairs = |reduction, x: &[f32]| {
        let plan = Plan::new(1, &[7], 1, &[pair], reduction)?;
        let (y, taps) = f32::pool(&plan, x, true)?;
        let (untracked, _) = f32::pool(&plan, x, false)?;
        assert!(y.iter().zip(&untracked).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
        Ok::<_, Error>((y, f32::pool_backward(&plan, &[1., 2., 3., 4.], &taps)?))
    };
    for (x, max, of_max, min, of_min) in [
        (
            [nan, 1., 2., nan, -inf, -inf, inf],
            [nan, nan, -inf, inf],
            [0., 1., 0., 2., 3., 0., 4.],
            [nan, nan, -inf, inf],
            [0., 1., 0., 2., 3., 0., 4.],
        ),
        (
            [nan, nan, 1., inf, inf, inf, 3.],
            [nan, inf, inf, 3.],
            [0., 1., 0., 2., 3., 0., 4.],
            [nan, 1., inf, 3.],
            [0., 1., 2., 0., 3., 0., 4.],
        ),
        (
            [nan, inf, inf, nan, -inf, nan, nan],
            [nan; 4],
            [0., 1., 0., 2., 0., 3., 4.],
            [nan; 4],
            [0., 1., 0., 2., 0., 3., 4.],
        ),
    ] {
        for (reduction, wanted, dx) in [(Reduction::Max, max, of_max), (Reduction::Min, min, of_min)] {
            let (y, found) = pairs(reduction, &x)?;
            let same = y.iter().zip(wanted).all(|(y, wanted)| *y == wanted || y.is_nan() && wanted.is_nan());
            assert!(same && found == dx, "{reduction:?} {x:?}: {y:?} {found:?}");
        }
    }
    let square = Axis { stride: 1, padding: (0, 0), ..pair };
    let plan = Plan::new(1, &[3, 3], 1, &[square, square], Reduction::Max)?;
    let (y, taps) = f32::pool(&plan, &[1., nan, 3., 2., 2., 2., nan, 5., 5.], true)?;
    assert!(y[..3].iter().all(|y| y.is_nan()) && y[3] == 5.);
    let dx = f32::pool_backward(&plan, &[1., 2., 3., 4.], &taps)?;
    assert_eq!(dx, [0., 0., 2., 1., 0., 0., 0., 7., 0.]);
    Ok(())
}

#[test]
fn other_sizes_are_refused() -> Result<()> {
    let axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
    let plan = Plan::new(1, &[3], 1, &[axis], Reduction::Max)?;
    assert!(f32::pool(&plan, &[0.; 4], true).is_err());
    let (y, taps) = f32::pool(&plan, &[0., 2., 1.], true)?;
    assert_eq!((y.len(), f32::pool_backward(&plan, &[1., 1.], &taps)?), (2, vec![0., 2., 0.]));
    assert!(f32::pool_backward(&plan, &[1.], &taps).is_err());
    let (_, no_taps) = f32::pool(&plan, &[0., 2., 1.], false)?;
    assert!(f32::pool_backward(&plan, &[1., 1.], &no_taps).is_err());
    // As many outputs, of a window with other taps.
    let other = Plan::new(1, &[4], 1, &[Axis { size: 3, ..axis }], Reduction::Max)?;
    assert!(f32::pool_backward(&other, &[1., 1.], &taps).is_err());
    Ok(())
}
