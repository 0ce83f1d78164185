//! Three whole models start from Flax's weights, bit for bit, and follow Flax's loss: `fixtures/flax_models.json`,
//! written by `flax_models.py` beside it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use serde_json::Value;
use sha1::{Digest, Sha1};
use treex_core::{Key, Rngs};
use treex_nn::{
    BatchNorm, Conv, Dropout, Embed, LayerNorm, Linear, MultiHeadDotProductAttention, gelu, initializers,
    make_causal_mask, prelude::*, relu, tanh,
};
use treex_optim::{Optimizer, adamw, softmax_cross_entropy_with_integer_labels};
use treex_testing::fixture;

const BATCH: usize = 16;

#[derive(Clone, Debug, TreeObject)]
struct Mlp {
    encoder: Linear,
    layers: Vec<Linear>,
    heads: BTreeMap<String, Linear>,
}

impl Mlp {
    fn new() -> Self {
        let heads = [("value", 1), ("class", 4)].map(|(name, n)| (name.to_owned(), Linear::new(16, n)));
        Self {
            encoder: Linear::lazy(24),
            layers: vec![Linear::lazy(16), Linear::new(16, 16)],
            heads: heads.into(),
        }
    }
}

impl Module for Mlp {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut x = tanh(&self.encoder.call(x)?)?;
        for layer in &mut self.layers {
            x = relu(&layer.call(&x)?)?;
        }
        let [class, value] = ["class", "value"].map(|name| self.heads.get_mut(name).unwrap().call(&x));
        Ok(class?.broadcast_mul(&value?)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
#[allow(non_snake_case)]
struct Cnn {
    Conv_0: Conv,
    BatchNorm_0: BatchNorm,
    Conv_1: Conv,
    BatchNorm_1: BatchNorm,
    #[tree(rename = "Dropout_0")]
    dropout: Dropout,
    head: Linear,
}

impl Cnn {
    fn new() -> Self {
        Self {
            Conv_0: Conv::new(3, 8, [3, 3]).strides(2).use_bias(false),
            BatchNorm_0: BatchNorm::new(8).momentum(0.9),
            Conv_1: Conv::lazy(16, [3, 3]).strides(2).use_bias(false),
            BatchNorm_1: BatchNorm::lazy().momentum(0.9),
            dropout: Dropout::new(0.4),
            head: Linear::lazy(4),
        }
    }
}

impl Module for Cnn {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = relu(&self.BatchNorm_0.call(&self.Conv_0.call(x)?)?)?;
        let x = relu(&self.BatchNorm_1.call(&self.Conv_1.call(&x)?)?)?;
        self.head.call(&self.dropout.call(&x.flatten_from(1)?)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
#[allow(non_snake_case)]
struct Block {
    LayerNorm_0: LayerNorm,
    #[tree(rename = "MultiHeadDotProductAttention_0")]
    attention: MultiHeadDotProductAttention,
    #[tree(rename = "Dropout_0")]
    dropout: Dropout,
    LayerNorm_1: LayerNorm,
    Dense_0: Linear,
    Dense_1: Linear,
}

impl Block {
    fn new() -> Self {
        Self {
            LayerNorm_0: LayerNorm::lazy(),
            attention: MultiHeadDotProductAttention::lazy(4).use_bias(false).dropout_rate(0.1),
            dropout: Dropout::new(0.1),
            LayerNorm_1: LayerNorm::lazy(),
            Dense_0: Linear::lazy(32),
            Dense_1: Linear::lazy(16),
        }
    }

    fn run(&mut self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let y = self.LayerNorm_0.call(x)?;
        let y = self.attention.call_with(&y, &y, &y, mask)?;
        let x = (x + self.dropout.call(&y)?)?;
        let y = gelu(&self.Dense_0.call(&self.LayerNorm_1.call(&x)?)?)?;
        Ok((x + self.Dense_1.call(&y)?)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Transformer {
    tokens: Embed,
    positions: Leaf<Parameter>,
    block: Block,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    fn new() -> Self {
        Self {
            tokens: Embed::new(24, 16),
            positions: Leaf::param(initializers::normal(0.02), (8, 16), DType::F32),
            block: Block::new(),
            norm: LayerNorm::lazy(),
            head: Linear::lazy(4),
        }
    }
}

impl Module for Transformer {
    fn call(&mut self, ids: &Tensor) -> Result<Tensor> {
        let x = self.tokens.call(ids)?.broadcast_add(&self.positions.get()?)?;
        let x = self.block.run(&x, &make_causal_mask(ids, 0)?)?;
        self.head.call(&self.norm.call(&x)?)
    }
}

/// A path as Flax prints it: collection, and the names of the modules.
fn flax_name(path: &str, kind: treex_core::KindTag) -> String {
    let collection = if kind.is(treex_core::KindTag::of::<BatchStat>()) { "batch_stats" } else { "params" };
    let name = path.replace("layers.", "layers_").replace("heads.", "heads_");
    format!("{collection}/{}", name.replace('.', "/"))
}

fn values(model: &impl Tree) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let model = model.filter(!Rng);
    let value = |(path, kind, leaf): (treex_core::Path, treex_core::KindTag, &treex_core::Handle)| {
        let value = leaf.value().unwrap();
        let data = value.flatten_all().unwrap().to_vec1().unwrap();
        (flax_name(&path.to_string(), kind), (value.dims().to_vec(), data))
    };
    model.leaves().into_iter().map(value).collect()
}

fn check_start(model: &impl Tree, first: &Value) {
    let values = values(model);
    let flax = first.as_object().unwrap();
    assert_eq!(values.keys().collect::<Vec<_>>(), flax.keys().collect::<Vec<_>>());
    for (path, (shape, data)) in values {
        assert_eq!(serde_json::json!(shape), flax[&path]["shape"], "{path}");
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let sha1: String = Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            sha1, flax[&path]["sha1"],
            "{path} starts with {} and not {}",
            data[0], flax[&path]["first"]
        );
    }
}

/// Makes a batch, as `samples` and `sentences` in the script.
type Batch = fn(Key, &[usize]) -> Result<(Tensor, Tensor)>;

fn samples(key: Key, shape: &[usize]) -> Result<(Tensor, Tensor)> {
    let x = key.normal([&[BATCH], shape].concat(), DType::F32)?;
    let labels = x.flatten_from(1)?.narrow(1, 0, 4)?.argmax(D::Minus1)?;
    Ok((x, labels))
}

fn sentences(key: Key, shape: &[usize]) -> Result<(Tensor, Tensor)> {
    let ids = key.randint([&[BATCH], shape].concat(), 0, 24, DType::I32)?;
    let rows = ids.to_dtype(DType::I64)?.to_vec2::<i64>()?;
    let label = |row: &[i64], at: usize| ((row[at] + if at == 0 { 0 } else { row[at - 1] }) % 4) as u32;
    let labels: Vec<u32> = rows.iter().flat_map(|row| (0..row.len()).map(move |at| label(row, at))).collect();
    let labels = Tensor::from_vec(labels, ids.shape(), &Device::Cpu)?;
    Ok((ids, labels))
}

/// Trains as the script does. Returns the loss before each step.
fn train<M: Module + Clone>(model: &mut M, shape: &[usize], steps: usize, batch: Batch) -> Result<Vec<f64>> {
    let mut optimizer = Optimizer::new(adamw(3e-3).weight_decay(1e-2)).init(model)?;
    let mut losses = Vec::new();
    for step in 0..steps {
        let [x_key, dropout_key] = Key::from(1).fold_in(step as u32).split2();
        let (x, labels) = batch(x_key, shape)?;
        if model.count(Rng) > 0 {
            model.set_rngs("dropout", dropout_key)?;
        }
        let (loss, grads) = model.value_and_grad(Parameter, |model| {
            Ok(softmax_cross_entropy_with_integer_labels(&model.call(&x)?, &labels)?.mean_all()?)
        })?;
        optimizer.update(&grads, model)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
    }
    Ok(losses)
}

fn follow<M: Module + Clone>(model: M, name: &str, shape: &[usize], batch: Batch) -> Result<()> {
    let fixture = fixture!("flax_models.json");
    let flax = &fixture[name];
    let sample = batch(Key::from(0), shape)?.0.narrow(0, 0, 1)?.zeros_like()?;
    let rngs = Rngs::new(42).stream("dropout", 7);
    let mut model = model.inferred(&sample)?.init_linen(rngs, &Device::Cpu)?;
    check_start(&model, &flax["first"]);

    let want: Vec<f64> = serde_json::from_value(flax["losses"].clone()).unwrap();
    let got = train(&mut model, shape, want.len(), batch)?;
    for (step, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= 1e-4 * want, "{name}, step {step}: a loss of {got}, not {want}");
    }
    for (path, (_, data)) in values(&model) {
        let norm = data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let want = flax["norms_after"][&path].as_f64().unwrap();
        assert!((norm - want).abs() <= 1e-3 * want, "{name}: the norm of {path} is {norm}, not {want}");
    }
    Ok(())
}

#[test]
fn a_multilayer_perceptron_follows_flax() -> Result<()> {
    follow(Mlp::new(), "mlp", &[12], samples)
}

#[test]
fn a_convolutional_network_with_batch_norm_and_dropout_follows_flax() -> Result<()> {
    follow(Cnn::new(), "cnn", &[9, 8, 3], samples)
}

#[test]
fn a_transformer_follows_flax() -> Result<()> {
    follow(Transformer::new(), "transformer", &[8], sentences)
}
