//! Losses that are one operation, with a row for the [contract](treex_testing::contract) of each.

#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use libtest_mimic::{Arguments, Trial};
use treex_core::enable_nested_gradients;
use treex_optim::losses::{mse, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels};
use treex_testing::contract::{ALL, Case, WIDE, check};
use treex_testing::device;

fn main() {
    enable_nested_gradients().expect("no other thread runs yet");
    let tests: [(&str, fn()); 3] = [
        ("integer_labels", integer_labels),
        ("soft_labels", soft_labels),
        ("mean_squared_errors", mean_squared_errors),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

fn integer_labels() {
    check("softmax_cross_entropy_with_integer_labels", ALL, |draw| {
        let shape = [draw.rows(), vec![draw.size().max(1)]].concat();
        let (classes, rows) = (shape[shape.len() - 1], &shape[..shape.len() - 1]);
        let labels = (0..rows.iter().product::<usize>()).map(|row| (row * 7 % classes) as u32);
        let labels = Tensor::from_vec(labels.collect(), rows, device()).unwrap();
        Case::new(vec![shape], move |x| {
            softmax_cross_entropy_with_integer_labels(&x[0], &labels.to_device(x[0].device())?)
        })
    });
}

fn soft_labels() {
    check("softmax_cross_entropy", WIDE, |draw| {
        let shape = [draw.rows(), vec![draw.size().max(1)]].concat();
        Case::new(vec![shape.clone(), shape], |x| softmax_cross_entropy(&x[0], &x[1]))
    });
}

/// Of nothing the mean is NaN, so no size is 0.
fn mean_squared_errors() {
    check("mse", ALL, |draw| {
        let shape = [draw.rows(), vec![draw.size()]].concat().into_iter().map(|size| size.max(1));
        let shape: Vec<usize> = shape.collect();
        Case::new(vec![shape.clone(), shape], |x| mse(&x[0], &x[1]))
    });
}
