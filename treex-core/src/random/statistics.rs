//! Statistical tests of distribution and independence. The keys are fixed, so the tests are deterministic.

use candle_core::{DType, Device, Tensor};

use super::{Key, SampleMode, math64};

const N: usize = 50_000;

fn sorted(draw: impl Fn(Key) -> crate::Result<Tensor>) -> Vec<f64> {
    let samples = draw(Key::from(7)).unwrap().to_dtype(DType::F64).unwrap();
    let mut samples = samples.to_vec1::<f64>().unwrap();
    samples.sort_by(f64::total_cmp);
    samples
}

/// The Kolmogorov-Smirnov test at the level 0.001.
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
        for mode in [SampleMode::Low, SampleMode::High] {
            let gumbel = sorted(|key| key.gumbel_with(N, dtype, mode));
            assert_distribution("gumbel", &gumbel, |x| (-(-x).exp()).exp());
        }
        assert_distribution("exponential", &sorted(|key| key.exponential(N, dtype)), |x| 1. - (-x).exp());
        let laplace = |x: f64| if x < 0. { 0.5 * x.exp() } else { 1. - 0.5 * (-x).exp() };
        assert_distribution("laplace", &sorted(|key| key.laplace(N, dtype)), laplace);
        assert_distribution("logistic", &sorted(|key| key.logistic(N, dtype)), |x| 1. / (1. + (-x).exp()));
        let cauchy = |x: f64| 0.5 + x.atan() / std::f64::consts::PI;
        assert_distribution("cauchy", &sorted(|key| key.cauchy(N, dtype)), cauchy);
    }
}

/// Mean and variance, each to four standard errors plus `off`.
fn assert_moments(name: &str, samples: &[f64], [mean, variance, kurtosis]: [f64; 3], off: f64) {
    let n = samples.len() as f64;
    let got = samples.iter().sum::<f64>() / n;
    assert!((got - mean).abs() < 4. * (variance / n).sqrt() + off, "{name}: mean {got}, not {mean}");
    let got = samples.iter().map(|x| (x - got).powi(2)).sum::<f64>() / n;
    let error = variance * ((kurtosis - 1.) / n).sqrt();
    assert!((got - variance).abs() < 4. * error + off, "{name}: variance {got}, not {variance}");
}

#[test]
fn moments() {
    use std::f64::consts::PI;
    // Resolution of the 16-bit types.
    for (dtype, off) in [(DType::F32, 0.), (DType::F64, 0.), (DType::F16, 0.001), (DType::BF16, 0.01)] {
        let uniform = sorted(|key| key.uniform(N, dtype));
        assert!(uniform[0] >= 0. && uniform[N - 1] < 1.);
        assert_moments("uniform", &uniform, [0.5, 1. / 12., 1.8], off);
        assert_moments("normal", &sorted(|key| key.normal(N, dtype)), [0., 1., 3.], off);
    }
    for dtype in [DType::F32, DType::F64] {
        let cut = sorted(|key| key.truncated_normal(-2., 2., N, dtype));
        assert!(cut[0] > -2. && cut[N - 1] < 2.);
        assert_moments("truncated_normal", &cut, [0., 0.773_741_3, 2.3655], 0.);
        let euler = 0.577_215_664_901_532_9;
        assert_moments("gumbel", &sorted(|key| key.gumbel(N, dtype)), [euler, PI * PI / 6., 5.4], 0.);
        assert_moments("exponential", &sorted(|key| key.exponential(N, dtype)), [1., 1., 9.], 0.);
        assert_moments("laplace", &sorted(|key| key.laplace(N, dtype)), [0., 2., 6.], 0.);
        assert_moments("logistic", &sorted(|key| key.logistic(N, dtype)), [0., PI * PI / 3., 4.2], 0.);
    }
}

/// The frequency of each number below `expected.len()`, by the chi-squared test at the level 0.001.
fn assert_frequencies(name: &str, numbers: impl IntoIterator<Item = u32>, expected: &[f64]) {
    let mut counts = vec![0.; expected.len()];
    for number in numbers {
        counts[number as usize] += 1.;
    }
    let (drawn, total): (f64, f64) = (counts.iter().sum(), expected.iter().sum());
    let term = |(count, p): (&f64, &f64)| {
        let mean = p / total * drawn;
        (count - mean).powi(2) / mean
    };
    let statistic: f64 = counts.iter().zip(expected).map(term).sum();
    // The Wilson-Hilferty approximation of the quantile.
    let spread = 2. / (9. * (expected.len() as f64 - 1.));
    let quantile = (expected.len() as f64 - 1.) * (1. - spread + 3.09 * spread.sqrt()).powi(3);
    assert!(statistic < quantile, "{name}: {statistic}, not below {quantile}: {counts:?}");
}

fn numbers(tensor: crate::Result<Tensor>) -> Vec<u32> {
    tensor.unwrap().flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

#[test]
fn frequencies() {
    let key = Key::from(7);
    let weights = [1f32, 2., 3., 4.];
    let expected = weights.map(f64::from);
    assert_frequencies("bits", numbers(key.bits_of(N, DType::U8)), &[1.; 256]);
    let high = numbers(key.bits(N)).into_iter().map(|word| word >> 24);
    assert_frequencies("the high bits", high, &[1.; 256]);
    for mode in [SampleMode::Low, SampleMode::High] {
        assert_frequencies("bernoulli", numbers(key.bernoulli_with(0.3, N, mode)), &[0.7, 0.3]);
    }
    let signs = key.rademacher(N, DType::F32).unwrap().to_vec1::<f32>().unwrap();
    assert_frequencies("rademacher", signs.into_iter().map(|sign| u32::from(sign > 0.)), &[1.; 2]);
    for dtype in [DType::U8, DType::I16, DType::I32, DType::U32, DType::I64] {
        assert_frequencies("randint", numbers(key.randint(N, 0, 10, dtype)), &[1.; 10]);
    }
    assert_frequencies("choice", numbers(key.choice(10, N, true, None)), &[1.; 10]);
    assert_frequencies("choice", numbers(key.choice(4, N, true, Some(&weights))), &expected);
    let logits = Tensor::new(&weights.map(f32::ln), &Device::Cpu).unwrap();
    assert_frequencies("categorical", numbers(key.categorical(&logits, 0, N)), &expected);
}

#[test]
fn frequencies_without_replacement() {
    let keys = Key::from(7).split(5000);
    // Ordered pairs of distinct numbers below 4: the weight of the first, times that of the second among the rest.
    let weights = [1f32, 2., 3., 4.];
    let pairs: Vec<f64> = (0..16)
        .map(|pair| (f64::from(weights[pair / 4]), f64::from(weights[pair % 4]), pair / 4 == pair % 4))
        .map(|(first, second, same)| if same { 0. } else { first * second / (10. - first) })
        .collect();
    let possible: Vec<usize> = (0..16).filter(|&pair| pairs[pair] > 0.).collect();
    let expected: Vec<f64> = possible.iter().map(|&pair| pairs[pair]).collect();
    let assert_pairs = |name: &str, draw: &dyn Fn(Key) -> crate::Result<Tensor>, expected: &[f64]| {
        let place = |key: &Key| {
            let pair = numbers(draw(*key));
            let pair = (pair[0] * 4 + pair[1]) as usize;
            possible.iter().position(|&other| other == pair).expect("no number twice") as u32
        };
        assert_frequencies(name, keys.iter().map(place), expected);
    };
    let logits = Tensor::new(&weights.map(f32::ln), &Device::Cpu).unwrap();
    let low = SampleMode::Low;
    assert_pairs("categorical", &|key| key.categorical_with(&logits, 0, 2, false, low), &expected);
    assert_pairs("weighted choice", &|key| key.choice(4, 2, false, Some(&weights)), &expected);
    assert_pairs("choice", &|key| key.choice(4, 2, false, None), &[1.; 12]);
    assert_pairs("permutation", &|key| key.permutation(4), &[1.; 12]);
    let columns = Tensor::arange(0u32, 4, &Device::Cpu).unwrap().reshape((4, 1)).unwrap();
    let columns = columns.broadcast_as((4, 3)).unwrap();
    let column = |key: Key| Ok(key.permutation_of(&columns, 0, true)?.narrow(1, 1, 1)?);
    assert_pairs("independent permutation", &column, &[1.; 12]);
}

/// Independence of two streams: frequencies of pairs on a grid, and the correlation.
fn assert_independent(name: &str, a: &[f64], b: &[f64]) {
    let cells = a.iter().zip(b).map(|(a, b)| (a * 8.) as u32 * 8 + (b * 8.) as u32);
    assert_frequencies(name, cells, &[1.; 64]);
    let products: f64 = a.iter().zip(b).map(|(a, b)| (a - 0.5) * (b - 0.5) * 12.).sum();
    let correlation = products / a.len() as f64;
    assert!(correlation.abs() < 3.3 / (a.len() as f64).sqrt(), "{name}: {correlation}");
}

#[test]
fn independent_streams() {
    let parent = Key::from(7);
    let stream = |key: Key| key.uniform(N, DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let [first, second] = parent.split2();
    assert_independent("the two of a split", &stream(first), &stream(second));
    assert_independent("a key and its first", &stream(parent), &stream(first));
    assert_independent("two numbers folded in", &stream(parent.fold_in(1000)), &stream(parent.fold_in(1001)));
    assert_independent("neighbouring seeds", &stream(Key::from(7)), &stream(Key::from(8)));
    // One number from each of many keys is also a stream; its neighbours must be independent.
    let of_each = |keys: Vec<Key>| -> Vec<f64> {
        keys.into_iter().map(|key| key.uniform((), DType::F64).unwrap().to_scalar().unwrap()).collect()
    };
    for (name, keys) in [
        ("split", parent.split(N)),
        ("fold_in", (0..N as u32).map(|data| parent.fold_in(data)).collect()),
        ("seeds", (0..N as u32).map(Key::from).collect()),
    ] {
        let mut samples = of_each(keys);
        assert_independent(name, &samples[1..], &samples[..N - 1]);
        samples.sort_by(f64::total_cmp);
        assert_distribution(name, &samples, |x| x);
    }
}

#[test]
fn orthogonal_matrices() {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
        for (n, m) in [(1, 1), (2, 2), (7, 7), (50, 50), (9, 4), (4, 9), (60, 1), (1, 60)] {
            let q = Key::from(7).orthogonal(n, 3, dtype, Some(m)).unwrap();
            let t = q.t().unwrap();
            let product = if n < m { q.matmul(&t) } else { t.matmul(&q) }.unwrap();
            let unit = Tensor::eye(n.min(m), dtype, &Device::Cpu).unwrap();
            let off = product.broadcast_sub(&unit).unwrap().abs().unwrap().max_all().unwrap();
            let off = off.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
            assert!(off < tolerance, "{n} x {m} of {dtype:?}: {off}");
        }
    }
}

/// Without the sign correction, the factorization would favour some matrices. Under the Haar measure, each entry of a
/// 3 x 3 matrix is uniform on [-1, 1] (Archimedes), the angle of a 2 x 2 rotation is uniform, and half of all matrices
/// are reflections.
#[test]
fn orthogonal_matrices_are_uniform() {
    let matrices = |n: usize| {
        let q = Key::from(7).orthogonal(n, 20_000, DType::F64, None).unwrap();
        q.flatten_from(1).unwrap().to_vec2::<f64>().unwrap()
    };
    let three = matrices(3);
    for entry in 0..9 {
        let mut entries: Vec<f64> = three.iter().map(|q| q[entry]).collect();
        entries.sort_by(f64::total_cmp);
        assert_distribution("an entry", &entries, |x| (x + 1.) / 2.);
    }
    let two = matrices(2);
    let mut turns: Vec<f64> = two.iter().map(|q| q[2].atan2(q[0]) / std::f64::consts::TAU + 0.5).collect();
    turns.sort_by(f64::total_cmp);
    assert_distribution("an angle", &turns, |x| x);
    let reflections = two.iter().map(|q| u32::from(q[0] * q[3] < q[1] * q[2]));
    assert_frequencies("reflections", reflections, &[1.; 2]);
}

#[test]
fn inverse_error_function_of_f64() {
    // Tabulated values; and each branch inverts the error function.
    for (x, expected) in [(0., 0.), (0.5, 0.476_936_276_204_469_9), (-0.9, -1.163_087_153_676_674)] {
        assert!((math64::erf_inv(x) - expected).abs() <= 1e-15, "{x}");
    }
    for exponent in 1..50 {
        let x = 1. - 2f64.powi(-exponent);
        let back = candle_core::cpu::erf::erfc_f64(math64::erf_inv(x));
        // Near 1, XLA's rounding of x * x dominates the error.
        let bound = 1e-13 * f64::from(exponent) + 2f64.powi(exponent - 53);
        assert!((back * 2f64.powi(exponent) - 1.).abs() < bound, "1 - 2^-{exponent}");
    }
    assert_eq!([1., -1.].map(math64::erf_inv), [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(math64::erf_inv(f64::NAN).is_nan() && math64::erf_inv(1.5).is_nan());
}
