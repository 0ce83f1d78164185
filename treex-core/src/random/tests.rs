//! Against numbers that JAX printed: `tests/fixtures/flax.json`, made by `flax.py` beside it.

use std::sync::LazyLock;

use serde_json::Value;

use super::*;

pub(crate) fn golden() -> &'static Value {
    static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../tests/fixtures/flax.json")).expect("the fixture is JSON")
    });
    &GOLDEN
}

/// Floats from their bits, eight hexadecimal digits each.
pub(crate) fn hex(values: &Value) -> Vec<f32> {
    let bits =
        |value: &Value| u32::from_str_radix(value.as_str().expect("a string"), 16).expect("eight digits");
    values.as_array().expect("a list").iter().map(|value| f32::from_bits(bits(value))).collect()
}

fn words(values: &Value) -> Vec<u32> {
    values.as_array().expect("a list").iter().map(|value| value.as_u64().expect("a word") as u32).collect()
}

fn assert_bits(got: Tensor, expected: &Value) {
    let got: Vec<u32> = got.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(got, hex(expected).into_iter().map(f32::to_bits).collect::<Vec<_>>());
}

#[test]
fn keys() {
    for (seed, expected) in golden()["PRNGKey"].as_object().unwrap() {
        assert_eq!(Key::from(seed.parse::<i64>().unwrap()).words(), *words(expected), "seed {seed}");
    }
    for (n, expected) in golden()["split42"].as_object().unwrap() {
        let got = Key::from(42).split(n.parse().unwrap());
        assert_eq!(got.len(), expected.as_array().unwrap().len());
        for (key, expected) in got.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(key.words(), *words(expected));
        }
    }
    for (data, expected) in golden()["fold_in42"].as_object().unwrap() {
        assert_eq!(Key::from(42).fold_in(data.parse().unwrap()).words(), *words(expected));
    }
}

#[test]
fn flax_counters() {
    let cases = golden()["fold_in_static_key42"].as_array().unwrap();
    let mut checked = 0;
    for case in cases {
        if let [counter] = case["path"].as_array().unwrap().as_slice() {
            let got = fold_in_counter(Key::from(42), counter.as_u64().unwrap() as u32);
            assert_eq!(got.words(), *words(&case["key"]), "counter {counter}");
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
}

#[test]
fn bits() {
    let key = Key::from(42);
    let expected = &golden()["bits42"];
    assert_eq!(key.bits(7).unwrap().to_vec1::<u32>().unwrap(), words(&expected["u32_7"]));
    assert_eq!(
        u64::from(key.bits(()).unwrap().to_scalar::<u32>().unwrap()),
        expected["u32_scalar"].as_u64().unwrap()
    );
    assert_eq!(key.bits((3, 0)).unwrap().dims(), [3, 0]);
}

#[test]
fn samplers() {
    let key = Key::from(42);
    let uniform = &golden()["uniform42"];
    let between = |low, high| key.uniform_between(16, DType::F32, low, high).unwrap();
    assert_bits(key.uniform(16, DType::F32).unwrap(), &uniform["0_1"]);
    assert_bits(between(-1., 1.), &uniform["-1_1"]);
    assert_bits(between(0.1, 0.7), &uniform["0.1_0.7"]);
    assert_bits(between(-3.3, 2.2), &uniform["-3.3_2.2"]);
    assert_bits(key.normal(64, DType::F32).unwrap(), &golden()["normal42"]["f32_64"]);
    let cut = key.truncated_normal(-2., 2., 64, DType::F32).unwrap();
    assert_bits(cut, &golden()["truncated_normal42_-2_2"]["f32_64"]);
    let bernoulli = key.bernoulli(0.3, 32).unwrap().to_vec1::<u8>().unwrap();
    assert_eq!(bernoulli.into_iter().map(u32::from).collect::<Vec<_>>(), words(&golden()["bernoulli42_0.3"]));
}

#[test]
fn moments() {
    let draws = Key::from(7).normal(200_000, DType::F32).unwrap();
    let mean = draws.mean_all().unwrap().to_scalar::<f32>().unwrap();
    let variance = draws.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(mean.abs() < 0.01 && (variance - 1.).abs() < 0.02, "mean {mean}, variance {variance}");
}

#[test]
fn bad_arguments() {
    let error = Key::from(0).normal(3, DType::F64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DType);
    assert_eq!(Key::from(0).bernoulli(f64::NAN, 3).unwrap_err().kind(), ErrorKind::Argument);
    let three_words = Tensor::new(&[1u32, 2, 3], &Device::Cpu).unwrap();
    assert_eq!(Key::from_tensor(&three_words).unwrap_err().kind(), ErrorKind::Shape);
}
