//! Samples against JAX's: bit for bit against the digests of `fixtures/sample_digests.json`, and those of distributions
//! with parameters against the numbers of `fixtures/distributions.json`, each written by the script of the same name.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use treex_core::ErrorKind;
use treex_core::random::{Key, RealArray, SampleMode};
use treex_testing::{NO_ELEMENTS, device, skip};

/// The bytes of the samples on the device of the tests, row-major and little-endian, and the number of bytes per sample.
fn bytes(samples: &Tensor) -> (Vec<u8>, usize) {
    fn of<T: candle_core::WithDType, const N: usize>(
        tensor: &Tensor,
        bytes: impl Fn(T) -> [u8; N],
    ) -> (Vec<u8>, usize) {
        (tensor.to_vec1::<T>().unwrap().into_iter().flat_map(bytes).collect(), N)
    }
    let flat = &samples.to_device(device()).unwrap().flatten_all().unwrap();
    match samples.dtype() {
        DType::U8 => of(flat, u8::to_le_bytes),
        DType::I16 => of(flat, i16::to_le_bytes),
        DType::I32 => of(flat, i32::to_le_bytes),
        DType::U32 => of(flat, u32::to_le_bytes),
        DType::I64 => of(flat, i64::to_le_bytes),
        DType::BF16 => of(flat, bf16::to_le_bytes),
        DType::F16 => of(flat, f16::to_le_bytes),
        DType::F32 => of(flat, f32::to_le_bytes),
        DType::F64 => of(flat, f64::to_le_bytes),
        other => panic!("no samples of {other:?}"),
    }
}

fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Unsigned types that Candle lacks are represented by signed types of the same width.
fn dtype(name: &Value) -> DType {
    match name.as_str().unwrap() {
        "u8" => DType::U8,
        "i16" | "u16" => DType::I16,
        "i32" => DType::I32,
        "u32" => DType::U32,
        "i64" | "u64" => DType::I64,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        "f32" => DType::F32,
        "f64" => DType::F64,
        other => panic!("no type {other}"),
    }
}

fn mode(name: &Value) -> SampleMode {
    match name.as_str().unwrap() {
        "low" => SampleMode::Low,
        "high" => SampleMode::High,
        other => panic!("no mode {other}"),
    }
}

fn usize_of(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn dims(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(usize_of).collect()
}

/// A number, or the name of an infinity.
fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// 0, 1, 2, ... in a given shape.
fn range(dims: Vec<usize>) -> Tensor {
    let n = dims.iter().product::<usize>() as u32;
    Tensor::from_iter(0..n, device()).unwrap().reshape(dims).unwrap()
}

/// The weights of the generator: 0 / 3 to 16 / 3, repeated.
fn weights(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 3.).collect()
}

/// The logits of the generator, exact in every floating-point type.
fn logits(dims: Vec<usize>, dtype: DType) -> Tensor {
    let n: usize = dims.iter().product();
    let values = (0..n).map(|i| (i * 7 % 11) as f32 / 4. - 1.);
    Tensor::from_iter(values, device()).unwrap().reshape(dims).unwrap().to_dtype(dtype).unwrap()
}

fn words(keys: &[Key]) -> Tensor {
    let words: Vec<u32> = keys.iter().flat_map(|key| key.words()).collect();
    Tensor::from_vec(words, (keys.len(), 2), device()).unwrap()
}

/// Samples of the named sampler.
fn draw(sampler: &str, key: Key, shape: Vec<usize>, arguments: &[Value]) -> treex_core::Result<Tensor> {
    let of_type = || dtype(&arguments[0]);
    let bound = |index: usize| float(&arguments[index]);
    let integer = |index: usize| arguments[index].as_i64().unwrap();
    let flag = |index: usize| arguments[index].as_bool().unwrap();
    match sampler {
        "seed" => Ok(words(&[Key::from(integer(0))]).squeeze(0)?),
        "seed_x64" => Ok(words(&[Key::from_seed_x64(integer(0))]).squeeze(0)?),
        "split" => Ok(words(&key.split(usize_of(&arguments[0])))),
        "fold_in" => Ok(words(&[key.fold_in(integer(0) as u32)]).squeeze(0)?),
        "bits" if of_type() == DType::U32 => key.bits(shape),
        "bits" => key.bits_of(shape, of_type()),
        "uniform" => key.uniform_between(shape, of_type(), bound(1), bound(2)),
        "normal" => key.normal(shape, of_type()),
        "truncated_normal" => key.truncated_normal(bound(1), bound(2), shape, of_type()),
        "exponential" => key.exponential(shape, of_type()),
        "laplace" => key.laplace(shape, of_type()),
        "logistic" => key.logistic(shape, of_type()),
        "gumbel" => key.gumbel_with(shape, of_type(), mode(&arguments[1])),
        "bernoulli" => key.bernoulli_with(bound(0), shape, mode(&arguments[1])),
        "bernoulli_of" => {
            let p = Tensor::new(bound(1), device())?.to_dtype(of_type())?;
            key.bernoulli_with(&p, shape, mode(&arguments[2]))
        }
        "bernoulli_row" => {
            let p = Tensor::from_iter((0..shape[1]).map(|i| (i % 17) as f32 / 16.), device())?;
            key.bernoulli(&p.to_dtype(of_type())?, shape)
        }
        "rademacher" | "rademacher_32" => key.rademacher(shape, of_type()),
        // In 64-bit mode, JAX draws every type from 64 bits.
        "rademacher_64" => Ok(key.rademacher(shape, DType::F64)?.to_dtype(of_type())?),
        "randint" => key.randint(shape, integer(1), integer(2), of_type()),
        "permutation" => key.permutation(usize_of(&arguments[0])),
        "permutation_of" => key.permutation_of(&range(shape), usize_of(&arguments[0]), flag(1)),
        "choice" => {
            let n = usize_of(&arguments[0]);
            key.choice(n, shape, flag(1), flag(2).then(|| weights(n)).as_deref())
        }
        "choice_of" => {
            let (a, axis) = (range(dims(&arguments[0])), usize_of(&arguments[1]));
            let p = flag(4).then(|| weights(a.dims()[axis]));
            key.choice_of(&a, dims(&arguments[2]), flag(3), p.as_deref(), axis)
        }
        "categorical" => {
            let logits = logits(dims(&arguments[1]), of_type());
            key.categorical_with(&logits, usize_of(&arguments[2]), shape, flag(3), mode(&arguments[4]))
        }
        other => panic!("no sampler {other}"),
    }
}

#[test]
fn as_in_jax() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/sample_digests.json")).unwrap();
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let [sampler, key, shape, arguments, digest, first] = case.as_array().unwrap().as_slice() else {
            panic!("a case has six parts: {case}");
        };
        let key = serde_json::from_value(key.clone()).map_or(Key::from(0), Key::from_words);
        let shape = dims(shape);
        let sampler = sampler.as_str().unwrap();
        if shape.contains(&0) && skip("samples without elements in as_in_jax", NO_ELEMENTS) {
            continue;
        }
        let samples = draw(sampler, key, shape.clone(), arguments.as_array().unwrap()).unwrap();
        let (bytes, size) = bytes(&samples);
        let got = (samples.dims(), hex(Sha1::digest(&bytes).into_iter().take(8)));
        if got != (shape.as_slice(), digest.as_str().unwrap().to_owned()) {
            let got_first = hex(bytes.iter().take(size).rev().copied());
            wrong.push(format!("{case}: shape {:?}, first {got_first}, not {first}", samples.dims()));
        }
        *counts.entry(sampler).or_insert(0) += 1;
    }
    assert!(wrong.is_empty(), "{} of {counts:?}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counts.values().sum::<usize>() > 1000, "{counts:?}");
    assert_eq!(counts.len(), 24, "{counts:?}");
}

/// An argument of `distributions.py`: a number, or a tensor as its type, shape and values.
fn parameter(value: &Value) -> Tensor {
    let Some([of_type, shape, values]) = value.as_array().map(Vec::as_slice) else {
        return Tensor::new(float(value), device()).unwrap();
    };
    let values: Vec<f64> = values.as_array().unwrap().iter().map(float).collect();
    Tensor::from_vec(values, dims(shape), device()).unwrap().to_dtype(dtype(of_type)).unwrap()
}

/// A sample of a distribution with parameters.
fn draw_distribution(
    sampler: &str,
    key: Key,
    shape: Vec<usize>,
    of_type: DType,
    arguments: &[Value],
) -> treex_core::Result<Tensor> {
    let tensors: Vec<Tensor> = arguments.iter().map(parameter).collect();
    let x = |index: usize| match &arguments[index] {
        Value::Array(_) => RealArray::Tensor(&tensors[index]),
        number => RealArray::Number(float(number)),
    };
    let number = |index: usize| float(&arguments[index]);
    let outer = || shape[..shape.len() - 1].to_vec();
    match sampler {
        "gamma" => key.gamma(x(0), shape, of_type),
        "loggamma" => key.loggamma(x(0), shape, of_type),
        "beta" => key.beta(x(0), x(1), shape, of_type),
        "t" => key.t(x(0), shape, of_type),
        "chisquare" => key.chisquare(x(0), shape, of_type),
        "f" => key.f(x(0), x(1), shape, of_type),
        "dirichlet" => key.dirichlet(&tensors[0], outer(), of_type),
        "generalized_normal" => key.generalized_normal(number(0), shape, of_type),
        "ball" => key.ball(usize_of(&arguments[0]), number(1), outer(), of_type),
        "lognormal" => key.lognormal(x(0), shape, of_type),
        "pareto" => key.pareto(x(0), shape, of_type),
        "rayleigh" => key.rayleigh(x(0), shape, of_type),
        "wald" => key.wald(x(0), shape, of_type),
        "weibull_min" => key.weibull_min(x(0), x(1), shape, of_type),
        "triangular" => key.triangular(x(0), x(1), x(2), shape, of_type),
        "maxwell" => key.maxwell(shape, of_type),
        "double_sided_maxwell" => key.double_sided_maxwell(number(0), number(1), shape, of_type),
        "geometric" => key.geometric(x(0), shape, of_type),
        "poisson" => key.poisson(x(0), shape, of_type),
        "binomial" => key.binomial(x(0), x(1), shape, of_type),
        "multinomial" => key.multinomial(x(0), &tensors[1], shape, of_type),
        "multivariate_normal" => key.multivariate_normal(&tensors[0], &tensors[1], outer(), of_type),
        other => panic!("no distribution {other}"),
    }
}

fn distributions_json() -> Value {
    serde_json::from_str(include_str!("fixtures/distributions.json")).unwrap()
}

#[test]
fn distributions_as_in_jax() {
    let fixture = distributions_json();
    let (mut worst, mut wrong) = (BTreeMap::new(), Vec::new());
    for case in fixture["cases"].as_array().unwrap() {
        let [sampler, key, shape, of_type, arguments, expected] = case.as_array().unwrap().as_slice() else {
            panic!("a case has six parts: {case}");
        };
        let (sampler, of_type, shape) = (sampler.as_str().unwrap(), dtype(of_type), dims(shape));
        let key = Key::from_words(serde_json::from_value(key.clone()).unwrap());
        let got =
            draw_distribution(sampler, key, shape.clone(), of_type, arguments.as_array().unwrap()).unwrap();
        assert_eq!((got.dims(), got.dtype()), (&*shape, of_type), "{sampler}");
        let got = got.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        // The rounding errors of a formula are relative to its largest term: to the sample, or, where terms cancel, to
        // 1, the scale of every distribution here.
        let epsilon = if of_type == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
        for (got, expected) in got.into_iter().zip(expected.as_array().unwrap().iter().map(float)) {
            let same = got == expected || got.is_nan() && expected.is_nan();
            let off = if same { 0. } else { (got - expected).abs() / (epsilon * expected.abs().max(1.)) };
            let worst = worst.entry((sampler.to_owned(), of_type.as_str())).or_insert(0f64);
            *worst = worst.max(off);
            if off.is_nan() || off > tolerance(sampler, expected) {
                wrong.push(format!("{sampler} {of_type:?} {arguments}: {got:e}, not {expected:e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{worst:#?}\n{}", wrong.join("\n"));
    assert_eq!(worst.len(), 44, "{:?}", worst.keys());
}

/// How far a sample may be from JAX's, in rounding errors of a number of its size.
fn tolerance(sampler: &str, sample: f64) -> f64 {
    match sampler {
        // Integers.
        "geometric" | "poisson" | "binomial" | "multinomial" => 0.,
        // exp(y) has the absolute error of y, which is relative to y, the logarithm of the sample.
        "pareto" => 4. + sample.ln(),
        // A logarithm, a power or an exponential of 1 unit each, and as many roundings of products.
        _ => 4.,
    }
}

/// Every public name of `jax.random`, either sampled by a fixture under its own name or explained here.
#[test]
fn every_name_of_jax_random() {
    const OTHERS: [(&str, &str); 10] = [
        ("PRNGKey", "`Key::from` and `Key::from_seed_x64`, sampled as `seed` and `seed_x64`"),
        (
            "cauchy",
            "`Key::cauchy`, compared with `samplers.json`, since its tangent is not XLA's to the last bit",
        ),
        ("clone", "a `Key` is `Copy`"),
        ("key", "`Key::from`: there is one implementation, threefry2x32, so a key has no type of its own"),
        ("key_data", "`Key::words` and `Key::to_tensor`"),
        ("key_dtype", "a `Key` is no array, so it has no element type"),
        ("key_impl", "there is one implementation, threefry2x32, JAX's default"),
        ("orthogonal", "`Key::orthogonal`, compared with `orthogonal.json`"),
        ("random_gamma_p", "the primitive behind `gamma`, which JAX exports for its own extensions"),
        ("wrap_key_data", "`Key::from_words` and `Key::from_tensor`"),
    ];
    let digests: Value = serde_json::from_str(include_str!("fixtures/sample_digests.json")).unwrap();
    let fixture = distributions_json();
    let sampled = |cases: &Value| -> BTreeSet<String> {
        cases.as_array().unwrap().iter().map(|case| case[0].as_str().unwrap().to_owned()).collect()
    };
    let sampled = &sampled(&digests["cases"]) | &sampled(&fixture["cases"]);
    let names: Vec<&str> =
        fixture["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() > 40, "{names:?}");
    let is_explained = |name: &str| OTHERS.iter().any(|(other, reason)| *other == name && !reason.is_empty());
    let missing: Vec<_> =
        names.iter().filter(|name| !sampled.contains(**name) && !is_explained(name)).collect();
    assert!(missing.is_empty(), "neither sampled nor explained: {missing:?}");
    for (name, _) in OTHERS {
        assert!(names.contains(&name), "jax.random has no `{name}`");
        assert!(!sampled.contains(name), "`{name}` is sampled, and needs no explanation");
    }
}

/// Parameters of which JAX makes meaningless samples are errors with a remedy.
#[test]
fn parameters_out_of_range() {
    use candle_core::DType::{BF16, F32, F64, I32, I64, U8};
    let (key, x) = (Key::from(3), |values: &[f32]| Tensor::new(values, device()).unwrap());
    let cov = Tensor::new(&[[1f32, 2.], [2., 1.]], device()).unwrap();
    let scalar = Tensor::new(1f32, device()).unwrap();
    let nan = x(&[0.5, f32::NAN]);
    for (number, result) in [
        key.gamma(-1., 3, F32),
        key.loggamma(&x(&[1., -0.5]), 2, F32),
        key.gamma(1., 3, BF16),
        key.gamma(1., 3, I32),
        key.gamma(&x(&[1., 2.]), 3, F32),
        key.gamma(1., usize::MAX, F64),
        key.gamma(1., (usize::MAX, 2), F64),
        key.beta(-1., 2., 3, F32),
        key.beta(1., -2., 3, F32),
        key.dirichlet(&scalar, 3, F32),
        key.dirichlet(&x(&[1., -1.]), 3, F32),
        key.chisquare(-2., 3, F32),
        key.f(0., 1., 3, F32),
        key.f(1., 0., 3, F32),
        key.t(0., 3, F64),
        key.generalized_normal(0., 3, F32),
        key.generalized_normal(f64::NAN, 3, F32),
        key.ball(3, -1., 3, F32),
        key.pareto(0., 3, F32),
        key.rayleigh(-1., 3, F32),
        key.weibull_min(1., 0., 3, F32),
        key.triangular(1., 0., 2., 3, F32),
        key.triangular(0., 3., 2., 3, F32),
        key.wald(0., 3, F32),
        key.maxwell(3, U8),
        key.geometric(0., 3, I32),
        key.geometric(1.5, 3, I32),
        key.geometric(f64::NAN, 3, I32),
        key.geometric(0.5, 3, F32),
        key.geometric(&x(&[0.5]).to_dtype(BF16).unwrap(), 3, I64),
        key.poisson(-1., 3, I32),
        key.poisson(f64::NAN, 3, I32),
        key.poisson(1e12, 3, I64),
        key.poisson(1., 3, F32),
        key.binomial(3., 0.5, 3, I32),
        key.multinomial(3., &scalar, 3, F32),
        key.multinomial(3., &x(&[1., 2.]), (3, 3), F32),
        key.multivariate_normal(&x(&[1., 2.]), &cov, 3, F32),
        key.multivariate_normal(&x(&[1., 2., 3.]), &cov, 3, F32),
        key.multivariate_normal(&scalar, &cov, 3, F32),
        key.bernoulli(&nan, 2),
        key.bernoulli_with(&nan, 2, SampleMode::High),
        key.bernoulli(&x(&[0.5, 0.5]), 3),
        key.bernoulli(&Tensor::new(1u32, device()).unwrap(), 3),
    ]
    .into_iter()
    .enumerate()
    {
        let error = result.expect_err(&format!("case {number}"));
        let is_plain = matches!(error.kind(), ErrorKind::Argument | ErrorKind::Shape | ErrorKind::DType);
        assert!(
            is_plain && error.expected_text().is_some() | error.found_text().is_some(),
            "{number}: {error}"
        );
    }
    // NaN stays visible, and nothing is drawn for an empty shape.
    let visible = key.gamma(&nan, 2, F32).unwrap().to_vec1::<f32>().unwrap();
    assert!(visible[0].is_finite() && visible[1].is_nan());
    assert_eq!(key.poisson(3., (2, 0), I64).unwrap().dims(), [2, 0]);
    assert_eq!(key.dirichlet(&x(&[]), 3, F32).unwrap().dims(), [3, 0]);
    assert_eq!(key.ball(0, 2., 3, F32).unwrap().dims(), [3, 0]);
    let empty = Tensor::zeros((0, 0), F32, device()).unwrap();
    assert_eq!(key.multivariate_normal(&x(&[]), &empty, 3, F32).unwrap().dims(), [3, 0]);
}

#[test]
fn orthogonal_as_in_jax() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/orthogonal.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 42);
    for case in cases {
        let [of_type, key, n, m, shape, stride, values] = case.as_array().unwrap().as_slice() else {
            panic!("a case has seven parts: {case}");
        };
        let key = Key::from_words(serde_json::from_value(key.clone()).unwrap());
        let (n, m, of_type) = (usize_of(n), m.as_u64().map(|m| m as usize), dtype(of_type));
        let shape = dims(shape);
        let got = key.orthogonal(n, shape.clone(), of_type, m).unwrap();
        assert_eq!((got.dims(), got.dtype()), (&*[shape, vec![n, m.unwrap_or(n)]].concat(), of_type));
        // The rounding error of JAX's factorization.
        let tolerance = if of_type == DType::F32 { 1e-6 } else { 1e-12 };
        let got = got.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let got: Vec<f64> = got.into_iter().step_by(usize_of(stride)).collect();
        let values: Vec<f64> = serde_json::from_value(values.clone()).unwrap();
        assert_eq!(got.len(), values.len());
        for (got, expected) in got.into_iter().zip(values) {
            assert!((got - expected).abs() < tolerance, "{case}: {got}, not {expected}");
        }
    }
}
