//! Numbers at the ends of their ranges, and options out of theirs: the right number, or an error.

#![allow(clippy::unwrap_used)] // a test says where it failed

use candle_core::{DType, Tensor};
use treex_core::{Leaf, Parameter, Result, path, prelude::*};
use treex_optim::linear_algebra::{matrix_inverse_pth_root, nnls_with, power_iteration};
use treex_optim::losses::huber_loss_with;
use treex_optim::projections::projection_l2_ball;
use treex_optim::*;
use treex_testing::compare::values;
use treex_testing::device;

fn leaf(values: &[f32]) -> Leaf<Parameter> {
    Leaf::new(Tensor::new(values, device()).unwrap()).unwrap()
}

fn diagonal(values: &[f32]) -> Tensor {
    let identity = Tensor::eye(values.len(), DType::F32, device()).unwrap();
    identity.broadcast_mul(&Tensor::new(values, device()).unwrap()).unwrap()
}

/// Squares of these overflow or vanish in `f32`.
#[test]
fn eigenvalues_of_large_and_small_matrices() -> Result<()> {
    for size in [1e30f32, 1e-30, 1.] {
        let (value, vector) = power_iteration(&diagonal(&[size, 2. * size]))?;
        assert!((value / f64::from(2. * size) - 1.).abs() < 1e-5, "{size}: {value}");
        let vector = values(&vector);
        assert!(vector[0].abs() < 1e-2 && (vector[1].abs() - 1.).abs() < 1e-4, "{size}: {vector:?}");
    }
    let (value, vector) = power_iteration(&diagonal(&[0., 0.]))?;
    assert_eq!((value, values(&vector)), (0., vec![0., 0.]));
    Ok(())
}

#[test]
fn a_root_of_the_largest_power_does_not_overflow() {
    for matrix in [diagonal(&[4., 9.]), diagonal(&[4., f32::NAN]), diagonal(&[f32::INFINITY, 9.])] {
        let (root, _) = matrix_inverse_pth_root(&matrix, u32::MAX).unwrap();
        assert_eq!(root.dims(), [2, 2]);
    }
}

#[test]
fn a_ball_of_any_size() -> Result<()> {
    for (scale, expected) in [(1e20, [3., 4.]), (5., [3., 4.]), (1., [0.6, 0.8])] {
        let found = values(&projection_l2_ball(&leaf(&[3., 4.]), scale)?.get()?);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{scale}: {found:?}");
    }
    Ok(())
}

/// As `optax.microbatching.microbatch` of Optax 0.2.8, which wraps where a sum does not fit.
#[test]
fn integers_are_summed_exactly() -> Result<()> {
    let sum = |numbers: &[i64], dtype: DType, accumulator| -> Result<Vec<i64>> {
        let batch = Tensor::new(numbers, device())?.to_dtype(dtype)?;
        let sum = microbatch(&[batch], 1, accumulator, |part| Leaf::<Parameter>::new(&part[0]))?;
        Ok(sum.get()?.to_dtype(DType::I64)?.to_vec1()?)
    };
    assert_eq!(sum(&[16_777_217, 16_777_217], DType::U32, Accumulator::Sum)?, [33_554_434]);
    assert_eq!(sum(&[(1 << 40) + 1, (1 << 40) + 1], DType::I64, Accumulator::Sum)?, [(1 << 41) + 2]);
    let error = sum(&[200, 200], DType::U8, Accumulator::Sum).unwrap_err();
    assert!(error.to_string().contains("does not fit into `u8`"), "{error}");
    let error = sum(&[1, 2], DType::U32, Accumulator::Mean).unwrap_err();
    assert!(error.to_string().contains("a mean of integers"), "{error}");
    Ok(())
}

/// A part that has no value for a leaf is not left out.
#[test]
fn parts_have_the_same_leaves() -> Result<()> {
    let batch = Tensor::new(&[1f32, 2.], device())?;
    let mut calls = 0;
    let error = microbatch(&[batch], 1, Accumulator::Sum, |part| {
        calls += 1;
        let all = vec![Leaf::<Parameter>::new(&part[0])?, Leaf::new(&part[0])?];
        Ok(if calls == 2 { all.filter(path("0")) } else { all })
    });
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("a part of the batch has other leaves than the first at `1`"),
        "{error}"
    );

    Ok(())
}

#[test]
fn options_out_of_range_are_errors() {
    let x = Tensor::new(&[1f32, 2.], device()).unwrap();
    assert!(huber_loss_with(&x, &x, f64::NAN).is_err() && huber_loss_with(&x, &x, -1.).is_err());
    assert!(nnls_with(&diagonal(&[1., 2.]), &x, 10, Some(-1.)).is_err());
    let model = leaf(&[1.]);
    let schedules: [Schedule; 5] = [
        exponential_decay(1., 10, f64::NAN).into(),
        exponential_decay(1., 10, -1.).into(),
        polynomial(1., 0., f64::NAN, 10).into(),
        polynomial(1., 0., -1., 10).into(),
        cosine_decay(1., 10).exponent(-1.).into(),
    ];
    for schedule in schedules {
        let text = format!("{schedule:?}");
        let error = Optimizer::new(sgd(schedule)).init(&model).unwrap_err();
        assert!(error.to_string().contains("is out of range"), "{text}: {error}");
    }
}
