//! Initial values, bit for bit, against numbers that JAX, Flax and treex printed: `fixtures/init.json`, written
//! by `init.py` beside it, and treex-core's `flax.json`.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use treex_core::{Key, Result, prelude::*};
use treex_nn::initializers::{
    Distribution, FanMode, InitFn, VarianceScaling, constant, normal, ones, truncated_normal, uniform, zeros,
};
use treex_nn::*;

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
type Init<'i> = &'i dyn Fn(&Key, &candle_core::Shape, DType) -> Result<Tensor>;

/// What Flax folds into a module's key for its first and second parameter, when the module is at the top:
/// the beginning of the SHA-1 of the byte 1, and of the byte 2.
const FLAX_COUNTERS: [u32; 2] = [3_213_575_472, 3_303_678_395];

#[test]
fn initializers_as_in_jax() -> Result<()> {
    let golden = &golden()["initializers_key42"];
    let check =
        |name: &str, init: &dyn Fn(&Key, &candle_core::Shape, DType) -> Result<Tensor>| -> Result<()> {
            for (shape, text) in [(vec![4, 6], "4x6"), (vec![2, 2, 3, 4], "2x2x3x4")] {
                let got = init(&Key::from(42), &shape.clone().into(), DType::F32)?;
                assert_eq!(got.dims(), shape, "{name}");
                assert_bits(&got, &golden[name][text], &format!("{name} {text}"));
            }
            Ok(())
        };
    check("lecun_normal", &lecun_normal())?;
    check("lecun_uniform", &lecun_uniform())?;
    check("he_normal", &he_normal())?;
    check("he_normal", &kaiming_normal())?;
    check("he_uniform", &he_uniform())?;
    check("he_uniform", &kaiming_uniform())?;
    check("glorot_normal", &glorot_normal())?;
    check("glorot_normal", &xavier_normal())?;
    check("glorot_uniform", &glorot_uniform())?;
    check("glorot_uniform", &xavier_uniform())?;
    check("normal_0p02", &normal(0.02))?;
    check("truncated_normal_0p02", &truncated_normal(0.02))?;
    check("uniform_0p05", &uniform(0.05))?;
    check("vs_1p7_fan_geo_avg_normal", &variance_scaling(1.7, FanMode::FanGeoAvg, Distribution::Normal))?;
    check("embed", &VarianceScaling::new(1., FanMode::FanIn, Distribution::Normal).out_axis([0]).build())
}

#[test]
fn constants() -> Result<()> {
    fn values(init: impl InitFn, dtype: DType) -> Result<Vec<f64>> {
        let tensor = init(&Key::from(0), &3.into(), dtype)?;
        assert_eq!(tensor.dtype(), dtype);
        Ok(tensor.to_dtype(DType::F64)?.to_vec1()?)
    }
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        assert_eq!(values(zeros, dtype)?, [0.; 3]);
        assert_eq!(values(ones, dtype)?, [1.; 3]);
        assert_eq!(values(constant(-2.5), dtype)?, [-2.5; 3]);
    }
    Ok(())
}

#[test]
fn fan_out_and_batch_axes() -> Result<()> {
    // Uniform on the square root of 3 over n: the largest of many samples tells n.
    let n = |mode, batch: &[isize]| -> Result<f64> {
        let init = VarianceScaling::new(1., mode, Distribution::Uniform).batch_axis(batch).build();
        let largest =
            init(&Key::from(0), &(10, 16, 40).into(), DType::F32)?.abs()?.max_all()?.to_scalar::<f32>()?;
        Ok((3. / f64::from(largest).powi(2)).round())
    };
    assert_eq!(n(FanMode::FanIn, &[0])?, 16.);
    assert_eq!(n(FanMode::FanOut, &[0])?, 40.);
    assert_eq!(n(FanMode::FanAvg, &[-3])?, 28.);
    assert_eq!(n(FanMode::FanIn, &[])?, 160.);
    Ok(())
}

#[test]
fn no_fan() {
    let error = Linear::new(3, 4).bias_init(he_normal()).init(0, &Device::Cpu).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("at `bias`") && text.contains("found shape [4]; use `zeros`"), "{text}");
    let error = Linear::new(3, 4).param_dtype(DType::U32).init(0, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("at `kernel`") && error.contains("`u32`"), "{error}");
}

#[test]
fn half_precision_is_rounded_after_each_operation() -> Result<()> {
    let golden = golden();
    let golden = golden["initializers_key42"]["lecun_normal_bf16_4x6"].as_array().unwrap();
    let kernel = lecun_normal()(&Key::from(42), &(4, 6).into(), DType::BF16)?;
    let bits: Vec<String> = kernel
        .flatten_all()?
        .to_vec1::<half::bf16>()?
        .iter()
        .map(|x| format!("{:04x}", x.to_bits()))
        .collect();
    assert_eq!(bits, golden.iter().map(|x| x.as_str().unwrap()).collect::<Vec<_>>());
    Ok(())
}

/// Python treex with today's JAX and Flax.
#[test]
fn layers_as_in_treex() -> Result<()> {
    let golden = &golden()["treex_0.2.2"]["modern_prng_and_flax_0.12.8"];
    let mlp = Mlp::new([1, 12, 8, 1]).init(42, &Device::Cpu)?;
    for (index, (layer, golden)) in
        mlp.layers.iter().zip(golden["mlp_1_12_8_1_init42"].as_array().unwrap()).enumerate()
    {
        assert_bits(&layer.kernel.get()?, &golden["kernel"], &format!("kernel {index}"));
        assert_bits(&layer.bias.as_ref().unwrap().get()?, &golden["bias"], &format!("bias {index}"));
    }
    let linear = Linear::new(3, 4).init(42, &Device::Cpu)?;
    assert_bits(&linear.kernel.get()?, &golden["linear_3_4_init42"], "linear");
    let conv = Conv::new(3, 4, [3, 3]).init(1, &Device::Cpu)?;
    assert_bits(&conv.kernel.get()?, &golden["conv_3_4_k33_init1"], "conv");
    let dropout = Dropout::new(0.5).init(42, &Device::Cpu)?;
    let words: Vec<u32> = serde_json::from_value(golden["dropout_rng_init42"].clone()).unwrap();
    assert_eq!(dropout.rng.get()?.to_vec1::<u32>()?, words);
    Ok(())
}

/// Flax folds the key of a layer at the top as it is; here a layer's key comes out of a chain. So the fixture
/// checks the initializers under Flax's keys, and this way of deriving them is checked against `init`.
#[test]
fn layers_as_in_flax() -> Result<()> {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/init.json")).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let usize_of = |value: &Value| value.as_u64().unwrap() as usize;
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
        let layer = layer.init(Key::from_words(words), &Device::Cpu)?;
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
