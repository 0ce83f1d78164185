//! The methods of a tree of 1,000 leaves: criterion's throughput is in leaves per second, so 10 M elem/s is 100 ns per
//! leaf.
#![allow(missing_docs)] // criterion's macro makes a public function

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use treex_core::{BatchStat, Leaf, Parameter, Result, path, prelude::*};

const LAYERS: usize = 250;
const LEAVES: u64 = 4 * LAYERS as u64;

#[derive(Clone, Debug, TreeObject)]
struct Layer {
    kernel: Leaf<Parameter>,
    bias: Leaf<Parameter>,
    mean: Leaf<BatchStat>,
    var: Leaf<BatchStat>,
}

#[derive(Clone, Debug, TreeObject)]
struct Model {
    layers: Vec<Layer>,
}

fn model() -> Result<Model> {
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    let layer = || {
        Ok(Layer {
            kernel: Leaf::new(&one)?,
            bias: Leaf::new(&one)?,
            mean: Leaf::new(&one)?,
            var: Leaf::new(&one)?,
        })
    };
    Ok(Model { layers: (0..LAYERS).map(|_| layer()).collect::<Result<_>>()? })
}

fn verbs(criterion: &mut Criterion) {
    let mut model = model().expect("a model");
    let params = model.filter(Parameter);
    let mut group = criterion.benchmark_group("1,000 leaves");
    group.throughput(Throughput::Elements(LEAVES));
    group.bench_function("clone", |bencher| bencher.iter(|| black_box(&model).clone()));
    group.bench_function("count (a visit)", |bencher| bencher.iter(|| black_box(&model).count(Parameter)));
    group.bench_function("filter by kind", |bencher| bencher.iter(|| black_box(&model).filter(Parameter)));
    group.bench_function("filter by path", |bencher| {
        let glob = path("layers.*.kernel");
        bencher.iter(|| black_box(&model).filter(glob.clone()));
    });
    group.bench_function("updated", |bencher| bencher.iter(|| black_box(&model).updated(&params)));
    group.bench_function("update", |bencher| {
        bencher.iter_batched_ref(|| model.clone(), |model| model.update(&params), BatchSize::SmallInput);
    });
    group.bench_function("flatten", |bencher| bencher.iter(|| black_box(&model).flatten()));
    group.bench_function("leaves with text paths", |bencher| {
        bencher.iter(|| {
            black_box(&model).leaves().iter().map(|(path, _, _)| path.to_string().len()).sum::<usize>()
        });
    });
    group.bench_function("map (a copy of one float each)", |bencher| {
        bencher.iter(|| black_box(&model).map(|x| Ok(x.clone())));
    });
    group.bench_function("value_and_grad of one leaf (500 selected)", |bencher| {
        bencher
            .iter(|| model.value_and_grad(Parameter, |model| Ok(model.layers[0].kernel.get()?.sum_all()?)));
    });
    group.finish();
}

criterion_group!(benches, verbs);
criterion_main!(benches);
