use candle_core::{DType, Device, Tensor};
use treex_core::autograd::with_reference;
use treex_core::{Key, Result};
use treex_kernels::attention::{KEY_TILE, QUERY_TILE};

use crate::ops::testing::value_and_gradients;
use crate::{AttentionOptions, dot_product_attention, make_causal_mask};

/// `[batch.., query_length, kv_length, heads, kv_heads, depth, value_depth]`: tiles that are full, partial, and several
/// of both.
const SIZES: [[usize; 7]; 6] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 5, 7, 4, 2, 3, 6],
    [3, 33, 33, 2, 2, 32, 5],
    [1, 2 * QUERY_TILE, KEY_TILE, 2, 1, 8, 40],
    [1, 70, KEY_TILE + 37, 3, 1, 33, 2],
    [2, 9, 2 * KEY_TILE + 1, 1, 1, 16, 16],
];

fn normal(seed: u32, shape: &[usize]) -> Tensor {
    Key::from(3).fold_in(seed).normal(shape, DType::F32).unwrap()
}

fn inputs(
    [batch, queries, keys, heads, kv_heads, depth, value_depth]: [usize; 7],
    dtype: DType,
) -> [Tensor; 3] {
    let shapes = [
        [batch, queries, heads, depth],
        [batch, keys, kv_heads, depth],
        [batch, keys, kv_heads, value_depth],
    ];
    [0, 1, 2].map(|at| (normal(at as u32, &shapes[at]) * 1.5).unwrap().to_dtype(dtype).unwrap())
}

/// The largest difference, relative to the largest number.
fn difference(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|x| x.is_finite()), "NaN or an infinity");
    let differences = found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs());
    differences.fold(0., f64::max) / wanted.iter().fold(1., |largest, x| x.abs().max(largest))
}

/// Each kind of adjustment alone, and many at once.
fn options(
    [batch, queries, keys, heads, ..]: [usize; 7],
    dtype: DType,
) -> Vec<(&'static str, AttentionOptions)> {
    let bias = |shape: &[usize]| normal(4, shape).to_dtype(dtype).unwrap();
    let mask = |shape: &[usize]| normal(5, shape).gt(-0.5).unwrap();
    // Every third query has all keys masked.
    let rows = Tensor::arange(0, queries as u32, &Device::Cpu).unwrap();
    let visible = ((&rows / 3.).unwrap() * 3.).unwrap().ne(&rows).unwrap().reshape((queries, 1)).unwrap();
    let default = AttentionOptions::default;
    vec![
        ("nothing", default()),
        ("causal", default().causal(true)),
        ("bias", default().bias(&bias(&[heads, 1, keys]))),
        ("bias of a query", default().bias(&bias(&[batch, 1, queries, 1]))),
        ("mask", default().mask(&mask(&[batch, 1, queries, keys]))),
        ("mask of keys", default().mask(&mask(&[keys]))),
        ("masked queries", default().mask(&visible).causal(true)),
        ("dropout", default().dropout(0.3, 7)),
        (
            "everything",
            default()
                .bias(&bias(&[batch, heads, queries, keys]))
                .mask(&mask(&[heads, queries, keys]))
                .causal(true)
                .dropout(0.2, 8)
                .broadcast_dropout(false),
        ),
    ]
}

#[test]
fn kernel_equals_reference() -> Result<()> {
    for sizes in SIZES {
        for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
            // In half types the reference rounds intermediate results.
            let tolerance = match dtype {
                DType::F64 => 1e-13,
                DType::F32 => 2e-6,
                DType::F16 => 6e-3,
                _ => 4e-2,
            };
            for (name, options) in options(sizes, dtype) {
                let inputs = inputs(sizes, dtype);
                let attend =
                    |[query, key, value]: [&Tensor; 3]| dot_product_attention(query, key, value, &options);
                let found = value_and_gradients(inputs.each_ref(), attend)?;
                let wanted = with_reference(|| value_and_gradients(inputs.each_ref(), attend))?;
                for (found, wanted) in found.iter().zip(&wanted) {
                    let error = difference(found, wanted);
                    assert!(error < tolerance, "{name} {sizes:?} {dtype:?}: {error:e}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn causal_is_a_mask() -> Result<()> {
    let sizes = [2, 90, 90, 2, 2, 8, 8];
    let [query, key, value] = inputs(sizes, DType::F32);
    let mask = make_causal_mask(&Tensor::zeros((2, 90), DType::U32, &Device::Cpu)?, 0)?;
    let of = |options| dot_product_attention(&query, &key, &value, &options);
    let by_mask = of(AttentionOptions::default().mask(&mask))?;
    let causal = of(AttentionOptions::default().causal(true))?;
    assert_eq!(by_mask.flatten_all()?.to_vec1::<f32>()?, causal.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

/// NaN propagates within its row, and infinite scores do not change other rows.
#[test]
fn nan_and_infinities() -> Result<()> {
    let [query, key, value] = inputs([1, 3, 4, 1, 1, 2, 2], DType::F32);
    let bias =
        Tensor::new(&[[f32::NAN, 0., 0., 0.], [f32::NEG_INFINITY, 0., 0., 0.], [0.; 4]], &Device::Cpu)?;
    let options = AttentionOptions::default().bias(&bias);
    let y = dot_product_attention(&query, &key, &value, &options)?.flatten_all()?.to_vec1::<f32>()?;
    let reference = with_reference(|| dot_product_attention(&query, &key, &value, &options))?;
    let reference = reference.flatten_all()?.to_vec1::<f32>()?;
    assert!(y[..2].iter().chain(&reference[..2]).all(|y| y.is_nan()));
    assert!(
        y[2..].iter().zip(&reference[2..]).all(|(y, reference)| (y - reference).abs() < 1e-6),
        "{y:?} {reference:?}"
    );
    Ok(())
}
