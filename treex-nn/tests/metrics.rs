//! Metrics against torchmetrics (`fixtures/metrics.json`, written by `metrics.py` beside it), and the law of
//! metrics: merged halves equal the whole.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{ErrorKind, KindTag, MetricState, Result, prelude::*};
use treex_nn::metrics::{Accuracy, Average, Inputs, Mae, Mean, Metric, Metrics, Mse, Sum};
use treex_testing::compare::{assert_each_close, values};
use treex_testing::fixture;
use treex_testing::oracle::{self, typed_tensor};
use treex_testing::{NO_ELEMENTS, device, skip};

fn cases() -> Vec<Value> {
    let fixture = fixture!("metrics.json");
    fixture["cases"].as_array().unwrap().clone()
}

fn tensor(value: &Value) -> Tensor {
    typed_tensor(value, DType::F64)
}

fn batches(case: &Value) -> Vec<Inputs> {
    let inputs = |batch: &Value| {
        batch.as_object().unwrap().iter().fold(Inputs::new(), |inputs, (name, value)| match name.as_str() {
            "values" => inputs.values(&tensor(value)),
            "preds" => inputs.preds(&tensor(value)),
            "target" => inputs.target(&tensor(value)),
            "sample_weight" => inputs.sample_weight(&tensor(value)),
            other => panic!("no input {other}"),
        })
    };
    case["batches"].as_array().unwrap().iter().map(inputs).collect()
}

fn build(case: &Value) -> Box<dyn Metric> {
    match case["metric"].as_str().unwrap() {
        "Accuracy" => Box::new(accuracy(&case["config"])),
        "Mean" => Box::new(Mean::new()),
        "Sum" => Box::new(Sum::new()),
        "MeanSquaredError" => Box::new(Mse::new()),
        "MeanAbsoluteError" => Box::new(Mae::new()),
        other => panic!("no metric {other}"),
    }
}

fn accuracy(config: &Value) -> Accuracy {
    let size = |key: &str| config[key].as_u64().map(|size| size as usize);
    let classes = size("classes").unwrap();
    let mut accuracy = match config["task"].as_str().unwrap() {
        "binary" => Accuracy::binary(),
        "multiclass" => Accuracy::multiclass(classes),
        "multilabel" => Accuracy::multilabel(classes),
        other => panic!("no task {other}"),
    };
    for (option, value) in config.as_object().unwrap() {
        accuracy = match option.as_str() {
            "task" | "classes" => accuracy,
            "threshold" => accuracy.threshold(value.as_f64().unwrap()),
            "top_k" => accuracy.top_k(size("top_k").unwrap()),
            "ignore_index" => accuracy.ignore_index(value.as_i64().unwrap()),
            "subset_accuracy" => accuracy.subset_accuracy(value.as_bool().unwrap()),
            "average" => accuracy.average(match value.as_str().unwrap() {
                "micro" => Average::Micro,
                "macro" => Average::Macro,
                "weighted" => Average::Weighted,
                "none" => Average::None,
                other => panic!("no average {other}"),
            }),
            other => panic!("no option {other}"),
        };
    }
    accuracy
}

/// torchmetrics computes fractions in f32 and sums in f64.
fn assert_close(got: &Tensor, want: &Value, what: &str) {
    assert_eq!(got.dtype(), DType::F64, "{what}");
    let tolerance = if what.starts_with("M") || what.starts_with("S") { 1e-12 } else { 1e-6 };
    assert_each_close(&values(got), &oracle::numbers(want), tolerance, what);
}

#[test]
fn batches_and_epochs_as_in_torchmetrics() -> Result<()> {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let mut metric = build(&case);
        for round in ["first", "after a reset"] {
            for (batch, value) in batches(&case).iter().zip(case["values"].as_array().unwrap()) {
                assert_close(&metric.call(batch)?, value, &format!("{name}, batch, {round}"));
            }
            assert_close(&metric.compute()?, &case["total"], &format!("{name}, {round}"));
            metric.reset()?;
        }
    }
    Ok(())
}

#[test]
fn merging_parts_gives_the_whole() -> Result<()> {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let fresh = build(&case);
        let mut merged = fresh.clone();
        for batch in batches(&case).iter().rev() {
            let mut part = fresh.clone();
            part.observe(batch)?;
            merged.merge(&*part)?;
        }
        assert_close(&merged.compute()?, &case["total"], name);
        // Merging with an empty metric changes nothing, on either side.
        let mut other = fresh.clone();
        other.merge(&*merged)?;
        other.merge(&*fresh)?;
        assert_close(&other.compute()?, &case["total"], name);
        merged.reset()?;
        other.merge(&*merged)?;
        assert_close(&other.compute()?, &case["total"], name);
    }
    Ok(())
}

#[test]
fn metrics_are_trees_of_metric_state() -> Result<()> {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let mut metric = build(&case);
        for batch in batches(&case) {
            metric.observe(&batch)?;
        }
        let leaves = metric.leaves();
        assert!(
            !leaves.is_empty() && leaves.iter().all(|leaf| leaf.1 == KindTag::of::<MetricState>()),
            "{name}"
        );
        let snapshot = metric.clone();

        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.safetensors");
        metric.save(&file)?;
        let mut loaded = build(&case);
        loaded.load(&file)?;
        assert_close(&loaded.compute()?, &case["total"], name);
        metric.reset()?;
        assert_close(&snapshot.compute()?, &case["total"], name);
        let init = build(&case).init(0, device())?;
        assert_eq!(
            format!("{:?}", init.leaves()),
            format!("{:?}", metric.leaves()),
            "{name}: init is a reset"
        );
        let error = metric.filter(!MetricState).compute().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FilteredOut, "{name}");
    }
    Ok(())
}

fn numbers(values: &[f64]) -> Tensor {
    Tensor::new(values, device()).unwrap()
}

fn classes(values: &[i64]) -> Tensor {
    Tensor::new(values, device()).unwrap()
}

#[test]
fn collections() -> Result<()> {
    let metrics = Metrics::new()
        .add("loss", Mean::new())
        .add("loss", Sum::new())
        .add("accuracy", Accuracy::multiclass(3));
    let batch = |loss: f64, target: &[i64]| {
        Inputs::new().values(&numbers(&[loss])).preds(&classes(&[0, 1])).target(&classes(target))
    };
    let mut whole = metrics.clone();
    let values = whole.call(&batch(1., &[0, 1]))?;
    assert_eq!(values.keys().collect::<Vec<_>>(), ["accuracy", "loss", "loss2"]);
    let values = whole.call(&batch(2., &[2, 1]))?;
    assert_eq!(values["accuracy"].to_scalar::<f64>()?, 0.5);
    assert_eq!(whole.compute()?["accuracy"].to_scalar::<f64>()?, 0.75);
    assert_eq!(whole.compute()?["loss"].to_scalar::<f64>()?, 1.5);
    assert_eq!(whole.compute()?["loss2"].to_scalar::<f64>()?, 3.);
    assert_eq!(whole.leaves()[0].0.to_string(), "metrics.accuracy.tp");
    assert_eq!(whole.leaves()[3].0.to_string(), "metrics.accuracy.fn");

    let mut half = metrics.clone();
    half.observe(&batch(2., &[2, 1]))?;
    let mut other = metrics.clone();
    other.observe(&batch(1., &[0, 1]))?;
    half.merge(&other)?;
    let text = |metrics: &Metrics| format!("{:?}", metrics.leaves());
    assert_eq!(text(&half), text(&whole));

    // An error of the last metric leaves the others unchanged.
    assert!(half.observe(&Inputs::new().preds(&classes(&[0])).target(&classes(&[0]))).is_err());
    assert!(half.merge(&Metrics::new()).is_err());
    assert_eq!(text(&half), text(&whole));
    half.reset()?;
    assert_eq!(half.compute()?["loss2"].to_scalar::<f64>()?, 0.);
    Ok(())
}

#[test]
fn half_precision_and_no_values() -> Result<()> {
    let values = Tensor::full(1f32, 5000, device())?.to_dtype(DType::BF16)?;
    let mut mean = Mean::new();
    assert!(mean.compute()?.to_scalar::<f64>()?.is_nan());
    assert_eq!(mean.call(&Inputs::new().values(&values))?.to_scalar::<f64>()?, 1.);
    assert_eq!(Sum::new().call(&Inputs::new().values(&values))?.to_scalar::<f64>()?, 5000.);
    if !skip("no values in half_precision_and_no_values", NO_ELEMENTS) {
        let nothing = Tensor::zeros(0, DType::F32, device())?;
        assert!(mean.call(&Inputs::new().values(&nothing))?.to_scalar::<f64>()?.is_nan());
        assert_eq!(mean.compute()?.to_scalar::<f64>()?, 1.);
        let nothing =
            Inputs::new().preds(&Tensor::zeros((0, 3), DType::F32, device())?).target(&classes(&[]));
        assert_eq!(Accuracy::multiclass(3).call(&nothing)?.to_scalar::<f64>()?, 0.);
    }
    let diverged = Tensor::full(f32::NAN, (2, 3), device())?;
    let diverged = Inputs::new().preds(&diverged).target(&classes(&[1, 2]));
    assert_eq!(Accuracy::multiclass(3).call(&diverged)?.to_scalar::<f64>()?, 0.);
    assert_eq!(Accuracy::multiclass(3).top_k(2).call(&diverged)?.to_scalar::<f64>()?, 0.);
    // Among equal scores, the first is the highest.
    let ties = Tensor::new(&[[1f32, 1., 0.], [1., 1., 1.]], device())?;
    let ties = Inputs::new().preds(&ties).target(&classes(&[0, 1]));
    assert_eq!(Accuracy::multiclass(3).call(&ties)?.to_scalar::<f64>()?, 0.5);
    assert_eq!(Accuracy::multiclass(3).top_k(2).call(&ties)?.to_scalar::<f64>()?, 1.);
    Ok(())
}

#[test]
fn counts_do_not_overflow() -> Result<()> {
    let inputs = Inputs::new().preds(&classes(&[0])).target(&classes(&[0]));
    let mut accuracy = Accuracy::multiclass(1);
    accuracy.tp.set(classes(&[i64::MAX]))?;
    let full = accuracy.clone();
    for error in [accuracy.observe(&inputs), accuracy.merge(&full), accuracy.call(&inputs).map(|_| ())] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("overflows: expected sums that `i64` can hold"), "{error}");
    }
    assert_eq!(format!("{accuracy:?}"), format!("{full:?}"));

    accuracy.tp.set(classes(&[0, 0]))?;
    for error in [accuracy.observe(&inputs), accuracy.merge(&full), accuracy.compute().map(|_| ())] {
        let kind = error.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Shape | ErrorKind::Structure), "{kind:?}");
    }
    Ok(())
}

#[test]
fn errors() {
    let pair = |preds: &Tensor, target: &Tensor| Inputs::new().preds(preds).target(target);
    let scores = Tensor::zeros((2, 3), DType::F32, device()).unwrap();
    let targets = classes(&[0, 2]);
    let multi = || Accuracy::multiclass(3);
    let of = |mut metric: Box<dyn Metric>, inputs: &Inputs| metric.observe(inputs).unwrap_err().to_string();
    for (error, text) in [
        (of(Box::new(Mean::new()), &pair(&targets, &targets)), "`Mean` got no `values`"),
        (of(Box::new(multi()), &Inputs::new().preds(&scores)), "`Accuracy` got no `target`"),
        (
            of(Box::new(Mse::new()), &pair(&numbers(&[1., 2.]), &numbers(&[1.]))),
            "`MeanSquaredError` got predictions and targets of different shapes: expected targets of shape [2], found [1]",
        ),
        (
            of(Box::new(Mean::new()), &Inputs::new().values(&scores).sample_weight(&numbers(&[1., 1., 1.]))),
            "`Mean` got a `sample_weight` that does not fit its values: expected the first dimensions of [2, 3]",
        ),
        (of(Box::new(multi()), &pair(&scores, &classes(&[0]))), "expected [.., 3] and [..]"),
        (of(Box::new(Accuracy::multiclass(4)), &pair(&scores, &targets)), "found [2, 3] and [2]"),
        (
            of(Box::new(multi()), &pair(&scores, &classes(&[0, 3]))),
            "target that is not a class: expected 0 to 2, found 3",
        ),
        (of(Box::new(multi()), &pair(&classes(&[-1, 0]), &targets)), "prediction that is not a class"),
        (of(Box::new(multi()), &pair(&scores, &numbers(&[0., 1.]))), "expected targets of integers"),
        (of(Box::new(multi().top_k(4)), &pair(&scores, &targets)), "found 3 classes, `top_k` of 4"),
        (of(Box::new(multi().top_k(0)), &pair(&scores, &targets)), "`top_k` of 0"),
        (of(Box::new(multi().top_k(2)), &pair(&targets, &targets)), "`top_k` of 2"),
        (of(Box::new(Accuracy::multiclass(0)), &pair(&targets, &targets)), "found 0 classes"),
        (of(Box::new(Accuracy::binary()), &pair(&scores, &targets)), "expected the same shape"),
        (
            of(Box::new(Accuracy::multilabel(2)), &pair(&scores, &scores.to_dtype(DType::U8).unwrap())),
            "[.., 2]",
        ),
    ] {
        assert!(error.contains(text), "{error}");
    }
    let error = Mean::new().merge(&Sum::new()).unwrap_err().to_string();
    assert!(error.contains("expected another `Mean` with the same options, found `Sum`"), "{error}");
    assert!(multi().merge(&Accuracy::multiclass(2)).is_err());
}
