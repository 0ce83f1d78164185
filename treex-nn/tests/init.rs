//! Initial values, bit for bit, against those of JAX, Flax and treex: `fixtures/initializers.json` and
//! `fixtures/init.json`, written by the scripts beside them, and treex-core's `flax.json`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use candle_core::{DType, Shape, Tensor};
use serde_json::Value;
use sha1::Digest as _;
use treex_core::{ErrorKind, Key, Leaf, Result, prelude::*};
use treex_nn::initializers::{
    Distribution, FanMode, Orthogonal, TruncatedNormal, VarianceScaling, constant, delta_orthogonal, normal,
    ones, ones_init, orthogonal, truncated_normal, uniform, zeros, zeros_init,
};
use treex_nn::*;
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::usize_of;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../treex-core/tests/fixtures/flax.json")).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<String> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(|value| format!("{:08x}", value.to_bits())).collect()
}

fn assert_bits(got: &Tensor, want: &Value, what: &str) {
    let want: Vec<&str> = want.as_array().unwrap().iter().map(|bits| bits.as_str().unwrap()).collect();
    assert_eq!(bits(got), want, "{what}");
}

/// Any initializer.
type AnyInit<'i> = dyn Fn(&Key, &Shape, DType) -> Result<Tensor> + 'i;
type Init<'i> = &'i AnyInit<'i>;

/// What Flax folds into a module's key for its first and second parameter, when the module is at the top:
/// the beginning of the SHA-1 of the byte 1, and of the byte 2.
const FLAX_COUNTERS: [u32; 2] = [3_213_575_472, 3_303_678_395];

/// The initializer of a case, from its name and its arguments in JAX.
fn initializer(name: &str, arguments: &Value) -> Box<AnyInit<'static>> {
    let number = |argument: &str, default: f64| arguments[argument].as_f64().unwrap_or(default);
    let axes = |argument: &str, default: &[isize]| -> Vec<isize> {
        serde_json::from_value(arguments[argument].clone()).unwrap_or(default.to_vec())
    };
    let with_axes = |init: VarianceScaling| {
        let init = init.in_axis(axes("in_axis", &[-2])).out_axis(axes("out_axis", &[-1]));
        Box::new(init.batch_axis(axes("batch_axis", &[])).build())
    };
    let matrix = || {
        Orthogonal::new(number("scale", 1.)).column_axis(arguments["column_axis"].as_i64().unwrap() as isize)
    };
    match name {
        "zeros" => Box::new(zeros_init()),
        "ones" => Box::new(ones_init()),
        "constant" => Box::new(constant(number("value", f64::NAN))),
        "uniform" => Box::new(uniform(number("scale", f64::NAN))),
        "normal" => Box::new(normal(number("stddev", f64::NAN))),
        "truncated_normal" if arguments["lower"].is_null() => {
            Box::new(truncated_normal(number("stddev", f64::NAN)))
        }
        "truncated_normal" => {
            let init = TruncatedNormal::new(number("stddev", f64::NAN));
            Box::new(init.lower(number("lower", f64::NAN)).upper(number("upper", f64::NAN)).build())
        }
        "orthogonal" => Box::new(matrix().build()),
        "delta_orthogonal" => Box::new(matrix().build_delta()),
        "variance_scaling" => {
            let mode = match arguments["mode"].as_str().unwrap() {
                "fan_in" => FanMode::FanIn,
                "fan_out" => FanMode::FanOut,
                "fan_avg" => FanMode::FanAvg,
                "fan_geo_avg" => FanMode::FanGeoAvg,
                other => panic!("no mode {other}"),
            };
            let distribution = match arguments["distribution"].as_str().unwrap() {
                "normal" => Distribution::Normal,
                "truncated_normal" => Distribution::TruncatedNormal,
                "uniform" => Distribution::Uniform,
                other => panic!("no distribution {other}"),
            };
            with_axes(VarianceScaling::new(number("scale", f64::NAN), mode, distribution))
        }
        named => {
            let plain = arguments.as_object().unwrap().is_empty();
            macro_rules! named {
                ($($name:ident)*) => {
                    match named {
                        $(stringify!($name) if plain => Box::new($name()),)*
                        $(stringify!($name) => with_axes(VarianceScaling::$name()),)*
                        other => panic!("no initializer {other}"),
                    }
                };
            }
            named! {
                glorot_uniform glorot_normal lecun_uniform lecun_normal he_uniform he_normal
                xavier_uniform xavier_normal kaiming_uniform kaiming_normal
            }
        }
    }
}

/// The numbers' bytes, row-major and little-endian.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    fn of<T: candle_core::WithDType, const N: usize>(tensor: &Tensor, bytes: fn(T) -> [u8; N]) -> Vec<u8> {
        tensor.to_vec1::<T>().unwrap().into_iter().flat_map(bytes).collect()
    }
    let flat = &tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::U8 => of(flat, u8::to_le_bytes),
        DType::I32 => of(flat, i32::to_le_bytes),
        DType::BF16 => of(flat, half::bf16::to_le_bytes),
        DType::F16 => of(flat, half::f16::to_le_bytes),
        DType::F32 => of(flat, f32::to_le_bytes),
        DType::F64 => of(flat, f64::to_le_bytes),
        other => panic!("no numbers of {other:?}"),
    }
}

#[test]
fn initializers_as_in_jax() -> Result<()> {
    let fixture = fixture!("initializers.json");
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for case in fixture["cases"].as_array().unwrap() {
        let [name, arguments, key, dtype, shape, digest, values] = case.as_array().unwrap().as_slice() else {
            panic!("a case has seven parts: {case}");
        };
        let (name, dtype) = (name.as_str().unwrap(), dtype.as_str().unwrap().parse().unwrap());
        let key = Key::from_words(serde_json::from_value(key.clone()).unwrap());
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        let got = initializer(name, arguments)(&key, &shape.clone().into(), dtype)?;
        assert_eq!((got.dims(), got.dtype()), (&*shape, dtype), "{case}");
        assert!(got.is_contiguous(), "{case}");
        names.insert(name);
        if let Some(digest) = digest.as_str() {
            let sha = sha1::Sha1::digest(bytes(&got));
            if sha.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>() != digest {
                wrong.push(case.to_string());
            }
            continue;
        }
        // Through a factorization 1e-6 of the scale, in `F64` 1e-12; the logarithms of `F64` leave 25 units in the last place.
        let scale = arguments["scale"].as_f64().unwrap_or(1.).abs();
        let is_close = |got: f64, expected: f64| match (name.contains("orthogonal"), dtype) {
            (true, DType::F32) => (got - expected).abs() < 1e-6 * scale,
            (true, _) => (got - expected).abs() < 1e-12,
            (false, _) => (got - expected).abs() <= 26. * f64::EPSILON * expected.abs(),
        };
        let values: Vec<f64> = serde_json::from_value(values.clone()).unwrap();
        let stride = got.elem_count() / 48 + 1;
        let got = got.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let got: Vec<f64> = got.into_iter().step_by(stride).collect();
        assert_eq!(got.len(), values.len(), "{case}");
        if !got.iter().zip(&values).all(|(got, expected)| is_close(*got, *expected)) {
            wrong.push(format!("{case}: {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {names:?}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(names.len(), 19, "{names:?}");
    Ok(())
}

/// Unusual arguments give JAX's results.
#[test]
fn unusual_arguments() -> Result<()> {
    let numbers = |init: Init<'_>, dtype| -> Result<Vec<f64>> {
        let tensor = init(&Key::from(42), &(3, 4).into(), dtype)?;
        Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let scaling = |scale, distribution| variance_scaling(scale, FanMode::FanIn, distribution);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let nan: [Init<'_>; 9] = [
            &constant(f64::NAN),
            &uniform(f64::NAN),
            &normal(f64::NAN),
            &truncated_normal(f64::NAN),
            &TruncatedNormal::new(1.).lower(f64::NAN).build(),
            &scaling(f64::NAN, Distribution::Normal),
            &scaling(-1., Distribution::Normal),
            &scaling(-1., Distribution::TruncatedNormal),
            &scaling(-1., Distribution::Uniform),
        ];
        for (index, init) in nan.into_iter().enumerate() {
            assert!(numbers(init, dtype)?.iter().all(|x| x.is_nan()), "{index} in {dtype:?}");
        }
        let turned: Vec<f64> = numbers(&normal(-1.), dtype)?.into_iter().map(|x| -x).collect();
        assert_eq!(numbers(&normal(1.), dtype)?, turned);
        let cut = numbers(&TruncatedNormal::new(1.).lower(2.).upper(1.).build(), dtype)?;
        assert!(cut.iter().all(|x| *x == cut[0] && *x < 1. && *x > 0.99), "{cut:?}");
    }
    assert!(numbers(&orthogonal(f64::NAN), DType::F32)?.iter().all(|x| x.is_nan()));
    assert_eq!(numbers(&constant(f64::NAN), DType::I32)?, [0.; 12]);
    Ok(())
}

#[test]
fn bad_arguments() -> Result<()> {
    let kind = |init: Init<'_>, shape: &[usize], dtype| {
        init(&Key::from(42), &shape.to_vec().into(), dtype).unwrap_err().kind()
    };
    let axes = |inputs: &[isize], batch: &[isize]| {
        VarianceScaling::he_normal().in_axis(inputs).batch_axis(batch).build()
    };
    let shapes: [(Init<'_>, &[usize]); 16] = [
        (&lecun_normal(), &[3]),
        (&lecun_normal(), &[]),
        (&lecun_normal(), &[0, 4]),
        (&lecun_normal(), &[3, 0]),
        (&glorot_uniform(), &[0, 3, 4]),
        (&axes(&[5], &[]), &[3, 4]),
        (&axes(&[-3], &[]), &[3, 4]),
        (&axes(&[0], &[7]), &[3, 4]),
        (&orthogonal(1.), &[3]),
        (&orthogonal(1.), &[]),
        (&Orthogonal::new(1.).column_axis(2).build(), &[3, 4]),
        (&Orthogonal::new(1.).column_axis(-3).build_delta(), &[3, 3, 4]),
        (&delta_orthogonal(1.), &[3, 4]),
        (&delta_orthogonal(1.), &[1, 1, 1, 1, 3, 4]),
        (&delta_orthogonal(1.), &[3, 5, 4]),
        (&delta_orthogonal(1.), &[0, 3, 4]),
    ];
    for (index, (init, shape)) in shapes.into_iter().enumerate() {
        assert_eq!(kind(init, shape, DType::F32), ErrorKind::Shape, "{index}: {shape:?}");
    }
    let random: [Init<'_>; 6] = [
        &uniform(1.),
        &normal(1.),
        &truncated_normal(1.),
        &he_normal(),
        &orthogonal(1.),
        &delta_orthogonal(1.),
    ];
    for (index, init) in random.into_iter().enumerate() {
        assert_eq!(kind(init, &[1, 3, 4], DType::I64), ErrorKind::DType, "{index}");
    }
    for dtype in [DType::F16, DType::BF16] {
        assert_eq!(kind(&orthogonal(1.), &[3, 4], dtype), ErrorKind::DType);
        assert_eq!(kind(&delta_orthogonal(1.), &[3, 3, 4], dtype), ErrorKind::DType);
    }
    // An empty shape gives an empty tensor, of any type.
    assert_eq!(orthogonal(1.)(&Key::from(0), &(0, 3).into(), DType::I64)?.dims(), [0, 3]);

    let error = Linear::new(3, 4).bias_init(he_normal()).init(0, device()).unwrap_err().to_string();
    assert!(error.contains("at `bias`") && error.contains("found shape [4]; use `zeros`"), "{error}");
    let error = Linear::new(3, 4).param_dtype(DType::U32).init(0, device()).unwrap_err().to_string();
    assert!(error.contains("at `kernel`") && error.contains("`u32`"), "{error}");
    let error = Linear::new(4, 3).kernel_init(orthogonal(1.)).param_dtype(DType::BF16);
    let error = error.init(0, device()).unwrap_err().to_string();
    assert!(error.contains("at `kernel`") && error.contains("draw `f32`"), "{error}");
    Ok(())
}

/// Python treex with today's JAX and Flax.
#[test]
fn layers_as_in_treex() -> Result<()> {
    let golden = &golden()["treex_0.2.2"]["modern_prng_and_flax_0.12.8"];
    let mlp = Mlp::new([1, 12, 8, 1]).init(42, device())?;
    for (index, (layer, golden)) in
        mlp.layers.iter().zip(golden["mlp_1_12_8_1_init42"].as_array().unwrap()).enumerate()
    {
        assert_bits(&layer.kernel.get()?, &golden["kernel"], &format!("kernel {index}"));
        assert_bits(&Leaf::get_optional(&layer.bias)?.unwrap(), &golden["bias"], &format!("bias {index}"));
    }
    let linear = Linear::new(3, 4).init(42, device())?;
    assert_bits(&linear.kernel.get()?, &golden["linear_3_4_init42"], "linear");
    let conv = Conv::new(3, 4, [3, 3]).init(1, device())?;
    assert_bits(&conv.kernel.get()?, &golden["conv_3_4_k33_init1"], "conv");
    let dropout = Dropout::new(0.5).init(42, device())?;
    let words: Vec<u32> = serde_json::from_value(golden["dropout_rng_init42"].clone()).unwrap();
    assert_eq!(dropout.rng.get()?.to_vec1::<u32>()?, words);
    Ok(())
}

/// Flax folds the key of a layer at the top as it is; here a layer's key comes out of a chain. So the fixture
/// checks the initializers under Flax's keys, and this way of deriving them is checked against `init`.
#[test]
fn layers_as_in_flax() -> Result<()> {
    let fixture = fixture!("init.json");
    for case in fixture["cases"].as_array().unwrap() {
        let config = |key: &str| usize_of(&case["config"][key]);
        let words: [u32; 2] = serde_json::from_value(case["key"].clone()).unwrap();
        let (init, names, layer): (Init<'_>, _, Box<dyn Module>) = match case["layer"].as_str().unwrap() {
            "Linear" => {
                let layer = Linear::new(config("in"), config("features"));
                (&lecun_normal(), ["kernel", "bias"], Box::new(layer))
            }
            "Conv" => {
                let size = case["config"]["kernel_size"].as_array().unwrap();
                let size: Vec<usize> = size.iter().map(usize_of).collect();
                let layer = Conv::new(config("in"), config("features"), size);
                (&lecun_normal(), ["kernel", "bias"], Box::new(layer))
            }
            "BatchNorm" => (&ones, ["scale", "bias"], Box::new(BatchNorm::new(config("features")))),
            other => panic!("no layer {other}"),
        };
        let inits = [init, &zeros];
        let layer = layer.init(Key::from_words(words), device())?;
        let leaves = layer.leaves();
        let stats = case["stats"].as_object().unwrap();
        assert_eq!(leaves.len(), names.len() + stats.len());
        for (position, (path, _, leaf)) in leaves.iter().enumerate() {
            let (name, value) = (path.to_string(), leaf.value().unwrap());
            if position >= names.len() {
                assert_bits(value, &stats[&name]["bits"], &name);
                continue;
            }
            assert_eq!(name, names[position]);
            let golden = &case["params"][&name];
            let shape: Vec<usize> = golden["shape"].as_array().unwrap().iter().map(usize_of).collect();
            assert_eq!(value.dims(), shape);
            let counter = FLAX_COUNTERS[position];
            let as_flax =
                inits[position](&Key::from_words(words).fold_in(counter), &shape.clone().into(), DType::F32)?;
            assert_bits(&as_flax, &golden["bits"], &name);
            let chained = Key::from_words(words).split2()[0].fold_in(counter);
            assert_eq!(bits(value), bits(&inits[position](&chained, &shape.into(), DType::F32)?), "{name}");
        }
    }
    Ok(())
}
