//! Comparisons up to a tolerance.

use candle_core::{DType, Device, Tensor};
use treex_core::Tree;

use crate::differences::note;

/// The numbers of a tensor of any element type, in row-major order.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The numbers of a tree, leaf by leaf.
pub fn tree_values(tree: &impl Tree) -> Vec<f64> {
    tree.flatten().tensors().flat_map(values).collect()
}

/// Equal up to an absolute `tolerance`; infinities and NaN where they are expected and nowhere else.
///
/// # Panics
/// If they are not.
#[track_caller]
pub fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let equal = found == expected || found.is_nan() && expected.is_nan();
        assert!(equal || (found - expected).abs() <= tolerance, "{what}, {index}: {found} is not {expected}");
        if !equal {
            note("-", (found - expected).abs() / expected.abs().max(1.), what);
        }
    }
}

/// [`assert_close`] with a tolerance relative to each expected number, and absolute for those below 1.
///
/// # Panics
/// If they are not.
#[track_caller]
pub fn assert_each_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = |values: &[f64]| -> Vec<f64> {
        let of = |expected: f64| if expected.is_finite() { expected.abs().max(1.) } else { 1. };
        values.iter().zip(expected).map(|(value, &expected)| value / of(expected)).collect()
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    assert_close(&scale(found), &scale(expected), tolerance, what);
}

/// The largest difference relative to the largest expected magnitude, or to 1 if that is less. Infinite if one of the
/// two alone is NaN.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1f64, |largest, value| largest.max(value.abs()));
    let apart = |(a, b): (&f64, &f64)| if a == b || a.is_nan() && b.is_nan() { 0. } else { (a - b).abs() };
    let apart = |pair| Some(apart(pair)).filter(|apart| !apart.is_nan()).unwrap_or(f64::INFINITY);
    found.iter().zip(expected).map(apart).fold(0., f64::max) / largest
}

/// Two tensors whose largest difference is at most `tolerance` of the largest expected magnitude.
///
/// # Panics
/// If shapes differ, a number is not finite, or the difference is larger.
#[track_caller]
pub fn assert_tensors_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let (all, wanted) = (values(found), values(expected));
    assert!(all.iter().all(|x| x.is_finite()), "{what}: {found}");
    let difference = all.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
    let magnitude = wanted.iter().fold(0f64, |most, x| most.max(x.abs()));
    // Rounding noise of the oracle, which is 0 in mathematics, as the gradient of a bias in front of a softmax: here
    // it is noise of numbers around 1 too.
    let magnitude = if magnitude > 0. && magnitude < 1e-14 { 1. } else { magnitude };
    assert!(
        difference <= tolerance * magnitude.max(1e-3),
        "{what}: {difference:e} of {magnitude:e}\n{found}\n{expected}"
    );
    note(found.dtype().as_str(), difference / magnitude.max(1.), what);
}
