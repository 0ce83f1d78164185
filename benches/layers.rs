//! Each layer at a typical training size: forward, and forward with all gradients, including that of the input.
//!
//! `cargo bench --bench layers -- conv` runs those with `conv` in their names.
#![allow(missing_docs)] // criterion's macro makes a public function

use candle_core::{D, DType, Device, Shape, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use treex_core::{Leaf, Parameter, TreePart};
use treex_nn::{
    BatchNorm, Bidirectional, Conv, ConvLocal, ConvLstmCell, ConvTranspose, DenseGeneral, Dropout, Einsum,
    Embed, GroupNorm, GruCell, InstanceNorm, LayerNorm, Linear, LstmCell, MguCell,
    MultiHeadDotProductAttention, PRelu, Padding, RmsNorm, Rnn, SimpleCell, SpectralNorm, WeightNorm, add,
    avg_pool, elu, gelu, gelu_with, log_softmax, max_pool, prelude::*, relu, sigmoid, silu, softmax,
    softplus, tanh,
};
use treex_optim::softmax_cross_entropy_with_integer_labels;

fn normal(shape: impl Into<Shape>) -> Result<Tensor> {
    Key::from(0).normal(shape.into(), DType::F32)
}

/// `[rows, features]` of a small transformer: 8 sequences of 128.
const ROWS: [usize; 3] = [8, 128, 256];
const IMAGES: [usize; 4] = [64, 14, 14, 32];
const SEQUENCES: [usize; 3] = [32, 128, 256];

struct Bench<'a>(&'a mut Criterion);

impl Bench<'_> {
    fn layer<M: Module + Clone>(&mut self, name: &str, layer: M, shape: &[usize]) -> Result<()> {
        let x = Leaf::<Parameter>::new(normal(shape)?)?;
        let layer = layer.init(42, &Device::Cpu)?;
        self.model(name, (x, layer), |(x, layer)| layer.call(&x.get()?))
    }

    fn function(&mut self, name: &str, shape: &[usize], f: fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        let x = Leaf::<Parameter>::new(normal(shape)?)?;
        self.model(name, x, |x| f(&x.get()?))
    }

    fn model<M: TreeObject + Clone>(
        &mut self,
        name: &str,
        mut model: M,
        f: impl Fn(&mut M) -> Result<Tensor>,
    ) -> Result<()> {
        f(&mut model)?;
        let mut group = self.0.benchmark_group(name);
        group.bench_function("forward", |bencher| bencher.iter(|| f(&mut model).expect("a result")));
        group.bench_function("forward and backward", |bencher| {
            bencher.iter(|| {
                let loss = |model: &mut M| Ok(f(model)?.sum_all()?);
                model.value_and_grad(TreePart, loss).expect("gradients")
            });
        });
        group.finish();
        Ok(())
    }
}

fn all(criterion: &mut Criterion) -> Result<()> {
    let mut bench = Bench(criterion);
    bench.layer("linear", Linear::new(256, 1024), &ROWS)?;
    bench.layer("dense_general to heads", DenseGeneral::new(256, (4, 64)), &ROWS)?;
    bench.layer("einsum", Einsum::new((256, 1024), "abc,cd->abd"), &ROWS)?;
    let ids = Tensor::new((0..1024u32).map(|id| id * 7 % 1000).collect::<Vec<_>>(), &Device::Cpu)?;
    let embed = Embed::new(1000, 256).init(42, &Device::Cpu)?;
    bench.model("embed", embed, |embed| embed.call(&ids))?;

    bench.layer("conv 3x3", Conv::new(32, 64, [3, 3]), &IMAGES)?;
    bench.layer("conv 1x1", Conv::new(32, 64, [1, 1]), &IMAGES)?;
    bench.layer("conv 3x3, depthwise", Conv::new(32, 32, [3, 3]).feature_group_count(32), &IMAGES)?;
    bench.layer("conv of sequences", Conv::new(256, 256, [3]), &[8, 128, 256])?;
    bench.layer("conv of volumes", Conv::new(8, 16, [3, 3, 3]), &[4, 16, 16, 16, 8])?;
    bench.layer("conv_transpose 3x3", ConvTranspose::new(32, 64, [3, 3]).strides(2), &[16, 14, 14, 32])?;
    bench.layer("conv_local 3x3", ConvLocal::new([14, 14, 32], 32, [3, 3]), &[16, 14, 14, 32])?;
    bench.function("max_pool 2x2", &[64, 28, 28, 32], |x| max_pool(x, [2, 2], 2, Padding::Valid))?;
    bench.function("avg_pool 2x2", &[64, 28, 28, 32], |x| avg_pool(x, [2, 2], 2, Padding::Valid, true))?;

    bench.layer("batch_norm", BatchNorm::new(32), &IMAGES)?;
    bench.layer("layer_norm", LayerNorm::new(768), &[4096, 768])?;
    bench.layer("rms_norm", RmsNorm::new(768), &[4096, 768])?;
    bench.layer("group_norm", GroupNorm::new(32), &IMAGES)?;
    bench.layer("instance_norm", InstanceNorm::new(32), &IMAGES)?;
    bench.layer("spectral_norm", SpectralNorm::new(Linear::new(256, 1024)), &ROWS)?;
    bench.layer("weight_norm", WeightNorm::new(Linear::new(256, 1024)), &ROWS)?;

    bench.layer("dropout", Dropout::new(0.1), &[1 << 20])?;
    bench.layer("attention", MultiHeadDotProductAttention::new(4, 256), &ROWS)?;
    bench.layer("simple cell over time", Rnn::new(SimpleCell::new(256, 256)), &SEQUENCES)?;
    bench.layer("lstm over time", Rnn::new(LstmCell::new(256, 256)), &SEQUENCES)?;
    bench.layer("gru over time", Rnn::new(GruCell::new(256, 256)), &SEQUENCES)?;
    bench.layer("mgu over time", Rnn::new(MguCell::new(256, 256)), &SEQUENCES)?;
    bench.layer("conv_lstm over time", Rnn::new(ConvLstmCell::new(4, 8, [3, 3])), &[4, 16, 14, 14, 4])?;
    let both = || Rnn::new(LstmCell::new(256, 256));
    bench.layer("lstm in both directions", Bidirectional::new(both(), both()), &SEQUENCES)?;

    let size = &[1 << 20][..];
    bench.function("relu", size, relu)?;
    bench.function("gelu", size, gelu)?;
    bench.function("gelu, exact", size, |x| gelu_with(x, false))?;
    bench.function("silu", size, silu)?;
    bench.function("sigmoid", size, sigmoid)?;
    bench.function("tanh", size, tanh)?;
    bench.function("elu", size, elu)?;
    bench.function("softplus", size, softplus)?;
    bench.layer("prelu", PRelu::new(), size)?;
    bench.function("add", size, |x| add(x, x))?;
    bench.function("softmax", &[4096, 1000], |x| softmax(x, D::Minus1))?;
    bench.function("log_softmax", &[4096, 1000], |x| log_softmax(x, D::Minus1))?;
    let labels = Tensor::new((0..4096u32).map(|row| row * 7 % 1000).collect::<Vec<_>>(), &Device::Cpu)?;
    let logits = Leaf::<Parameter>::new(normal((4096, 1000))?)?;
    bench.model("cross-entropy", logits, |logits| {
        softmax_cross_entropy_with_integer_labels(&logits.get()?, &labels)
    })
}

fn layers(criterion: &mut Criterion) {
    treex_core::keep_memory();
    all(criterion).expect("every layer runs");
}

criterion_group!(benches, layers);
criterion_main!(benches);
