//! Poolings, checked as layers without leaves.

use candle_core::{DType, Tensor};
use treex_core::Result;
use treex_nn::{avg_pool, max_pool, min_pool, pool};

use crate::case::{Case, Subject, assert_close, subject};
use crate::conv::padding;

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/pooling.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    let (window, strides, padding) =
        (case.sizes("window"), case.sizes("strides"), padding(case.config("padding")));
    let count_include_pad = case.bool("count_include_pad");
    let function = case.config("fn").as_str().unwrap().to_owned();
    let call = move |x: &Tensor| -> Result<Tensor> {
        let (window, strides, padding) = (window.clone(), strides.clone(), padding.clone());
        match function.as_str() {
            "avg_pool" => avg_pool(x, window, strides, padding, count_include_pad),
            "max_pool" => max_pool(x, window, strides, padding),
            "min_pool" => min_pool(x, window, strides, padding),
            other => panic!("no pooling {other}"),
        }
    };
    subject((), move |(), inputs| Ok(vec![call(&inputs[0])?]))
}

/// With functions that have their own pooling, which is the oracle.
#[test]
fn pooling_by_any_function() -> Result<()> {
    for case in Case::all(FIXTURE) {
        let (x, want) =
            (case.tensors("inputs", DType::F64).remove(0), case.tensors("outputs", DType::F64).remove(0));
        let (window, strides, padding) =
            (case.sizes("window"), case.sizes("strides"), padding(case.config("padding")));
        let places = window.iter().product::<usize>() as f64;
        let pooled = match case.config("fn").as_str().unwrap() {
            "max_pool" => pool(&x, f64::NEG_INFINITY, |a, b| Ok(a.maximum(b)?), window, strides, padding)?,
            "min_pool" => pool(&x, f64::INFINITY, |a, b| Ok(a.minimum(b)?), window, strides, padding)?,
            _ if !case.bool("count_include_pad") => continue,
            _ => (pool(&x, 0., |a, b| Ok((a + b)?), window, strides, padding)? / places)?,
        };
        assert_close(&pooled, &want, 1e-12, &case.name);
    }
    Ok(())
}
