//! Samples, bit for bit, against digests of JAX's: `fixtures/sample_digests.json`, written by
//! `sample_digests.py`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use treex_core::random::{Key, SampleMode};

/// The bytes of the samples, row-major and little-endian, and the number of bytes per sample.
fn bytes(samples: &Tensor) -> (Vec<u8>, usize) {
    fn of<T: candle_core::WithDType, const N: usize>(
        tensor: &Tensor,
        bytes: impl Fn(T) -> [u8; N],
    ) -> (Vec<u8>, usize) {
        (tensor.to_vec1::<T>().unwrap().into_iter().flat_map(bytes).collect(), N)
    }
    let flat = &samples.flatten_all().unwrap();
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
    Tensor::from_iter(0..n, &Device::Cpu).unwrap().reshape(dims).unwrap()
}

/// The weights of the generator: 0 / 3 to 16 / 3, repeated.
fn weights(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 / 3.).collect()
}

/// The logits of the generator, exact in every floating-point type.
fn logits(dims: Vec<usize>, dtype: DType) -> Tensor {
    let n: usize = dims.iter().product();
    let values = (0..n).map(|i| (i * 7 % 11) as f32 / 4. - 1.);
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(dims).unwrap().to_dtype(dtype).unwrap()
}

fn words(keys: &[Key]) -> Tensor {
    let words: Vec<u32> = keys.iter().flat_map(|key| key.words()).collect();
    Tensor::from_vec(words, (keys.len(), 2), &Device::Cpu).unwrap()
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
        "rademacher" => key.rademacher(shape, of_type()),
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
    assert_eq!(counts.len(), 20, "{counts:?}");
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
