//! Whether the samples have the distributions that they should, and how exact the functions behind them are.

use candle_core::{DType, Device, Tensor};

use super::{Key, math, math64};

const N: usize = 50_000;

fn sorted(draw: impl Fn(Key) -> crate::Result<Tensor>) -> Vec<f64> {
    let samples = draw(Key::from(7)).unwrap().to_dtype(DType::F64).unwrap();
    let mut samples = samples.to_vec1::<f64>().unwrap();
    samples.sort_by(f64::total_cmp);
    samples
}

/// The test of Kolmogorov and Smirnov at the level 0.001.
fn assert_distribution(name: &str, samples: &[f64], cumulative: impl Fn(f64) -> f64) {
    let n = samples.len() as f64;
    let distance = |(index, &sample): (usize, &f64)| {
        let (expected, below) = (cumulative(sample), index as f64 / n);
        (expected - below).abs().max((expected - below - 1. / n).abs())
    };
    let largest = samples.iter().enumerate().map(distance).fold(0., f64::max);
    assert!(largest * n.sqrt() < 1.95, "{name}: {}", largest * n.sqrt());
}

#[test]
fn distributions() {
    let normal = |x: f64| 0.5 * (1. + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2));
    for dtype in [DType::F32, DType::F64] {
        assert_distribution("uniform", &sorted(|key| key.uniform(N, dtype)), |x| x);
        assert_distribution("normal", &sorted(|key| key.normal(N, dtype)), normal);
        let cut = sorted(|key| key.truncated_normal(-1., 2., N, dtype));
        let inside = normal(2.) - normal(-1.);
        assert_distribution("truncated_normal", &cut, |x| (normal(x) - normal(-1.)) / inside);
        assert_distribution("gumbel", &sorted(|key| key.gumbel(N, dtype)), |x| (-(-x).exp()).exp());
        assert_distribution("exponential", &sorted(|key| key.exponential(N, dtype)), |x| 1. - (-x).exp());
        let laplace = |x: f64| if x < 0. { 0.5 * x.exp() } else { 1. - 0.5 * (-x).exp() };
        assert_distribution("laplace", &sorted(|key| key.laplace(N, dtype)), laplace);
        assert_distribution("logistic", &sorted(|key| key.logistic(N, dtype)), |x| 1. / (1. + (-x).exp()));
        let cauchy = |x: f64| 0.5 + x.atan() / std::f64::consts::PI;
        assert_distribution("cauchy", &sorted(|key| key.cauchy(N, dtype)), cauchy);
    }
}

#[test]
fn moments() {
    // The values of the 16-bit types are too coarse for the test above.
    for (dtype, off) in [(DType::F32, 0.), (DType::F64, 0.), (DType::F16, 0.001), (DType::BF16, 0.01)] {
        let normal = sorted(|key| key.normal(N, dtype));
        let mean = |f: fn(f64) -> f64, samples: &[f64]| {
            samples.iter().map(|&x| f(x)).sum::<f64>() / samples.len() as f64
        };
        assert!(mean(|x| x, &normal).abs() < 0.02 + off, "mean of {dtype:?}: {}", mean(|x| x, &normal));
        let variance = mean(|x| x * x, &normal);
        assert!((variance - 1.).abs() < 0.03 + off, "variance of {dtype:?}: {variance}");
        let uniform = sorted(|key| key.uniform(N, dtype));
        assert!((mean(|x| x, &uniform) - 0.5).abs() < 0.005 + off, "{dtype:?}");
        assert!(uniform[0] >= 0. && uniform[N - 1] < 1.);
    }
}

/// How often each number below `expected.len()` comes, by the chi-squared test at the level 0.001 or less.
fn assert_frequencies(name: &str, numbers: &Tensor, expected: &[f64]) {
    let numbers = numbers.flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let mut counts = vec![0.; expected.len()];
    for &number in &numbers {
        counts[number as usize] += 1.;
    }
    let total: f64 = expected.iter().sum();
    let term = |(count, p): (&f64, &f64)| {
        let mean = p / total * numbers.len() as f64;
        (count - mean).powi(2) / mean
    };
    let statistic: f64 = counts.iter().zip(expected).map(term).sum();
    // The 0.999 quantile for up to 10 degrees of freedom.
    assert!(statistic < 29.6, "{name}: {statistic}, {counts:?}");
}

#[test]
fn frequencies() {
    let key = Key::from(7);
    let weights = [1f32, 2., 3., 4.];
    let expected = weights.map(f64::from);
    assert_frequencies("randint", &key.randint(N, 0, 10, DType::I32).unwrap(), &[1.; 10]);
    assert_frequencies("choice", &key.choice(10, N, true, None).unwrap(), &[1.; 10]);
    assert_frequencies("choice", &key.choice(4, N, true, Some(&weights)).unwrap(), &expected);
    let logits = Tensor::new(&weights.map(f32::ln), &Device::Cpu).unwrap();
    assert_frequencies("categorical", &key.categorical(&logits, 0, N).unwrap(), &expected);
    let firsts: Vec<u32> = key
        .split(5000)
        .into_iter()
        .map(|key| key.choice(4, 1, false, Some(&weights)).unwrap().to_vec1::<u32>().unwrap()[0])
        .collect();
    let firsts = Tensor::new(firsts, &Device::Cpu).unwrap();
    assert_frequencies("choice without replacement", &firsts, &expected);
    let firsts: Vec<u32> = key
        .split(5000)
        .into_iter()
        .map(|key| key.permutation(5).unwrap().to_vec1::<u32>().unwrap()[0])
        .collect();
    let firsts = Tensor::new(firsts, &Device::Cpu).unwrap();
    assert_frequencies("permutation", &firsts, &[1.; 5]);
}

#[test]
fn inverse_error_function_of_f64() {
    // From tables; and every branch undoes the error function.
    for (x, expected) in [(0., 0.), (0.5, 0.476_936_276_204_469_9), (-0.9, -1.163_087_153_676_674)] {
        assert!((math64::erf_inv(x) - expected).abs() <= 1e-15, "{x}");
    }
    for exponent in 1..50 {
        let x = 1. - 2f64.powi(-exponent);
        let back = candle_core::cpu::erf::erfc_f64(math64::erf_inv(x));
        // Near 1 the rounding of x * x, as XLA has it, is most of the error.
        let bound = 1e-13 * f64::from(exponent) + 2f64.powi(exponent - 53);
        assert!((back * 2f64.powi(exponent) - 1.).abs() < bound, "1 - 2^-{exponent}");
    }
    assert_eq!([1., -1.].map(math64::erf_inv), [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(math64::erf_inv(f64::NAN).is_nan() && math64::erf_inv(1.5).is_nan());
}

/// All that `normal` can meet in `f32`, against `f64`, in which the argument loses nothing.
#[test]
fn inverse_error_function_of_every_f32() {
    let low = (-1f32).next_up();
    let (mut before, mut worst, mut backward) = (f32::NEG_INFINITY, (0f64, 0f32), 0);
    for bits in 0..1u32 << 23 {
        let unit = f32::from_bits(bits | 1f32.to_bits()) - 1.;
        let u = unit.mul_add(2., low);
        let y = math::erf_inv(u);
        assert!(y.is_finite(), "{u}");
        let exact = math64::erf_inv(u.into());
        let unit_in_last_place = f64::from((exact.abs() as f32).next_up() - exact.abs() as f32);
        let error = (f64::from(y) - exact).abs() / unit_in_last_place;
        if error > worst.0 {
            worst = (error, u);
        }
        backward += u32::from(y < before);
        before = y;
    }
    assert_eq!(backward, 0, "it rises with its argument");
    // At 0.99982744, where 1 - u * u has lost half of its digits: XLA's formula does no better.
    assert!(worst.0 < 65., "{} units in the last place at {}", worst.0, worst.1);
}
