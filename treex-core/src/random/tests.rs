//! Against JAX's numbers in `tests/fixtures/`: `flax.json`, `samplers.json` and `sample_digests.json`, each made by the
//! Python script of the same name.

use std::sync::LazyLock;
use treex_kernels::xla_math;

use serde_json::Value;

use candle_core::{D, DType};
use half::{bf16, f16};

use super::*;
use crate::error::ErrorKind;

pub(crate) fn golden() -> &'static Value {
    static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../tests/fixtures/flax.json")).expect("the fixture is JSON")
    });
    &GOLDEN
}

fn samplers_json() -> &'static Value {
    static SAMPLERS: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../tests/fixtures/samplers.json")).expect("the fixture is JSON")
    });
    &SAMPLERS
}

fn digests_json() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/sample_digests.json"))
        .expect("the fixture is JSON")
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

/// Flat indices around 2^32 and above, which no tensor in a test reaches.
#[test]
fn large_counters() {
    let fixture = digests_json();
    let counters = fixture["counters"].as_array().unwrap();
    assert_eq!(counters.len(), 40);
    for counter in counters {
        let key = Key::from_words(serde_json::from_value(counter[0].clone()).unwrap());
        let index = counter[1].as_str().unwrap().parse().unwrap();
        assert_eq!(key.block(index), *words(&counter[2]), "{counter}");
    }
}

/// All `f32` arguments of the inverse error function in `normal`.
#[test]
fn inverse_error_function_of_every_f32() {
    use sha1::Digest as _;
    let fixture = digests_json();
    let digests = fixture["erf_inv"].as_array().unwrap();
    let low = (-1f32).next_up();
    for (part, digest) in digests.iter().enumerate() {
        let mut hash = sha1::Sha1::new();
        for word in part << 17..(part + 1) << 17 {
            let unit = <f32 as real::Real>::unit([(word as u32) << 9, 0]);
            hash.update(xla_math::erf_inv(unit.mul_add(2., low)).to_le_bytes());
        }
        let got: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(got, digest.as_str().unwrap(), "part {part}");
    }
    assert_eq!(digests.len() << 17, 1 << 23);
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

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.flatten_all().unwrap().to_dtype(DType::I64).unwrap().to_vec1::<i64>().unwrap()
}

/// Nested lists of integers, in order.
fn flat(values: &Value) -> Vec<i64> {
    match values {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_i64().expect("an integer")],
    }
}

/// The bits of floats of any type, and the expected ones.
fn both_bits(got: &Tensor, expected: &Value) -> (Vec<u64>, Vec<u64>) {
    let got: Vec<u64> = match got.dtype() {
        DType::BF16 => got.to_vec1::<bf16>().unwrap().into_iter().map(|x| x.to_bits().into()).collect(),
        DType::F16 => got.to_vec1::<f16>().unwrap().into_iter().map(|x| x.to_bits().into()).collect(),
        DType::F32 => got.to_vec1::<f32>().unwrap().into_iter().map(|x| x.to_bits().into()).collect(),
        _ => got.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect(),
    };
    let bits = |value: &Value| u64::from_str_radix(value.as_str().expect("a string"), 16).expect("digits");
    (got, expected.as_array().expect("a list").iter().map(bits).collect())
}

#[test]
fn half_precision() {
    let key = Key::from(42);
    for (dtype, name) in [(DType::BF16, "bf16"), (DType::F16, "f16")] {
        let longer = format!("{name}_16");
        let (got, expected) = both_bits(&key.uniform(16, dtype).unwrap(), &golden()["uniform42"][name]);
        assert_eq!(got, expected, "uniform, {name}");
        let (got, expected) = both_bits(&key.normal(16, dtype).unwrap(), &golden()["normal42"][&longer]);
        assert_eq!(got, expected, "normal, {name}");
        let cut = key.truncated_normal(-2., 2., 16, dtype).unwrap();
        let (got, expected) = both_bits(&cut, &golden()["truncated_normal42_-2_2"][&longer]);
        assert_eq!(got, expected, "truncated_normal, {name}");
    }
}

#[test]
fn continuous() {
    for (name, dtype) in
        [("bf16", DType::BF16), ("f16", DType::F16), ("f32", DType::F32), ("f64", DType::F64)]
    {
        let cases = samplers_json()[name].as_object().unwrap();
        assert_eq!(cases.len(), 9);
        for (case, expected) in cases {
            let key = Key::from(42);
            let got = match case.as_str() {
                "uniform" => key.uniform(32, dtype),
                "uniform_-3.3_2.2" => key.uniform_between(32, dtype, -3.3, 2.2),
                "normal" => key.normal(32, dtype),
                "truncated_normal_-1.5_0.7" => key.truncated_normal(-1.5, 0.7, 32, dtype),
                "gumbel" => key.gumbel(32, dtype),
                "exponential" => key.exponential(32, dtype),
                "laplace" => key.laplace(32, dtype),
                "logistic" => key.logistic(32, dtype),
                "cauchy" => key.cauchy(32, dtype),
                other => panic!("unknown case `{other}`"),
            };
            let (got, expected) = both_bits(&got.unwrap(), expected);
            assert_eq!(got.len(), expected.len());
            // The tangent and the `f64` functions come from the platform's library.
            let units = if case == "cauchy" || dtype == DType::F64 { 25 } else { 0 };
            for (got, expected) in got.into_iter().zip(expected) {
                assert!(got.abs_diff(expected) <= units, "{case}, {name}: {got:x}, not {expected:x}");
            }
        }
    }
}

#[test]
fn bits_of_every_width() {
    let key = Key::from(42);
    let of = |n: usize, dtype| integers(&key.bits_of(n, dtype).unwrap());
    assert_eq!(of(7, DType::U8), flat(&golden()["bits42"]["u8_7"]));
    assert_eq!(of(7, DType::U32), flat(&golden()["bits42"]["u32_7"]));
    let unsigned: Vec<i64> = of(7, DType::I16).into_iter().map(|x| (x as u16).into()).collect();
    assert_eq!(unsigned, flat(&golden()["bits42"]["u16_7"]));
    let unsigned: Vec<i64> = of(7, DType::I32).into_iter().map(|x| (x as u32).into()).collect();
    assert_eq!(unsigned, flat(&golden()["bits42"]["u32_7"]));
    let unsigned: Vec<u64> = of(4, DType::I64).into_iter().map(|x| x as u64).collect();
    let expected = samplers_json()["bits_u64"].as_array().unwrap();
    assert_eq!(unsigned, expected.iter().map(|x| x.as_u64().unwrap()).collect::<Vec<_>>());
}

#[test]
fn gumbel_and_exponential() {
    let key = Key::from(42);
    assert_bits(key.gumbel(16, DType::F32).unwrap(), &golden()["gumbel42"]);
    assert_bits(key.exponential(16, DType::F32).unwrap(), &golden()["exponential42"]);
}

#[test]
fn rademacher() {
    for dtype in [DType::I16, DType::I32, DType::I64, DType::BF16, DType::F16, DType::F32, DType::F64] {
        let got = Key::from(42).rademacher(32, dtype).unwrap();
        assert_eq!(got.dtype(), dtype);
        let got = got.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        let got: Vec<i64> = got.into_iter().map(|x| x as i64).collect();
        // The types that only JAX's 64-bit mode has are drawn from 64 bits.
        let x64 = matches!(dtype, DType::I64 | DType::F64);
        let expected = if x64 { "rademacher_x64" } else { "rademacher" };
        assert_eq!(got, flat(&samplers_json()[expected]), "{dtype:?}");
    }
}

#[test]
fn randint() {
    let key = Key::from(42);
    let of = |low, high, dtype| integers(&key.randint(16, low, high, dtype).unwrap());
    let expected = &golden()["randint42"];
    assert_eq!(of(0, 10, DType::I32), flat(&expected["0_10"]));
    assert_eq!(of(0, 10, DType::U32), flat(&expected["0_10"]));
    assert_eq!(of(-5, 1_000_003, DType::I32), flat(&expected["-5_1000003"]));
    assert_eq!(of(0, 256, DType::U8), flat(&expected["u8_0_256"]));
    for case in samplers_json()["randint"].as_array().unwrap() {
        let dtype = match case["dtype"].as_str().unwrap() {
            "uint8" => DType::U8,
            "int16" => DType::I16,
            "uint32" => DType::U32,
            "int32" => DType::I32,
            _ => DType::I64,
        };
        let (low, high) = (case["low"].as_i64().unwrap(), case["high"].as_i64().unwrap());
        let got = key.randint(12, low, high, dtype).unwrap();
        assert_eq!(got.dtype(), dtype);
        assert_eq!(integers(&got), flat(&case["out"]), "{low} to {high} of {dtype:?}");
    }
    // All 2^32 values: the unchanged words of the second key.
    let all = of(i32::MIN.into(), 1 << 31, DType::I32);
    let words = integers(&key.split2()[1].bits(16).unwrap());
    let expected: Vec<i64> = words.into_iter().map(|word| word + i64::from(i32::MIN)).collect();
    assert_eq!(all, expected);
}

#[test]
fn permutation() {
    let key = Key::from(42);
    let of = |n| integers(&key.permutation(n).unwrap());
    for (n, expected) in golden()["permutation42"].as_object().unwrap() {
        assert_eq!(of(n.parse().unwrap()), flat(expected));
    }
    assert_eq!(of(2000)[..32], flat(&samplers_json()["permutation_2000"]));
    assert_eq!((of(0), of(1)), (vec![], vec![0]));
    let mut sorted = of(2000);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..2000).collect::<Vec<_>>());
}

#[test]
fn choice() {
    let key = Key::from(42);
    let of =
        |n, draws: usize, replace, p: Option<&[f32]>| integers(&key.choice(n, draws, replace, p).unwrap());
    let expected = &golden()["choice42"];
    assert_eq!(of(10, 8, true, None), flat(&expected["10_replace_8"]));
    assert_eq!(of(10, 5, false, None), flat(&expected["10_noreplace_5"]));
    assert_eq!(of(4, 16, true, Some(&[0.1, 0.2, 0.3, 0.4])), flat(&expected["p"]));
    let weights: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 17) / 3.).collect();
    assert_eq!(of(1000, 32, true, Some(&weights)), flat(&samplers_json()["choice_1000"]));
    assert_eq!(of(1000, 32, false, Some(&weights)), flat(&samplers_json()["choice_1000_once"]));
    // No draws from an empty population; probability 0 is drawn last.
    assert_eq!(key.choice(0, (2, 0), true, None).unwrap().dims(), [2, 0]);
    assert_eq!(of(3, 3, false, Some(&[0., 1., 0.])), [1, 0, 2]);
    assert_eq!(key.choice(5, (2, 2), false, None).unwrap().dims(), [2, 2]);
}

#[test]
fn categorical() {
    let key = Key::from(42);
    let logits = Tensor::new(&[[0.1f32, -1., 2., 0.5], [1.; 4]], &Device::Cpu).unwrap();
    let got = key.categorical(&logits, D::Minus1, 8).unwrap();
    assert_eq!((got.dims(), got.dtype()), (&[8, 2][..], DType::U32));
    assert_eq!(integers(&got), flat(&golden()["categorical42"]["out"]));

    let rows = [[0.1, -1., 2., 0.5], [1., f32::NAN, 1., f32::NAN], [f32::NEG_INFINITY; 4]];
    let odd = Tensor::new(&rows, &Device::Cpu).unwrap();
    for (axis, name) in [(0, "categorical_axis_0"), (1, "categorical_axis_1")] {
        assert_eq!(integers(&key.categorical(&odd, axis, ()).unwrap()), flat(&samplers_json()[name]));
    }
    // A non-contiguous view.
    let turned = key.categorical(&odd.t().unwrap().contiguous().unwrap().t().unwrap(), 1, ()).unwrap();
    assert_eq!(integers(&turned), flat(&samplers_json()["categorical_axis_1"]));

    let flat_logits = |dtype| Tensor::zeros((3, 4), dtype, &Device::Cpu).unwrap();
    for (dtype, axis, name) in [
        (DType::F32, 0, "categorical_many"),
        (DType::BF16, 1, "categorical_bf16"),
        (DType::F16, 1, "categorical_f16"),
    ] {
        let got = key.categorical(&flat_logits(dtype), axis, 5).unwrap();
        assert_eq!(integers(&got), flat(&samplers_json()[name]), "{name}");
    }
}

#[test]
fn special_arguments() {
    let key = Key::from(0);
    for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
        let floats = |tensor: Tensor| tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(floats(key.uniform_between(9, dtype, 3., 2.).unwrap()), [3.; 9]);
        assert!(floats(key.uniform_between(9, dtype, f64::NAN, 2.).unwrap()).iter().all(|x| x.is_nan()));
        assert!(floats(key.uniform_between(9, dtype, 0., f64::NAN).unwrap()).iter().all(|x| x.is_nan()));
        assert!(floats(key.truncated_normal(f64::NAN, 1., 9, dtype).unwrap()).iter().all(|x| x.is_nan()));
        let whole = floats(key.truncated_normal(f64::NEG_INFINITY, f64::INFINITY, 9, dtype).unwrap());
        assert!(whole.iter().all(|x| x.is_finite()));
        assert!(floats(key.truncated_normal(2., 1., 9, dtype).unwrap()).iter().all(|x| *x < 1.));
        assert_eq!(key.cauchy((2, 0), dtype).unwrap().dims(), [2, 0]);
    }
    assert_eq!(integers(&key.randint(3, 7, 7, DType::I64).unwrap()), [7; 3]);
    assert_eq!(integers(&key.randint(3, 300, 400, DType::U8).unwrap()), [255; 3]);
    assert_eq!(integers(&key.bernoulli(-1., 3).unwrap()), [0; 3]);
    for mode in [SampleMode::Low, SampleMode::High] {
        assert_eq!(integers(&key.bernoulli_with(-1., 3, mode).unwrap()), [0; 3]);
        assert_eq!(integers(&key.bernoulli_with(2., 3, mode).unwrap()), [1; 3]);
    }
    // Just below a bound of 0 is -0 in XLA, and in f16 the smallest negative number.
    for (dtype, below) in [
        (DType::BF16, "8000"),
        (DType::F16, "8001"),
        (DType::F32, "80000000"),
        (DType::F64, "8000000000000000"),
    ] {
        let (got, expected) =
            both_bits(&key.truncated_normal(1., 0., 1, dtype).unwrap(), &serde_json::json!([below]));
        assert_eq!(got, expected, "{dtype:?}");
    }
    // Without draws, probabilities are not checked.
    assert_eq!(key.choice(3, (2, 0), true, Some(&[1.])).unwrap().dims(), [2, 0]);
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(key.choice_of(&none, 0, false, None, 0).unwrap().dims(), [0, 3]);
    assert_eq!(key.permutation_of(&none, 0, false).unwrap().dims(), [0, 3]);
    assert_eq!(key.permutation_of(&none, 1, true).unwrap().dims(), [0, 3]);
    assert_eq!(key.categorical(&none, 1, 2).unwrap().dims(), [2, 0]);
    let empty = key.categorical_with(&none, 0, (0, 3), false, SampleMode::Low).unwrap();
    assert_eq!(empty.dims(), [0, 3]);
    assert_eq!(key.orthogonal(0, (), DType::F16, Some(3)).unwrap().dims(), [0, 3]);
    assert_eq!(key.split(0), []);
}

/// As XLA's `top_k`: NaN first, negative NaN last, ties in order.
#[test]
fn categories_without_replacement_of_special_logits() {
    let picked = |logits: [f32; 4]| {
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        integers(&Key::from(42).categorical_with(&logits, 0, 4, false, SampleMode::Low).unwrap())
    };
    // jax.random.categorical(PRNGKey(42), logits, shape=(4,), replace=False)
    assert_eq!(picked([1., f32::NAN, 2., f32::NAN]), [1, 3, 2, 0]);
    assert_eq!(picked([1., -f32::NAN, 2., f32::NAN]), [3, 2, 0, 1]);
    assert_eq!(picked([f32::NEG_INFINITY, 0., f32::NEG_INFINITY, 0.]), [1, 3, 0, 2]);
}

#[test]
fn seeds_of_any_size() {
    for seed in [0, -1, i128::from(i64::MIN), i128::from(i64::MAX), (1 << 40) + 7] {
        assert_eq!(Key::try_from(seed).unwrap(), Key::from(seed as i64));
    }
    for seed in [1 << 63, i128::from(i64::MIN) - 1, i128::MAX] {
        assert_eq!(Key::try_from(seed).unwrap_err().kind(), ErrorKind::Argument);
    }
    // As a numpy.uint64 with the same bits.
    assert_eq!(Key::from(u64::MAX - 4).words(), [0, u32::MAX - 4]);
}

#[test]
fn bad_arguments() {
    let error = Key::from(0).normal(3, DType::U32).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DType);
    assert_eq!(Key::from(0).bernoulli(f64::NAN, 3).unwrap_err().kind(), ErrorKind::Argument);
    let three_words = Tensor::new(&[1u32, 2, 3], &Device::Cpu).unwrap();
    assert_eq!(Key::from_tensor(&three_words).unwrap_err().kind(), ErrorKind::Shape);
    let key = Key::from(0);
    for integer in [
        key.uniform(3, DType::I64),
        key.gumbel(3, DType::U8),
        key.bits_of(3, DType::F32),
        key.randint(3, 0, 9, DType::F32),
        key.rademacher(3, DType::U8),
        key.categorical(&three_words, 0, ()),
        key.gumbel_with(3, DType::U8, SampleMode::Low),
        key.gumbel_with(3, DType::U8, SampleMode::High),
        key.truncated_normal(0., 1., 3, DType::I64),
        key.orthogonal(3, (), DType::I64, None),
        key.orthogonal(3, (), DType::F16, None),
        key.orthogonal(3, (), DType::BF16, None),
    ] {
        assert_eq!(integer.unwrap_err().kind(), ErrorKind::DType);
    }
    let logits = Tensor::zeros((3, 0), DType::F32, &Device::Cpu).unwrap();
    let low = SampleMode::Low;
    for error in [
        key.bernoulli_with(f64::NAN, 3, SampleMode::High),
        key.categorical(&logits, 1, ()),
        key.categorical(&logits, 1, 0),
        key.categorical_with(&logits, 1, 3, false, low),
        key.categorical_with(&logits, 1, (usize::MAX, 2, 3), true, low),
        key.orthogonal(usize::MAX, (), DType::F32, None),
        key.categorical_with(&logits.t().unwrap(), 1, (4, 0), false, low),
        key.choice(0, 1, true, None),
        key.choice(0, 1, true, Some(&[])),
        key.choice(3, 4, false, None),
        key.choice(3, 4, false, Some(&[1.; 3])),
        key.choice(3, 4, true, Some(&[1.; 4])),
        key.choice(2, 4, true, Some(&[1., f32::NAN])),
        key.choice(2, 4, true, Some(&[1., -0.5])),
        key.choice(2, 4, true, Some(&[0.; 2])),
        key.choice(2, 4, true, Some(&[f32::MAX; 2])),
        key.permutation(usize::MAX),
        key.uniform(usize::MAX, DType::F32),
        key.uniform((usize::MAX, 2), DType::F32),
    ] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Argument);
    }
    assert!(key.categorical(&logits, 2, ()).is_err());
    assert!(key.permutation_of(&logits, 2, false).is_err());
    assert!(key.permutation_of(&logits.get(0).unwrap().sum(0).unwrap(), 0, false).is_err());
    assert!(key.choice_of(&logits, 2, true, None, 2).is_err());
    // One row of logits broadcasts to any number of draws, but only with replacement.
    let row = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(key.categorical_with(&row, 1, (2, 4), true, low).unwrap().dims(), [2, 4]);
    for (shape, replace) in [(vec![2, 4], false), (vec![], true)] {
        let error = key.categorical_with(&row, 1, shape, replace, low).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
    let error = key.choice(3, 4, false, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "`choice` without replacement runs out of numbers: expected at most 3 draws, found 4; draw fewer, or \
         with replacement"
    );
}

#[test]
fn functions_equal_xla_bit_for_bit() {
    for (name, function) in
        [("erf_inv", xla_math::erf_inv as fn(f32) -> f32), ("log1p", xla_math::log1p), ("log", xla_math::log)]
    {
        let (x, y) = (hex(&golden()[name]["x"]), hex(&golden()[name]["y"]));
        for (x, y) in x.into_iter().zip(y) {
            assert_eq!(function(x).to_bits(), y.to_bits(), "{name}({x}) = {}, not {y}", function(x));
        }
    }
}
