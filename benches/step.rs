//! An optimizer's step, compared with its floor, a plain loop with the same memory traffic: four arrays read, three of
//! them written in place, 28 bytes per parameter in f32. A norm of the gradients reads them once more. With parameters
//! and gradients in bf16 it is 22 bytes, since moments stay in f32.
//!
//! `cargo bench --bench step`

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use treex_core::{Leaf, Parameter};
use treex_kernels::reduce;
use treex_optim::{
    GradientTransformation, Optimizer, adam, adamw, chain, clip_by_global_norm, warmup_cosine,
};

type Model = Vec<Leaf<Parameter>>;

/// The number of leaves, and of elements per leaf.
type Size = (usize, usize);

fn model((leaves, elements): Size, dtype: DType) -> Model {
    let leaf = || Leaf::new(Tensor::ones(elements, dtype, &Device::Cpu).expect("memory")).expect("memory");
    (0..leaves).map(|_| leaf()).collect()
}

/// A step with the given bytes per parameter.
fn step<T: GradientTransformation>(
    criterion: &mut Criterion,
    name: &str,
    (size, dtype, bytes): (Size, DType, usize),
    transformation: T,
) {
    let (mut params, grads) = (model(size, dtype), model(size, dtype));
    let mut optimizer = Optimizer::new(transformation).init(&params).expect("valid options");
    optimizer.update(&grads, &mut params).expect("a step");
    let mut group = criterion.benchmark_group(format!("{} leaves of {}", size.0, size.1));
    group.throughput(Throughput::Bytes((bytes * size.0 * size.1) as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| optimizer.update(&grads, &mut params).expect("a step"));
    });
    group.finish();
}

/// The same memory traffic without arithmetic.
fn floor(criterion: &mut Criterion, (leaves, elements): Size) {
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

/// Reads the gradients once.
fn read(criterion: &mut Criterion, (leaves, elements): Size) {
    let g = vec![1f32; leaves * elements];
    let mut group = criterion.benchmark_group(format!("{leaves} leaves of {elements}"));
    group.throughput(Throughput::Bytes(4 * g.len() as u64));
    group.bench_function("a read", |bencher| {
        let largest = |g: &[f32]| reduce::largest(g, |g| g);
        bencher.iter(|| g.par_chunks(1 << 15).map(largest).reduce(|| 0., f32::max));
    });
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    for size in [(50, 200_000), (5_000, 200)] {
        floor(criterion, size);
        read(criterion, size);
        step(criterion, "adam", (size, DType::F32, 28), adam(1e-3));
        let rate = warmup_cosine(1e-3, 10, 10_000);
        step(criterion, "adam, decay, schedule", (size, DType::F32, 28), adamw(rate));
        let clipped = chain((clip_by_global_norm(1.), adamw(rate)));
        step(criterion, "clip, adam, decay, schedule", (size, DType::F32, 32), clipped);
        step(criterion, "adam, bf16", (size, DType::BF16, 22), adam(1e-3));
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
