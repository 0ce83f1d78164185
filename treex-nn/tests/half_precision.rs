//! Layers in half precision: products are summed in `F32` and rounded once, for one row as for many.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use treex_core::{BatchStat, Key, Leaf, MixedPrecision, Parameter, Result, prelude::*};
use treex_nn::{
    AttentionOptions, BatchNorm, Conv, ConvLocal, ConvTranspose, DenseGeneral, Einsum, Embed, LayerNorm,
    Linear, MultiHeadDotProductAttention, dot_product_attention_weights, einsum, initializers,
};

/// A layer as a function of rows, `[rows, 512]`.
type Layer = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

fn layers(dtype: DType) -> Result<Vec<(&'static str, Layer)>> {
    fn of<M: Tree + 'static>(
        model: M,
        dtype: DType,
        f: impl Fn(&mut M, &Tensor) -> Result<Tensor> + 'static,
    ) -> Result<Layer> {
        let mut model = model.init(7, &Device::Cpu)?.into_dtype(dtype)?;
        Ok(Box::new(move |x| f(&mut model, x)))
    }
    let key = Key::from(3).normal((512, 9), DType::F32)?.to_dtype(dtype)?;
    let image = |x: &Tensor| x.reshape((x.dim(0)?, 4, 4, 32));
    Ok(vec![
        ("Linear", of(Linear::new(512, 40), dtype, |layer, x| layer.call(x))?),
        ("Linear to one", of(Linear::new(512, 1).use_bias(false), dtype, |layer, x| layer.call(x))?),
        ("Einsum", of(Einsum::new((40, 512), "ab,cb->ac"), dtype, |layer, x| layer.call(x))?),
        (
            "DenseGeneral",
            of(DenseGeneral::new((8, 64), (4, 5)).axis([-2, -1]), dtype, |layer, x| {
                layer.call(&x.reshape((x.dim(0)?, 8, 64))?)
            })?,
        ),
        (
            "DenseGeneral, the first axis",
            of(DenseGeneral::new(512, 5).axis([1]), dtype, |layer, x| layer.call(&x.unsqueeze(2)?))?,
        ),
        (
            "ConvLocal",
            of(ConvLocal::new([4, 4, 32], 5, [3, 3]), dtype, move |layer, x| layer.call(&image(x)?))?,
        ),
        ("Conv", of(Conv::new(32, 20, [3, 3]), dtype, move |layer, x| layer.call(&image(x)?))?),
        (
            "ConvTranspose",
            of(ConvTranspose::new(32, 5, [3, 3]), dtype, move |layer, x| layer.call(&image(x)?))?,
        ),
        ("Embed", of(Embed::new(30, 512), dtype, |layer, x| layer.attend(x))?),
        (
            "attention",
            of(MultiHeadDotProductAttention::new(2, 64), dtype, |layer, x| {
                layer.call(&x.reshape((x.dim(0)?, 8, 64))?)
            })?,
        ),
        (
            "attention weights",
            Box::new(|x| {
                let x = x.reshape((x.dim(0)?, 4, 2, 64))?;
                dot_product_attention_weights(&x, &x, &AttentionOptions::default())
            }),
        ),
        ("einsum", Box::new(move |x| einsum("ij,jk->ik", x, &key))),
    ])
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// And nowhere as far from the result in `F64` as a sum in half precision would be: Flax is within 2e-4 in `F16` (for
/// `Linear` of 4,096 numbers), Candle's product was wrong by 9.5e-3.
#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() -> Result<()> {
    // Of the largest number; some round an intermediate result too.
    for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 1.6e-2), (DType::F32, 2e-6)] {
        let x = Key::from(0).normal((11, 512), DType::F32)?.to_dtype(dtype)?;
        for ((name, mut layer), (_, mut exact)) in layers(dtype)?.into_iter().zip(layers(dtype)?) {
            let y = layer(&x)?;
            assert_eq!(y.dtype(), dtype, "{name}");
            let found = numbers(&y)?;
            let wide = numbers(&exact(&x.to_dtype(DType::F64)?).or_else(|_| layer(&x))?)?;
            let largest = wide.iter().fold(0f64, |largest, x| largest.max(x.abs()));
            let far = found.iter().zip(&wide).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
            assert!(far <= tolerance * largest, "{name} {dtype:?}: {far} of {largest}");
            if dtype == DType::F32 {
                continue;
            }
            for row in 0..11 {
                let alone = numbers(&layer(&x.narrow(0, row, 1)?)?)?;
                let size = alone.len();
                assert_eq!(alone, found[row * size..][..size], "{name} {dtype:?}: row {row}");
            }
        }
    }
    Ok(())
}

/// 3,000 numbers of 100 and -100 times ones, and 4,096 terms of one sign: a sum in `F16` is infinite, and wrong by 1 %.
#[test]
fn large_and_long_sums() -> Result<()> {
    let mut linear = Linear::new(3000, 2).kernel_init(initializers::ones).param_dtype(DType::F16);
    linear = linear.init(0, &Device::Cpu)?;
    let x: Vec<f32> = (0..3000).map(|at| if at < 1500 { 100. } else { -100. }).collect();
    let x = Tensor::new(x, &Device::Cpu)?.reshape((1, 3000))?.to_dtype(DType::F16)?;
    assert_eq!(numbers(&linear.call(&x)?)?, [0., 0.]);

    let x = Key::from(0).uniform((1, 4096), DType::F32)?.to_dtype(DType::F16)?;
    let mut linear = Linear::new(4096, 512).use_bias(false).init(1, &Device::Cpu)?;
    linear.kernel = Leaf::new(linear.kernel.get()?.abs()?.to_dtype(DType::F16)?)?;
    let found = numbers(&linear.call(&x)?)?;
    let wide = x.to_dtype(DType::F64)?.matmul(&linear.kernel.get()?.to_dtype(DType::F64)?)?;
    for (found, exact) in found.iter().zip(numbers(&wide)?) {
        // Half of a unit in the last place.
        assert!((found - exact).abs() <= exact * (0.5 / 1024. + 1e-6), "{found} {exact}");
    }
    Ok(())
}

/// A layer that computes in `bf16` by the model's policy has the bits of one that does by its own `dtype`, which are Flax's
/// (`tests/layers/dtypes.rs`), in value and statistics; gradients of the parameters, in `f32`, differ by a rounding.
#[test]
fn a_policy_is_the_dtype_of_each_layer() -> Result<()> {
    fn check<M: Module + Clone>(
        name: &str,
        model: M,
        own: impl FnOnce(M) -> M,
        shape: &[usize],
    ) -> Result<()> {
        let x = Key::from(5).normal(shape, DType::F32)?.to_dtype(DType::BF16)?;
        let run = |mut model: M, precision: Option<MixedPrecision>| -> Result<_> {
            let mut value = None;
            let (_, grads) = model.value_and_grad(Parameter, |model| {
                let y = match precision {
                    Some(precision) => {
                        let x = precision.input(&x)?;
                        precision.call(model, |model| model.call(&x))?
                    }
                    None => model.call(&x)?.to_dtype(DType::F32)?,
                };
                value = Some(y.detach());
                Ok(y.sqr()?.sum_all()?)
            })?;
            let tensors = grads.filter(Parameter).flatten().tensors().cloned().collect::<Vec<_>>();
            let state = model.filter(BatchStat).flatten().tensors().cloned().collect::<Vec<_>>();
            Ok(value.into_iter().chain(tensors).chain(state).collect::<Vec<_>>())
        };
        let model = model.init(7, &Device::Cpu)?;
        let gradients = model.filter(Parameter).flatten().tensors().count();
        let found = run(model.clone(), Some(MixedPrecision::new(DType::BF16)))?;
        let expected = run(own(model), None)?;
        assert_eq!(found.len(), expected.len(), "{name}");
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.dtype(), DType::F32, "{name}");
            let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (found, expected) = (numbers(found), numbers(expected));
            if (1..=gradients).contains(&index) {
                let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= largest / 128.;
                assert!(found.iter().zip(&expected).all(is_close), "{name}, gradient {index}");
            } else {
                assert_eq!(found, expected, "{name}, tensor {index}");
            }
        }
        Ok(())
    }
    check("Linear", Linear::new(30, 40), |layer| layer.dtype(DType::BF16), &[5, 30])?;
    check("Conv", Conv::new(3, 8, [3, 3]), |layer| layer.dtype(DType::BF16), &[2, 7, 6, 3])?;
    check("LayerNorm", LayerNorm::new(30), |layer| layer.dtype(DType::BF16), &[5, 30])?;
    check("BatchNorm", BatchNorm::new(30), |layer| layer.dtype(DType::BF16), &[50, 30])?;
    let attention = MultiHeadDotProductAttention::new(2, 16);
    check("attention", attention, |layer| layer.dtype(DType::BF16), &[2, 9, 16])
}

/// Steps that are smaller than the spacing of `bf16` are lost in it, and not in the parameters of a policy.
#[test]
fn small_steps_are_not_lost() -> Result<()> {
    let train = |dtype: DType, precision: Option<MixedPrecision>| -> Result<f32> {
        let mut model = Linear::new(4, 1).use_bias(false).init(0, &Device::Cpu)?.into_dtype(dtype)?;
        let x = Tensor::ones((1, 4), dtype, &Device::Cpu)?;
        let first = model.call(&x)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        for _ in 0..100 {
            let (_, grads) = model.value_and_grad(Parameter, |model| {
                let y = match precision {
                    Some(precision) => {
                        let x = precision.input(&x)?;
                        precision.call(model, |model| model.call(&x))?
                    }
                    None => model.call(&x)?,
                };
                Ok(y.sum_all()?)
            })?;
            model = model.zip_map(&grads, |p, g| Ok((p - (g * 1e-4)?)?))?;
        }
        Ok(model.call(&x)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()? - first)
    };
    assert_eq!(train(DType::BF16, None)?, 0., "each step is rounded away");
    let moved = train(DType::F32, Some(MixedPrecision::new(DType::BF16)))?;
    assert!((moved + 0.04).abs() < 1e-5, "{moved}");
    Ok(())
}
