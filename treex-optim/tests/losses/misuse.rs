//! Invalid arguments of losses are errors.

use super::*;

/// PyTorch's `ignore_index`: the row is masked, and its label is not read.
#[test]
fn a_masked_row_has_no_label() {
    let logits = Tensor::new(&[[0f64, 1., 2.], [5., 5., 5.]], device()).unwrap();
    let labels = Tensor::new(&[2i64, -100], device()).unwrap();
    let mask = Tensor::new(&[[1u8], [0]], device()).unwrap();
    let over = Over::default().mask(&mask);
    let loss = softmax_cross_entropy_with_integer_labels_with(&logits, &labels, &over).unwrap();
    let expected = (1. + (-1f64).exp() + (-2f64).exp()).ln();
    let loss = loss.to_vec1::<f64>().unwrap();
    assert!((loss[0] - expected).abs() < 1e-12 && loss[1] == 0., "{loss:?}");
    assert_refused(softmax_cross_entropy_with_integer_labels(&logits, &labels), 1);
}

/// Where a label is no class, the CPU has an error. Another device would have to read the labels back: the loss of that row is
/// NaN there.
fn assert_refused(losses: Result<Tensor>, row: usize) {
    if device().is_cpu() {
        let error = losses.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("expected labels from 0 to 2"), "{error}");
    } else {
        let losses = losses.unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        assert!(losses.iter().enumerate().all(|(at, loss)| loss.is_nan() == (at == row)), "{losses:?}");
    }
}

#[test]
fn misuse_is_an_error() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, device()).unwrap();
    let cases = [
        (
            mse(&zeros(&[8, 1], DType::F32), &zeros(&[8], DType::F32)),
            "`mse` got predictions and targets of different shapes: expected targets of shape [8, 1], as the \
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
            "`softmax_cross_entropy_with_integer_labels` got labels that are not integers: expected `u8`, `u32` or \
             `i64`, found `f32`; cast them with `to_dtype(DType::U32)?`",
        ),
        (
            softmax_cross_entropy(&zeros(&[], DType::F32), &zeros(&[], DType::F32)),
            "`softmax_cross_entropy` got logits without classes: expected shape [.., classes], found []",
        ),
        (
            kl_divergence_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Over::axes([1, -1]),
            ),
            "`kl_divergence` cannot sum over the axes [1, -1]: expected different axes of shape [8, 3], found -1; \
             negative axes count from the end",
        ),
        (
            kl_divergence_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Over::default().mask(&zeros(&[3], DType::U8)),
            ),
            "`kl_divergence` got a mask that does not fit: expected shape [8, 3], or [8] for whole rows, found [3]; \
             `unsqueeze` it; a mask broadcasts only along lengths of 1",
        ),
        (
            sigmoid_binary_cross_entropy(&zeros(&[8], DType::F32), &zeros(&[8, 1], DType::U8)),
            "`sigmoid_binary_cross_entropy` got logits and labels of different shapes: expected labels of shape [8], \
             as the logits, found [8, 1]; `reshape` or `unsqueeze` one of them; losses do not broadcast",
        ),
        (
            make_fenchel_young_loss(|scores| Ok(scores.sum_all()?))(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
            ),
            "the maximum of `fenchel_young_loss` has the wrong shape: expected [8]: one number for each row, found []; \
             reduce over the last axis, `D::Minus1`, without keeping it",
        ),
        (
            ntxent(&zeros(&[8, 3], DType::F32), &zeros(&[7], DType::U8)),
            "`ntxent` got embeddings and labels that do not fit: expected embeddings of shape [batch, features], at \
             least one, and labels of shape [batch], found [8, 3] and [7]; `flatten` the features into one axis",
        ),
        (
            dice_loss_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Dice::default().apply_softmax(false),
            ),
            "`dice_loss` got probabilities that do not sum to 1: expected a sum of 1 over the last axis, found 0; leave \
             `apply_softmax` on for logits",
        ),
        (
            dice_loss_with(
                &zeros(&[8, 3], DType::F32),
                &zeros(&[8, 3], DType::F32),
                &Dice::default().class_weights(&zeros(&[2], DType::F32)),
            ),
            "`dice_loss` got class weights that do not fit: expected shape [3]: one for each class, found [2]",
        ),
    ];
    for (result, text) in cases {
        // These are checked on the CPU only, where the check is free.
        let is_value = text.contains("probabilities that do not sum to 1");
        if is_value && skip("probabilities that do not sum to 1", "the check would read them back") {
            continue;
        }
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

#[test]
fn invalid_ctc_inputs_are_errors() {
    let tensor = |rows: &[[f64; 2]; 1]| Tensor::new(rows, device()).unwrap();
    let logits = Tensor::zeros((1, 2, 3), DType::F32, device()).unwrap();
    let (zeros, labels) = (tensor(&[[0., 0.]]), tensor(&[[1., 2.]]));
    let call = |frames: &Tensor, labels: &Tensor, pads: &Tensor, options| {
        ctc_loss_with_forward_probs(&logits, frames, labels, pads, options)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (call(&tensor(&[[0., 0.5]]), &labels, &zeros, Ctc::default()), "a padding that is neither 0 nor 1"),
        (call(&zeros, &labels, &tensor(&[[1., 0.]]), Ctc::default()), "a padding before a label"),
        (call(&zeros, &tensor(&[[1., 3.]]), &zeros, Ctc::default()), "expected labels from 0 to 2, found 3"),
        (call(&zeros, &labels, &zeros, Ctc::default().blank_id(3)), "expected less than 3, found 3"),
        (call(&zeros.t().unwrap(), &labels, &zeros, Ctc::default()), "[[1, 2, 3], [2, 1], [1, 2], [1, 2]]"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found}");
    }
}

/// Candle's `gather` takes the largest number of a type for padding.
#[test]
fn labels_out_of_range_are_errors() {
    let logits = Tensor::zeros((2, 3), DType::F32, device()).unwrap();
    for wrong in [3, -1, i64::MAX, i64::from(u32::MAX)] {
        let labels = Tensor::new(&[0, wrong], device()).unwrap();
        assert_refused(softmax_cross_entropy_with_integer_labels(&logits, &labels), 1);
    }
    let labels = Tensor::new(&[0u8, 255], device()).unwrap();
    assert_refused(softmax_cross_entropy_with_integer_labels(&logits, &labels), 1);
}
