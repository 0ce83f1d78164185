//! Losses beyond the fixture: gradients against finite differences, large logits, half precision, misuse.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use treex_core::{ErrorKind, Result};
use treex_optim::{
    l2_loss, mse, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, squared_error,
};

type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;

fn logits() -> Tensor {
    Tensor::new(
        &[[[1.5f64, -0.5, 0.2, 3.], [-2., 3., 0.7, 0.1]], [[0., 0., 0., 0.], [9., -9., 4., 4.]]],
        &Device::Cpu,
    )
    .unwrap()
}

fn soft_labels() -> Tensor {
    Tensor::new(
        &[[[0.1f64, 0.2, 0.3, 0.4], [1., 0., 0., 0.]], [[0.25, 0.25, 0.25, 0.25], [0., 0.5, 0.5, 0.]]],
        &Device::Cpu,
    )
    .unwrap()
}

fn labels(dtype: DType) -> Tensor {
    Tensor::new(&[[3i64, 1], [0, 2]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

#[test]
fn gradients_are_finite_differences() {
    let cases: [(&str, Loss, Tensor); 5] = [
        ("squared_error", squared_error, soft_labels()),
        ("l2_loss", l2_loss, soft_labels()),
        ("mse", mse, soft_labels()),
        ("softmax_cross_entropy", softmax_cross_entropy, soft_labels()),
        ("integer labels", softmax_cross_entropy_with_integer_labels, labels(DType::U32)),
    ];
    // Weights on the outputs, so that a gradient that mixes up the batch shows.
    let weighted = |loss: Loss, x: &Tensor, other: &Tensor| -> Tensor {
        let value = loss(x, other).unwrap().flatten_all().unwrap();
        let weights = Tensor::arange(1f64, 1. + value.elem_count() as f64, &Device::Cpu).unwrap();
        (value * weights).unwrap().sum_all().unwrap()
    };
    for (name, loss, other) in cases {
        let x = Var::from_tensor(&logits()).unwrap();
        let grads = weighted(loss, &x, &other).backward().unwrap();
        let found: Vec<f64> = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
        let step = 1e-4;
        for (index, found) in found.iter().enumerate() {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[index] += by;
                let x = Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap();
                weighted(loss, &x, &other).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(step) - moved(-step)) / (2. * step);
            // The square of the step, and the rounding of a sum of about 1,000 divided by it.
            assert!((found - expected).abs() < 1e-7, "{name}, {index}: {found} is not {expected}");
        }
    }
}

#[test]
fn both_cross_entropies_agree_in_every_label_type() {
    let one_hot: Tensor = Tensor::new(
        &[[[0f64, 0., 0., 1.], [0., 1., 0., 0.]], [[1., 0., 0., 0.], [0., 0., 1., 0.]]],
        &Device::Cpu,
    )
    .unwrap();
    let expected: Vec<Vec<f64>> = softmax_cross_entropy(&logits(), &one_hot).unwrap().to_vec2().unwrap();
    for dtype in [DType::U8, DType::U32, DType::I64] {
        let found = softmax_cross_entropy_with_integer_labels(&logits(), &labels(dtype)).unwrap();
        for (found, expected) in found.to_vec2::<f64>().unwrap().concat().iter().zip(expected.concat()) {
            assert!((found - expected).abs() < 1e-14, "{found} is not {expected}");
        }
    }
}

#[test]
fn logits_of_any_size_are_safe() {
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let large = Tensor::new(&[[1e4f32, -1e4], [0., 6e4]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let large = Var::from_tensor(&large).unwrap();
        let label = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
        let loss = softmax_cross_entropy_with_integer_labels(&large, &label).unwrap();
        assert_eq!(loss.to_vec1::<f32>().unwrap(), [0., 0.]);
        let grads = loss.sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&large).unwrap();
        assert_eq!(grad.dtype(), dtype);
        assert_eq!(grad.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap(), [[0., 0.], [0., 0.]]);
    }
}

/// 4,096 ones in bf16 sum to 256 there.
#[test]
fn half_precision_is_summed_in_f32() {
    let ones = Tensor::ones(4096, DType::BF16, &Device::Cpu).unwrap();
    let loss = mse(&ones, &ones.zeros_like().unwrap()).unwrap();
    assert_eq!((loss.dtype(), loss.to_scalar::<f32>().unwrap()), (DType::F32, 1.));
}

#[test]
fn an_empty_batch_has_empty_losses() {
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(squared_error(&none, &none).unwrap().dims(), [0, 3]);
    assert_eq!(softmax_cross_entropy(&none, &none).unwrap().dims(), [0]);
    let labels = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    assert_eq!(softmax_cross_entropy_with_integer_labels(&none, &labels).unwrap().dims(), [0]);
}

#[test]
fn misuse_is_told() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let cases = [
        (
            mse(&zeros(&[8, 1], DType::F32), &zeros(&[8], DType::F32)),
            "`squared_error` got predictions and targets of different shapes: expected targets of shape [8, 1], as the \
             predictions, found [8]; `reshape` or `unsqueeze` one of them; losses do not broadcast",
        ),
        (
            softmax_cross_entropy(&zeros(&[8, 3], DType::F32), &zeros(&[8, 3], DType::F64)),
            "`softmax_cross_entropy` got logits and labels of different types: expected labels in `f32`, as the logits, \
             found `f64`; cast one of them with `to_dtype`",
        ),
        (
            squared_error(&zeros(&[8], DType::U32), &zeros(&[8], DType::U32)),
            "`squared_error` got predictions that are not floats: expected a float type, found `u32`; cast them with \
             `to_dtype(DType::F32)?`",
        ),
        (
            softmax_cross_entropy_with_integer_labels(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::U32),
            ),
            "`softmax_cross_entropy_with_integer_labels` got logits of shape [8, 3] and labels that do not fit: expected \
             labels of shape [8]: one class for each row, found [8, 3]; for one-hot or soft labels use \
             `softmax_cross_entropy`",
        ),
        (
            softmax_cross_entropy_with_integer_labels(&zeros(&[8, 3], DType::F32), &zeros(&[8], DType::F32)),
            "`softmax_cross_entropy_with_integer_labels` got labels that do not number classes: expected `u8`, `u32` or \
             `i64`, found `f32`; cast them with `to_dtype(DType::U32)?`",
        ),
        (
            softmax_cross_entropy(&zeros(&[], DType::F32), &zeros(&[], DType::F32)),
            "`softmax_cross_entropy` got logits without classes: expected shape [.., classes], found []",
        ),
    ];
    for (result, text) in cases {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

/// Candle's `gather` takes the largest number of a type for padding.
#[test]
fn labels_that_are_no_class_are_told() {
    let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    for wrong in [3, -1, i64::MAX, i64::from(u32::MAX)] {
        let labels = Tensor::new(&[0, wrong], &Device::Cpu).unwrap();
        let error = softmax_cross_entropy_with_integer_labels(&logits, &labels).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("expected labels from 0 to 2"), "{error}");
    }
    let labels = Tensor::new(&[0u8, 255], &Device::Cpu).unwrap();
    assert!(softmax_cross_entropy_with_integer_labels(&logits, &labels).is_err());
}
