//! An optimizer's step, and the loop over plain memory that it could be at best: four arrays read, three of them
//! written in place, 28 bytes a parameter.
//!
//! `cargo bench --bench step`

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use treex_core::{Leaf, Parameter};
use treex_optim::{
    GradientTransformation, Optimizer, adam, adamw, chain, clip_by_global_norm, warmup_cosine,
};

type Model = Vec<Leaf<Parameter>>;

fn model(leaves: usize, elements: usize) -> Model {
    let leaf =
        || Leaf::new(Tensor::ones(elements, DType::F32, &Device::Cpu).expect("memory")).expect("memory");
    (0..leaves).map(|_| leaf()).collect()
}

fn step<T: GradientTransformation>(
    criterion: &mut Criterion,
    name: &str,
    (leaves, elements): (usize, usize),
    transformation: T,
) {
    let (mut params, grads) = (model(leaves, elements), model(leaves, elements));
    let mut optimizer = Optimizer::new(transformation).init(&params).expect("valid options");
    optimizer.update(&grads, &mut params).expect("a step");
    let mut group = criterion.benchmark_group(format!("{leaves} leaves of {elements}"));
    group.throughput(Throughput::Bytes(28 * (leaves * elements) as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| optimizer.update(&grads, &mut params).expect("a step"));
    });
    group.finish();
}

/// The same traffic without any mathematics.
fn floor(criterion: &mut Criterion, (leaves, elements): (usize, usize)) {
    let n = leaves * elements;
    let g = vec![1f32; n];
    let [mut p, mut m, mut v] = [(); 3].map(|()| vec![1f32; n]);
    let mut group = criterion.benchmark_group(format!("{leaves} leaves of {elements}"));
    group.throughput(Throughput::Bytes(28 * n as u64));
    group.bench_function("floor", |bencher| {
        bencher.iter(|| {
            let size = 1 << 15;
            p.par_chunks_mut(size)
                .zip(m.par_chunks_mut(size))
                .zip(v.par_chunks_mut(size))
                .zip(g.par_chunks(size))
                .for_each(|(((p, m), v), g)| {
                    for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                        *m += g;
                        *v += g;
                        *p += *m;
                    }
                });
        });
    });
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    for size in [(50, 200_000), (5_000, 200)] {
        floor(criterion, size);
        step(criterion, "adam", size, adam(1e-3));
        step(
            criterion,
            "clip, adam, decay, schedule",
            size,
            chain((clip_by_global_norm(1.), adamw(warmup_cosine(1e-3, 10, 10_000)))),
        );
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
