//! The side of treex in the comparison with its peers: see README.md here.

use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor, Var};
use serde_json::json;
use treex_core::{Key, Result};
use treex_nn::dropout;

const N: usize = 10_000_000;
const RATE: f64 = 0.1;

/// One step of a workload, and what it gives.
type Step = Box<dyn Fn() -> Result<Vec<Tensor>>>;

fn workload(name: &str) -> Result<Option<Step>> {
    let key = Key::from(42);
    let input = || Key::from(1).uniform(N, DType::F32);
    Ok(Some(match name {
        "uniform" => Box::new(move || Ok(vec![key.uniform(N, DType::F32)?])),
        "normal" => Box::new(move || Ok(vec![key.normal(N, DType::F32)?])),
        "mask" => Box::new(move || Ok(vec![key.bernoulli(1. - RATE, N)?])),
        "dropout" => {
            let x = input()?;
            Box::new(move || Ok(vec![dropout(&x, RATE, key, &[])?]))
        }
        "dropout_grad" => {
            let x = Var::from_tensor(&input()?)?;
            Box::new(move || {
                let y = dropout(&x, RATE, key, &[])?;
                let grad = y.backward()?.remove(&x);
                Ok(std::iter::once(y).chain(grad).collect())
            })
        }
        _ => return Ok(None),
    }))
}

/// The bits of all elements, each times its place, summed modulo 2^64: the peers compute the same.
fn digest(tensors: &[Tensor]) -> Result<u64> {
    let mut sum = 0u64;
    for tensor in tensors {
        let bits: Vec<u64> = match tensor.dtype() {
            DType::U8 => tensor.to_vec1::<u8>()?.into_iter().map(u64::from).collect(),
            _ => tensor.to_vec1::<f32>()?.into_iter().map(|x| x.to_bits().into()).collect(),
        };
        for (place, bits) in (1..).zip(bits) {
            sum = sum.wrapping_add(bits.wrapping_mul(place));
        }
    }
    Ok(sum)
}

fn answer(name: &str, seconds: f64) -> Result<serde_json::Value> {
    let Some(step) = workload(name)? else { return Ok(json!({})) };
    let digest = digest(&step()?)?.to_string();
    let (mut ms, start) = (Vec::new(), Instant::now());
    while ms.len() < 3 || start.elapsed() < Duration::from_secs_f64(seconds) {
        let start = Instant::now();
        black_box(step()?);
        ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({ "ms": ms, "digest": digest, "version": env!("CARGO_PKG_VERSION") }))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, seconds) = line.split_once(' ').ok_or("a line is a workload and seconds")?;
        println!("{}", answer(name, seconds.parse()?)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
