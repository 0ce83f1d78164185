//! Random numbers and dropout, 10 M elements, compared with the cost of their memory alone.
//!
//! A new buffer this large is allocated by the system at each call, page by page: that is the difference between the
//! lines with a new buffer and those with an existing one.
#![allow(missing_docs)] // criterion's macro makes a public function

use std::hint::black_box;

use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use treex_core::autograd::with_reference;
use treex_core::random::{Bernoulli, Key};
use treex_core::{Error, Result};
use treex_nn::dropout;

const N: usize = 10_000_000;

fn samplers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("random, 10 M");
    group.throughput(Throughput::Elements(N as u64)).sample_size(20);
    let key = Key::from(42);

    let mut floats = vec![0f32; N];
    group.bench_function("fill, existing buffer", |bencher| {
        bencher.iter(|| key.fill(0, black_box(&mut floats), |_| 1f32));
    });
    let unit = |[a, b]: [u32; 2]| f32::from_bits((a ^ b) >> 9 | 0x3F80_0000) - 1.;
    group.bench_function("uniform, existing buffer", |bencher| {
        bencher.iter(|| key.fill(0, black_box(&mut floats), unit));
    });
    let mut bytes = vec![0u8; N];
    let bernoulli = Bernoulli::new(0.9);
    group.bench_function("bernoulli, existing buffer", |bencher| {
        bencher.iter(|| key.fill(0, black_box(&mut bytes), move |block| u8::from(bernoulli.sample(block))));
    });
    let none = vec![(); N];
    group.bench_function("fill", |bencher| bencher.iter(|| key.map(0, &none, |_| 1f32)));
    group.bench_function("bernoulli", |bencher| bencher.iter(|| key.bernoulli(0.9, N)));
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        let name = dtype.as_str();
        group.bench_function(format!("uniform, {name}"), |bencher| bencher.iter(|| key.uniform(N, dtype)));
        group.bench_function(format!("normal, {name}"), |bencher| bencher.iter(|| key.normal(N, dtype)));
    }
    group.bench_function("truncated_normal, f32", |bencher| {
        bencher.iter(|| key.truncated_normal(-2., 2., N, DType::F32));
    });
    group.finish();
}

fn dropouts(criterion: &mut Criterion) {
    let run = |criterion: &mut Criterion| -> Result<()> {
        let mut group = criterion.benchmark_group("dropout, 10 M");
        group.throughput(Throughput::Elements(N as u64)).sample_size(20);
        let x = Tensor::ones(N, DType::F32, &Device::Cpu)?;
        let var = Var::from_tensor(&x)?;
        let forward = || dropout(&x, 0.1, Key::from(42), &[]);
        let both = || Ok::<_, Error>(dropout(&var, 0.1, Key::from(42), &[])?.backward()?);
        group.bench_function("forward", |bencher| bencher.iter(forward));
        group.bench_function("forward, reference", |bencher| bencher.iter(|| with_reference(forward)));
        group.bench_function("forward and backward", |bencher| bencher.iter(both));
        group.bench_function("forward and backward, reference", |bencher| {
            bencher.iter(|| with_reference(both))
        });
        group.finish();
        Ok(())
    };
    run(criterion).expect("the operations run");
}

criterion_group!(benches, samplers, dropouts);
criterion_main!(benches);
