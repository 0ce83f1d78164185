//! Attention.

use candle_core::{D, DType, Tensor};
use serde_json::Value;
use treex_core::autograd::storage_id;
use treex_core::{Key, Parameter, Result, Rngs, prelude::*};
use treex_nn::{
    AttentionOptions, MultiHeadAttention, MultiHeadDotProductAttention, Rotary, combine_masks,
    dot_product_attention, dot_product_attention_weights, initializers, make_attention_mask,
    make_causal_mask,
};
use treex_testing::fixture;
use treex_testing::{NO_ELEMENTS, device, skip};

use crate::case::{Case, Subject, assert_close, subject, tensor_of, usize_of};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/attention.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match case.layer.as_str() {
        "dot_product_attention" => {
            let (names, causal) = (names(case), case.bool("causal"));
            subject((), move |(), inputs| {
                let options = options(&names, causal, inputs);
                Ok(vec![dot_product_attention(&inputs[0], &inputs[1], &inputs[2], &options)?])
            })
        }
        "dot_product_attention_weights" => {
            let (names, causal) = (names(case), case.bool("causal"));
            subject((), move |(), inputs| {
                let options = options(&names, causal, inputs);
                Ok(vec![dot_product_attention_weights(&inputs[0], &inputs[1], &options)?])
            })
        }
        "Rotary" => {
            let (rotary, offset) = (rotary(case.config("rotary")), case.config("offset").as_u64());
            subject((), move |(), inputs| {
                Ok(vec![match offset {
                    Some(offset) => rotary.apply(&inputs[0], offset as usize)?,
                    None => rotary.apply_at(&inputs[0], &inputs[1])?,
                }])
            })
        }
        "MultiHeadDotProductAttention" if case.config("cache").is_null() => {
            let (count, masked) = (case.usize("inputs"), case.bool("mask"));
            subject(attention(case), move |layer, inputs| {
                let (inputs, mask) = inputs.split_at(count);
                let (key, value) = (inputs.get(1).unwrap_or(&inputs[0]), &inputs[count - 1]);
                Ok(vec![layer.call_with(&inputs[0], key, value, masked.then(|| &mask[0]))?])
            })
        }
        "MultiHeadDotProductAttention" => {
            let count = case.usize("inputs");
            subject(attention(case), move |layer, inputs| {
                let (steps, mask) = inputs.split_at(count);
                steps.iter().map(|x| layer.call_with(x, x, x, mask.first())).collect::<Result<Vec<_>>>()
            })
        }
        other => panic!("no layer {other}"),
    }
}

fn names(case: &Case) -> Vec<String> {
    let names = case.config("inputs").as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_string()).collect()
}

fn options(names: &[String], causal: bool, inputs: &[Tensor]) -> AttentionOptions {
    let find = |name| names.iter().position(|other| other == name).map(|index| inputs[index].clone());
    let mut options = AttentionOptions::default().causal(causal);
    (options.bias, options.mask) = (find("bias"), find("mask"));
    options
}

fn rotary(config: &Value) -> Rotary {
    let rotary = Rotary::new()
        .base(config["base"].as_f64().unwrap())
        .interleaved(config["interleaved"].as_bool().unwrap());
    match config["features"].as_u64() {
        Some(features) => rotary.features(features as usize),
        None => rotary,
    }
}

fn attention(case: &Case) -> MultiHeadDotProductAttention {
    let mut layer = MultiHeadDotProductAttention::new(case.usize("num_heads"), case.usize("features"))
        .kv_features(case.usize("kv_features"))
        .use_bias(case.bool("use_bias"))
        .normalize_qk(case.bool("normalize_qk"))
        .sow_weights(case.bool("sow_weights"));
    let size = |key| case.config(key).as_u64().map(|size| size as usize);
    if let Some(qkv_features) = size("qkv_features") {
        layer = layer.qkv_features(qkv_features);
    }
    if let Some(out_features) = size("out_features") {
        layer = layer.out_features(out_features);
    }
    if let Some(num_kv_heads) = size("num_kv_heads") {
        layer = layer.num_kv_heads(num_kv_heads);
    }
    if !case.config("rotary").is_null() {
        layer = layer.rotary(rotary(case.config("rotary")));
    }
    let cache = case.config("cache");
    if !cache.is_null() {
        let batch_dims: Vec<_> = cache["batch_dims"].as_array().unwrap().iter().map(usize_of).collect();
        layer.init_cache(&batch_dims, usize_of(&cache["max_length"])).unwrap();
    }
    layer
}

fn fixture_f32() -> Value {
    fixture!("layers/attention_f32.json")
}

fn tensors(value: &Value) -> Vec<Tensor> {
    value.as_array().unwrap().iter().map(|value| tensor_of(value, DType::F32)).collect()
}

#[test]
fn masks_as_in_flax() -> Result<()> {
    let fixture = fixture_f32();
    for case in fixture["masks"].as_array().unwrap() {
        let (inputs, options) = (tensors(&case["inputs"]), &case["options"]);
        let extra_batch_dims = options.get("extra_batch_dims").map_or(0, usize_of);
        let pairwise_fn = match options["pairwise_fn"].as_str().unwrap() {
            "multiply" => Tensor::broadcast_mul,
            "greater" => Tensor::broadcast_gt,
            other => panic!("no function {other}"),
        };
        let mask = match case["function"].as_str().unwrap() {
            "make_attention_mask" => {
                make_attention_mask(&inputs[0], &inputs[1], pairwise_fn, extra_batch_dims)?
            }
            "make_causal_mask" => make_causal_mask(&inputs[0], extra_batch_dims)?,
            "combine_masks" => combine_masks(&inputs)?.unwrap(),
            other => panic!("no function {other}"),
        };
        assert_eq!(mask.dtype(), DType::U8);
        assert_close(&mask, &tensor_of(&case["output"], DType::U8), 0., &case.to_string());
    }
    Ok(())
}

#[derive(Clone, Debug, TreeObject)]
struct Model {
    attention: MultiHeadDotProductAttention,
}

/// The same seeds give Flax's parameters and Flax's dropout masks, call by call.
#[test]
fn dropout_as_in_flax() -> Result<()> {
    let fixture = fixture_f32();
    for case in fixture["dropout"].as_array().unwrap() {
        let attention = MultiHeadDotProductAttention::lazy(2)
            .dropout_rate(case["rate"].as_f64().unwrap())
            .broadcast_dropout(case["broadcast_dropout"].as_bool().unwrap())
            .normalize_qk(true)
            .qkv_features(8);
        let x = tensor_of(&case["x"], DType::F32);
        let rngs = Rngs::new(case["params_seed"].as_u64().unwrap())
            .stream("dropout", case["dropout_seed"].as_u64().unwrap());
        let model = Model { attention }.inferred_by(device(), |model| model.attention.call(&x))?;
        let mut model = model.init_linen(rngs, device())?;
        let params = model.filter(Parameter);
        let leaves = params.leaves();
        assert_eq!(leaves.len(), case["params"].as_object().unwrap().len());
        for (path, _, leaf) in leaves {
            let want = tensor_of(&case["params"][path.to_string()], DType::F32);
            assert_close(leaf.value().unwrap(), &want, 0., &path.to_string());
        }
        for want in tensors(&case["outputs"]) {
            assert_close(&model.attention.call(&x)?, &want, 1e-5, "in training");
        }
        let eval = model.clone().into_eval().attention.call(&x)?;
        assert_ne!(eval.to_vec3::<f32>()?, model.attention.call(&x)?.to_vec3::<f32>()?);
    }
    Ok(())
}

/// A layer of four heads in two groups, over 8 features.
fn layer() -> MultiHeadDotProductAttention {
    let layer = MultiHeadDotProductAttention::new(4, 8).num_kv_heads(2).rotary(Rotary::new());
    layer.bias_init(initializers::normal(1.)).init(1, device()).unwrap()
}

fn random(shape: &[usize]) -> Tensor {
    Key::from(5).normal(shape, DType::F32).unwrap().to_device(device()).unwrap()
}

#[test]
fn decoding_is_causal_attention_step_by_step() -> Result<()> {
    let (mut layer, x) = (layer(), random(&[2, 6, 8]));
    let mask = make_causal_mask(&x.narrow(2, 0, 1)?.squeeze(2)?, 0)?;
    let whole = layer.call_with(&x, &x, &x, &mask)?;
    // The first three as a prompt, then one by one, with free slots left.
    layer.init_cache(&[2], 9)?;
    let mut parts = vec![layer.call(&x.narrow(1, 0, 3)?)?];
    for step in 3..6 {
        parts.push(layer.call(&x.narrow(1, step, 1)?)?);
    }
    assert_close(&Tensor::cat(&parts, 1)?, &whole, 1e-5, "decoded");

    // A snapshot decodes independently.
    let before = layer.clone();
    layer.call(&x.narrow(1, 0, 1)?)?;
    assert_eq!(before.cache.cache_index.get()?.to_scalar::<i64>()?, 6);
    assert_eq!(layer.cache.cache_index.get()?.to_scalar::<i64>()?, 7);
    layer.clear_cache();
    assert_close(&layer.call_with(&x, &x, &x, &mask)?, &whole, 0., "after decoding");
    Ok(())
}

#[test]
fn causal_without_a_mask() -> Result<()> {
    let (mut layer, x) = (layer(), random(&[2, 6, 8]));
    let mask = make_causal_mask(&x.narrow(2, 0, 1)?.squeeze(2)?, 0)?;
    let wanted = layer.call_with(&x, &x, &x, &mask)?;
    let mut causal = layer.clone().causal(true);
    assert_close(&causal.call(&x)?, &wanted, 0., "instead of a mask");
    assert_close(&causal.call_with(&x, &x, &x, &mask)?, &wanted, 0., "and a mask");
    // In decoding, positions count from the start of the sequence.
    causal.init_cache(&[2], 6)?;
    causal.call(&x.narrow(1, 0, 4)?)?;
    assert_close(&causal.call(&x.narrow(1, 4, 2)?)?, &wanted.narrow(1, 4, 2)?, 1e-5, "decoded");
    Ok(())
}

#[test]
fn a_step_of_decoding_writes_in_place() -> Result<()> {
    let (mut layer, x) = (layer(), random(&[2, 1, 8]));
    layer.init_cache(&[2], 9)?;
    layer.call(&x)?;
    let place = |layer: &MultiHeadDotProductAttention| -> Result<_> {
        Ok([&layer.cache.cached_key, &layer.cache.cached_value].map(|leaf| storage_id(&leaf.get().unwrap())))
    };
    let before = place(&layer)?;
    layer.call(&x)?;
    assert_eq!(place(&layer)?, before);
    // Not in place where another tree shares the cache.
    let (snapshot, slots) = (layer.clone(), layer.cache.cached_key.get()?.force_contiguous()?);
    layer.call(&x)?;
    assert_ne!(place(&layer)?, before);
    assert_close(&snapshot.cache.cached_key.get()?, &slots, 0., "the snapshot");
    Ok(())
}

#[test]
fn softmax_in_f32() -> Result<()> {
    let [query, key] =
        [random(&[5, 1, 8]), (random(&[5, 1, 8]) * 0.5)?].map(|x| x.to_dtype(DType::BF16).unwrap());
    let weights = |force| {
        let options = AttentionOptions::default().force_fp32_for_softmax(force);
        dot_product_attention_weights(&query, &key, &options)
    };
    let (narrow, wide) = (weights(false)?, weights(true)?);
    assert_eq!((narrow.dtype(), wide.dtype()), (DType::BF16, DType::F32));
    let error_of_sums = |weights: &Tensor| -> Result<f32> {
        let errors = (weights.to_dtype(DType::F32)?.sum(D::Minus1)? - 1.)?.abs()?;
        Ok(errors.flatten_all()?.max(0)?.to_scalar::<f32>()?)
    };
    assert!(error_of_sums(&wide)? < 1e-6 && error_of_sums(&narrow)? > 1e-4);
    assert_close(&narrow, &wide, 1e-2, "rounded");
    let value = wide.ones_like()?.reshape((5, 1, 5))?.to_dtype(DType::BF16)?;
    let options = AttentionOptions::default().force_fp32_for_softmax(true);
    assert_eq!(dot_product_attention(&query, &key, &value, &options)?.dtype(), DType::F32);
    Ok(())
}

#[test]
fn attention_to_no_keys() -> Result<()> {
    if skip("attention_to_no_keys", NO_ELEMENTS) {
        return Ok(());
    }
    let mut layer = layer();
    for (queries, keys) in [([0, 3, 8], [0, 3, 8]), ([2, 0, 8], [2, 3, 8])] {
        let (x, memory) = (random(&queries), random(&keys));
        assert_eq!(layer.call_with(&x, &memory, &memory, None)?.dims(), queries);
    }
    let (x, nothing) = (random(&[2, 3, 8]), random(&[2, 0, 8]));
    let y = layer.call_with(&x, &nothing, &nothing, None)?;
    assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| y.is_finite()));
    Ok(())
}

#[test]
fn attention_options_come_in_any_order() -> Result<()> {
    let ones = initializers::ones;
    let a = MultiHeadAttention::new(2, 4)
        .param_dtype(DType::F64)
        .out_kernel_init(initializers::zeros)
        .kernel_init(ones)
        .normalize_qk(true)
        .num_kv_heads(1)
        .qkv_features(6)
        .use_bias(false);
    let b = MultiHeadAttention::new(2, 4)
        .use_bias(false)
        .qkv_features(6)
        .num_kv_heads(1)
        .normalize_qk(true)
        .kernel_init(ones)
        .out_kernel_init(initializers::zeros)
        .param_dtype(DType::F64);
    let learned = MultiHeadAttention::lazy(2)
        .use_bias(false)
        .qkv_features(6)
        .num_kv_heads(1)
        .normalize_qk(true)
        .kernel_init(ones)
        .out_kernel_init(initializers::zeros)
        .param_dtype(DType::F64);
    let x = random(&[1, 3, 4]).to_dtype(DType::F64)?;
    for layer in [a, b, learned] {
        let mut layer = layer.init_with(0, &x)?;
        assert_eq!(layer.query.call(&x)?.dims(), [1, 3, 2, 3]);
        let shapes = layer.leaves().into_iter().map(|(path, _, leaf)| {
            assert_eq!(leaf.dtype(), Some(DType::F64));
            format!("{path} {:?}", leaf.shape().unwrap().dims())
        });
        let expected = [
            "query.kernel [4, 2, 3]",
            "key.kernel [4, 1, 3]",
            "value.kernel [4, 1, 3]",
            "query_ln.scale [3]",
            "key_ln.scale [3]",
            "out.kernel [2, 3, 4]",
        ];
        assert_eq!(shapes.collect::<Vec<_>>(), expected);
        assert_eq!(layer.call(&x)?.flatten_all()?.to_vec1::<f64>()?, [0.; 12]);
    }
    Ok(())
}

#[test]
fn a_bias_through_attention_fn() -> Result<()> {
    let (x, bias) = (random(&[2, 3, 8]), random(&[4, 3, 3]));
    let mut plain = layer();
    let same = plain.clone().attention_fn(dot_product_attention);
    let mut biased = plain
        .clone()
        .attention_fn(move |q, k, v, options| dot_product_attention(q, k, v, &options.clone().bias(&bias)));
    assert_close(&same.clone().call(&x)?, &plain.call(&x)?, 0., "the same function");
    assert_ne!(biased.call(&x)?.to_vec3::<f32>()?, plain.call(&x)?.to_vec3::<f32>()?);
    Ok(())
}

#[test]
fn errors_of_attention() -> Result<()> {
    let x = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device()).unwrap();
    let call = |layer: &MultiHeadDotProductAttention,
                q: &[usize],
                k: &[usize],
                v: &[usize],
                mask: Option<&[usize]>| {
        let mut model = Model { attention: layer.clone() };
        let mask = mask.map(x);
        let result = model.value_and_grad(Parameter, |model| {
            Ok(model.attention.call_with(&x(q), &x(k), &x(v), mask.as_ref())?.sum_all()?)
        });
        let error = result.unwrap_err();
        assert!(error.path().is_some_and(|path| path.to_string().starts_with("attention")), "{error}");
        error.to_string()
    };
    let new = |heads, features| MultiHeadDotProductAttention::new(heads, features);
    // Sizes of zero have no fan to divide by.
    let ready = |layer: MultiHeadDotProductAttention| {
        layer.kernel_init(initializers::normal(1.)).init(0, device()).unwrap()
    };
    let fine = ready(new(2, 4));
    let mut full = fine.clone();
    full.init_cache(&[2], 2)?;
    let cases = [
        (call(&fine, &[4], &[4], &[4], None), "inputs that do not fit together"),
        (call(&fine, &[2, 3, 4], &[1, 3, 4], &[1, 3, 4], None), "found [2, 3, 4], [1, 3, 4] and [1, 3, 4]"),
        (call(&fine, &[2, 3, 4], &[2, 3, 4], &[2, 5, 4], None), "twice [batch.., kv_length, features]"),
        (
            call(&fine, &[2, 3, 5], &[2, 3, 5], &[2, 3, 5], None),
            "expected a kernel of shape [5, 2, 2] for an input [2, 3, 5], found [4, 2, 2]",
        ),
        (
            call(&ready(new(3, 4)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "expected a divisor of 4 features, and one of that for keys and values, found 3 heads, and 3 for keys",
        ),
        (call(&ready(new(0, 4)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None), "found 0 heads"),
        (
            call(&ready(new(4, 4).num_kv_heads(3)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "found 4 heads, and 3 for keys and values",
        ),
        (
            call(&ready(new(2, 4).dropout_rate(1.5)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "expected a number from 0 to 1, found 1.5",
        ),
        (
            call(&ready(new(2, 4).dropout_rate(f64::NAN)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "found NaN",
        ),
        (
            call(&fine, &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], Some(&[5, 3, 3])),
            "expected one that broadcasts to [batch.., heads, query_length, kv_length], here [2, 2, 3, 3], found [5, 3, 3]",
        ),
        (call(&fine, &[3, 4], &[3, 4], &[3, 4], Some(&[1, 1, 3, 3])), "here [2, 3, 3], found [1, 1, 3, 3]"),
        (
            call(&full, &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "at most 2 of 2 positions, found [2, 3, 2, 2]",
        ),
        (call(&full, &[1, 1, 4], &[1, 1, 4], &[1, 1, 4], None), "keys and values of shape [2, 1, 2, 2]"),
        (
            call(&fine.clone().rotary(Rotary::new().features(3)), &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], None),
            "a depth of at least 3, an even number",
        ),
        (
            call(
                &fine.clone().sow_weights(true).attention_fn(dot_product_attention),
                &[2, 3, 4],
                &[2, 3, 4],
                &[2, 3, 4],
                None,
            ),
            "either `sow_weights` or `attention_fn`",
        ),
    ];
    for (error, words) in cases {
        assert!(error.contains(words), "{error}");
    }
    let token = x(&[2, 1, 4]);
    let error = full.clone().call_with(&token, &token, &token, &x(&[1, 1, 1, 3])).unwrap_err().to_string();
    assert!(error.contains("does not cover its cache: expected [.., query_length, max_length], here [1, 2], found [1, 1, 1, 3]"), "{error}");
    assert_eq!(full.cache.cache_index.get()?.to_scalar::<i64>()?, 0);
    let error = MultiHeadDotProductAttention::lazy(2).init_cache(&[1], 3).unwrap_err().to_string();
    assert!(error.contains("`MultiHeadDotProductAttention::new(num_heads, features)`"), "{error}");
    Ok(())
}

#[test]
fn errors_of_the_function() {
    let x = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device()).unwrap();
    let error = |q: &[usize], k: &[usize], v: &[usize], options: AttentionOptions| {
        dot_product_attention(&x(q), &x(k), &x(v), &options).unwrap_err().to_string()
    };
    let none = AttentionOptions::default;
    let cases = [
        (
            error(&[3, 4], &[3, 1, 4], &[3, 1, 4], none()),
            "expected [batch.., length, heads, depth], found [3, 4]",
        ),
        (error(&[3, 2, 4], &[3, 2, 5], &[3, 2, 5], none()), "found [3, 2, 5] for queries [3, 2, 4]"),
        (error(&[3, 4, 4], &[3, 3, 4], &[3, 3, 4], none()), "a divisor of 4 heads"),
        (error(&[3, 2, 4], &[3, 2, 4], &[5, 2, 4], none()), "values that do not belong to its keys"),
        (error(&[2, 3, 2, 4], &[1, 3, 2, 4], &[1, 3, 2, 4], none()), "expected [2] batch dimensions"),
        (
            error(&[3, 2, 4], &[3, 2, 4], &[3, 2, 4], none().bias(&x(&[2, 2]))),
            "got a bias of the wrong shape",
        ),
        (
            error(&[3, 2, 4], &[3, 2, 4], &[3, 2, 4], none().dropout(2., 0)),
            "expected a number from 0 to 1, found 2",
        ),
    ];
    for (error, words) in cases {
        assert!(error.contains(words), "{error}");
    }
    let error = Rotary::new().apply(&x(&[3, 2, 5]), 0).unwrap_err().to_string();
    assert!(error.contains("with an even depth, found [3, 2, 5]"), "{error}");
    let error = Rotary::new().apply_at(&x(&[3, 2, 4]), &x(&[2])).unwrap_err().to_string();
    assert!(error.contains("broadcast to [batch.., length], here [3], found [2]"), "{error}");
}
