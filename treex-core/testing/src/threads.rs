//! The same bits on any number of threads.

use std::sync::LazyLock;

use candle_core::{DType, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};
use treex_core::Result;

/// Numbers of threads: one, even and odd ones, and more than most machines that run tests have cores.
const THREADS: [usize; 4] = [1, 2, 3, 8];

static POOLS: LazyLock<[ThreadPool; 4]> =
    LazyLock::new(|| THREADS.map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap()));

/// The bits of all numbers; each type but `I64` is in `f64` without loss.
fn bits(tensors: &[Tensor]) -> Result<Vec<Vec<u64>>> {
    let of = |x: &Tensor| -> Result<Vec<u64>> {
        let x = x.flatten_all()?;
        Ok(if x.dtype() == DType::I64 {
            x.to_vec1::<i64>()?.into_iter().map(i64::cast_unsigned).collect()
        } else {
            x.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().map(f64::to_bits).collect()
        })
    };
    tensors.iter().map(of).collect()
}

/// Runs `f` in pools of 1, 2, 3 and 8 threads, and returns how its results differ: nothing if each bit is the same.
///
/// # Errors
/// Those of `f`.
pub fn differences(f: impl Fn() -> Result<Vec<Tensor>> + Send + Sync) -> Result<Vec<String>> {
    let mut expected: Option<Vec<Vec<u64>>> = None;
    let mut differences = Vec::new();
    for (pool, threads) in POOLS.iter().zip(THREADS) {
        let found = bits(&pool.install(&f)?)?;
        let expected = expected.get_or_insert_with(|| found.clone());
        for (tensor, (found, expected)) in found.iter().zip(&*expected).enumerate() {
            let count = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            if count > 0 || found.len() != expected.len() {
                let of = expected.len();
                differences.push(format!("tensor {tensor} by {threads} threads: {count} of {of} numbers"));
            }
        }
    }
    Ok(differences)
}
