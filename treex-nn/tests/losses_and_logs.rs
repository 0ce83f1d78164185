//! Losses, auxiliary losses and metrics by name, against treex in Python (`fixtures/losses_and_logs.json`, written by
//! the script beside it), with their gradients, and as trees.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{ErrorKind, Key, KindTag, Leaf, MetricState, Parameter, Result, prelude::*};
use treex_nn::metrics::{
    AuxLosses, AuxMetrics, Inputs, LossAndLogs, LossLog, Losses, Mae, Mean, Metric, MetricLog, Metrics, Mse,
    On, Sum,
};
use treex_nn::{Linear, Remat};
use treex_testing::device;
use treex_testing::fixture;
use treex_testing::oracle::typed_tensor;

#[derive(Clone, Debug, TreeObject)]
struct Layer {
    activity: Leaf<LossLog>,
    penalty_loss: Leaf<LossLog>,
    share: Leaf<MetricLog>,
}

/// One of the metrics, with its values for a batch and for all.
#[derive(Clone)]
enum Any {
    Losses(Losses),
    Reduce(Box<dyn Metric>),
    AuxLosses(AuxLosses),
    AuxMetrics(AuxMetrics),
    LossAndLogs(LossAndLogs),
}

/// Numbers by name: a value without a name has the empty one, and logs of metrics follow those of losses.
type Said = Vec<(String, f64)>;

impl Any {
    fn of(case: &Value) -> Self {
        match text(&case["metric"]) {
            "Losses" => Self::Losses(losses(&case["config"])),
            "AuxLosses" => Self::AuxLosses(AuxLosses::new()),
            "AuxMetrics" => Self::AuxMetrics(AuxMetrics::new()),
            "LossAndLogs" => {
                let metrics = Metrics::new()
                    .add("mean_square_error", Mse::new())
                    .add("mean_absolute_error", Mae::new());
                Self::LossAndLogs(LossAndLogs::new(losses(&case["config"]), metrics))
            }
            _ => Self::Reduce(match text(&case["config"]) {
                "sum" => Box::new(Sum::new()),
                "weighted_mean" => Box::new(Mean::new()),
                _ => Box::new(Mean::new().sum_over_batch_size(true)),
            }),
        }
    }

    fn call(&mut self, batch: &Value) -> Result<Said> {
        let inputs = inputs(batch);
        Ok(match self {
            Self::Losses(losses) => said(losses.call(&inputs)?),
            Self::Reduce(metric) => vec![(String::new(), number(&metric.call(&inputs)?))],
            Self::AuxLosses(losses) => said(losses.call(&layer(batch)?)?),
            Self::AuxMetrics(metrics) => logged(&metrics.call(&layer(batch)?)?),
            Self::LossAndLogs(both) => {
                let (loss, losses, metrics) = both.call(&inputs, &layer(batch)?)?;
                [said((loss, losses)), logged(&metrics)].concat()
            }
        })
    }

    fn compute(&self) -> Result<Said> {
        Ok(match self {
            Self::Losses(losses) => said(losses.compute()?),
            Self::Reduce(metric) => vec![(String::new(), number(&metric.compute()?))],
            Self::AuxLosses(losses) => said(losses.compute()?),
            Self::AuxMetrics(metrics) => logged(&metrics.compute()?),
            Self::LossAndLogs(both) => {
                let (loss, losses, metrics) = both.compute()?;
                [said((loss, losses)), logged(&metrics)].concat()
            }
        })
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        match (self, other) {
            (Self::Losses(own), Self::Losses(other)) => own.merge(other),
            (Self::Reduce(own), Self::Reduce(other)) => own.merge(&**other),
            (Self::AuxLosses(own), Self::AuxLosses(other)) => own.merge(other),
            (Self::AuxMetrics(own), Self::AuxMetrics(other)) => own.merge(other),
            (Self::LossAndLogs(own), Self::LossAndLogs(other)) => own.merge(other),
            _ => panic!("two of different types"),
        }
    }

    fn reset(&mut self) -> Result<()> {
        match self {
            Self::Losses(losses) => losses.reset(),
            Self::Reduce(metric) => metric.reset(),
            Self::AuxLosses(losses) => losses.reset(),
            Self::AuxMetrics(metrics) => metrics.reset(),
            Self::LossAndLogs(both) => both.reset(),
        }
    }

    fn kinds(&self) -> Vec<KindTag> {
        let leaves = match self {
            Self::Losses(losses) => losses.leaves(),
            Self::Reduce(metric) => metric.leaves(),
            Self::AuxLosses(losses) => losses.leaves(),
            Self::AuxMetrics(metrics) => metrics.leaves(),
            Self::LossAndLogs(both) => both.leaves(),
        };
        leaves.into_iter().map(|(_, kind, _)| kind).collect()
    }
}

fn fixture() -> Value {
    fixture!("losses_and_logs.json")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(scalar: &Tensor) -> f64 {
    scalar.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn logged(logs: &BTreeMap<String, Tensor>) -> Said {
    assert!(logs.values().all(|log| log.dtype() == DType::F64 && !log.track_op()));
    logs.iter().map(|(name, log)| (name.clone(), number(log))).collect()
}

fn said((loss, logs): (Tensor, BTreeMap<String, Tensor>)) -> Said {
    [vec![(String::new(), number(&loss))], logged(&logs)].concat()
}

/// The values of treex: a number, logs, or a list of those.
fn expected(value: &Value) -> Said {
    let sorted: BTreeMap<_, _> = value.as_object().into_iter().flatten().collect();
    let logs = sorted.into_iter().map(|(name, log)| (name.clone(), log.as_f64().unwrap()));
    let number = value.as_f64().map(|number| (String::new(), number));
    number.into_iter().chain(logs).chain(value.as_array().into_iter().flatten().flat_map(expected)).collect()
}

fn tensor(value: &Value) -> Tensor {
    typed_tensor(value, DType::F64)
}

/// Values by name; those of parts in parts.
fn inputs(batch: &Value) -> Inputs {
    let put = |inputs: Inputs, name: &str, value: &Tensor| match name {
        "values" => inputs.values(value),
        "preds" => inputs.preds(value),
        "target" => inputs.target(value),
        "sample_weight" => inputs.sample_weight(value),
        other => panic!("no input {other}"),
    };
    let mut inputs = Inputs::new();
    let mut parts: BTreeMap<&String, Inputs> = BTreeMap::new();
    for (name, value) in batch.as_object().unwrap().iter().filter(|(_, value)| value.is_object()) {
        if value.get("shape").is_some() {
            inputs = put(inputs, name, &tensor(value));
            continue;
        }
        for (part, value) in value.as_object().unwrap() {
            let own = parts.remove(part).unwrap_or_default();
            parts.insert(part, put(own, name, &tensor(value)));
        }
    }
    parts.into_iter().fold(inputs, |inputs, (name, part)| inputs.part(name, part))
}

fn layer(batch: &Value) -> Result<Layer> {
    let log = |name: &str| Tensor::new(batch[name].as_f64().unwrap(), device());
    Ok(Layer {
        activity: Leaf::new(log("activity")?)?,
        penalty_loss: Leaf::new(log("penalty_loss")?)?,
        share: Leaf::new(log("share")?)?,
    })
}

fn losses(config: &Value) -> Losses {
    config.as_array().unwrap().iter().fold(Losses::new(), |losses, loss| {
        let (squared, weight) = (text(&loss[1]) == "squared", loss[2].as_f64().unwrap());
        let function = move |preds: &Tensor, target: &Tensor| {
            let error = (preds - target)?;
            Ok((if squared { error.sqr()? } else { error.abs()? } * weight)?)
        };
        match loss[3].as_str() {
            Some(part) => losses.add_on(part, text(&loss[0]), function),
            None => losses.add(text(&loss[0]), function),
        }
    })
}

/// treex adds up in f32.
fn assert_close(got: &Said, want: &Value, what: &str) {
    let want = expected(want);
    assert_eq!(got.len(), want.len(), "{what}: {got:?} {want:?}");
    for ((name, got), (expected, want)) in got.iter().zip(&want) {
        assert_eq!(name, expected, "{what}");
        assert!((got - want).abs() <= 1e-6 * want.abs().max(1.), "{what}, {name}: {got} {want}");
    }
}

#[test]
fn batches_and_epochs_as_in_treex() -> Result<()> {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = format!("{}, {}", text(&case["metric"]), text(&case["name"]));
        let mut metric = Any::of(case);
        for round in ["first", "after a reset"] {
            for (batch, value) in
                case["batches"].as_array().unwrap().iter().zip(case["values"].as_array().unwrap())
            {
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
    for case in fixture()["cases"].as_array().unwrap() {
        let mut merged = Any::of(case);
        for batch in case["batches"].as_array().unwrap().iter().rev() {
            let mut part = Any::of(case);
            part.call(batch)?;
            merged.merge(&part)?;
        }
        assert_close(&merged.compute()?, &case["total"], text(&case["name"]));
        merged.merge(&Any::of(case))?;
        assert_close(&merged.compute()?, &case["total"], text(&case["name"]));
    }
    Ok(())
}

#[test]
fn they_are_trees_of_metric_state() -> Result<()> {
    for case in fixture()["cases"].as_array().unwrap() {
        let mut metric = Any::of(case);
        metric.call(&case["batches"][0])?;
        let snapshot = metric.clone();
        let kinds = metric.kinds();
        assert!(!kinds.is_empty() && kinds.iter().all(|&kind| kind == KindTag::of::<MetricState>()));
        metric.call(&case["batches"][1])?;
        assert_close(&snapshot.compute()?, &case["values"][0], "a clone is a snapshot");
    }
    Ok(())
}

#[test]
fn repeated_names_get_numbers_as_in_treex() {
    for pair in fixture()["names"].as_array().unwrap() {
        let names = |names: &Value| {
            names.as_array().unwrap().iter().map(|name| text(name).to_owned()).collect::<Vec<_>>()
        };
        let metrics =
            names(&pair[0]).into_iter().fold(Metrics::new(), |metrics, name| metrics.add(name, Sum::new()));
        let mut expected = names(&pair[1]);
        expected.sort();
        assert_eq!(metrics.metrics.into_keys().collect::<Vec<_>>(), expected);
    }
}

/// Reports activities under a repeated name.
#[derive(Clone, Debug, TreeObject)]
struct Active {
    linear: Linear,
    activity: Leaf<LossLog>,
    others: BTreeMap<String, Vec<Leaf<LossLog>>>,
}

impl Module for Active {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let y = self.linear.call(x)?;
        self.activity = Leaf::new(y.sum_all()?)?;
        self.others.get_mut("activity").unwrap()[0] = Leaf::new((y.sum_all()? * 2.)?)?;
        Ok(y)
    }
}

fn active() -> Active {
    let others = BTreeMap::from([("activity".to_owned(), vec![Leaf::nothing()])]);
    Active { linear: Linear::new(2, 1).use_bias(false), activity: Leaf::nothing(), others }
}

/// `d/dk (mean((x k - y)²) + 3 Σ x k)`, where the second term is the layer's auxiliary loss.
#[test]
fn gradients_flow_through_losses() -> Result<()> {
    let x = Tensor::new(&[[1f32, 2.], [3., -1.]], device())?;
    let y = Tensor::new(&[[1f32], [-2.]], device())?;
    let mut model = active().init(0, device())?;
    model.linear.kernel.set(Tensor::new(&[[2f32], [1.]], device())?)?;
    let mut both = LossAndLogs::new(Losses::new().add("loss", |p, t| Ok((p - t)?.sqr()?)), Metrics::new());
    for _ in 0..2 {
        let (loss, grads) = model.value_and_grad(Parameter, |model| {
            let inputs = Inputs::new().preds(&model.call(&x)?).target(&y);
            let (loss, logs, _) = both.call(&inputs, model)?;
            assert_eq!(logs.keys().collect::<Vec<_>>(), ["activity_loss", "activity_loss2", "loss", "loss2"]);
            Ok(loss)
        })?;
        // Errors are 3 and 7; activities are 4 and 5.
        assert_eq!(loss.to_scalar::<f32>()?, (9. + 49.) / 2. + 3. * 9.);
        let expected = [3. * 1. + 7. * 3. + 3. * 4., 3. * 2. - 7. * 1. + 3. * 1.];
        assert_eq!(grads.linear.kernel.get()?.flatten_all()?.to_vec1::<f32>()?, expected);
        assert!(!model.activity.get()?.track_op());
    }
    let (mean, losses, _) = both.compute()?;
    assert_eq!((number(&mean), number(&losses["loss"]), number(&losses["loss2"])), (56., 56., 29.));

    let mut inside = Remat::new(model);
    let (_, grads) = inside.value_and_grad(Parameter, |model| {
        let y = model.call(&x)?;
        Ok((y.sum_all()? + AuxLosses::new().call(model)?.0)?)
    })?;
    assert_eq!(grads.module.linear.kernel.get()?.flatten_all()?.to_vec1::<f32>()?, [4., 1.]);
    Ok(())
}

#[test]
fn element_types_and_no_leaves() -> Result<()> {
    let half = Tensor::ones((2, 3), DType::BF16, device())?;
    let inputs = Inputs::new().preds(&half).target(&half);
    let mut losses = Losses::new().add("a", |p, _| Ok(p.clone()));
    assert_eq!(losses.call(&inputs)?.0.dtype(), DType::F32);
    let mut losses = losses.add("b", |p, _| Ok(p.to_dtype(DType::F64)?));
    let (loss, _) = losses.call(&inputs)?;
    assert_eq!((loss.dtype(), number(&loss)), (DType::F64, 2.));
    let mut nothing = LossAndLogs::default();
    let (loss, losses, metrics) = nothing.call(&inputs, &Linear::new(1, 1))?;
    assert_eq!((number(&loss), losses.len(), metrics.len()), (0., 1, 0));
    assert_eq!(number(&nothing.compute()?.0), 0.);
    // Before the first batch, a mean is NaN.
    assert!(number(&Losses::new().add("a", |p, _| Ok(p.clone())).compute()?.0).is_nan());
    Ok(())
}

#[test]
fn errors() -> Result<()> {
    let x = Key::from(0).normal((2, 3), DType::F32)?.to_device(device())?;
    let pair = || Inputs::new().preds(&x).target(&x);
    let mut losses = Losses::new().add("mse", |p, t| Ok((p - t)?.sqr()?)).add("sum", |p, _| Ok(p.sum_all()?));
    let unchanged = format!("{:?}", losses.leaves());
    let weight = Tensor::ones(3, DType::F32, device())?;
    let mut vector = active();
    vector.activity = Leaf::new(&x)?;
    let part = Losses::new().add_on("depth", "mse", |p, t| Ok((p - t)?.sqr()?)).call(&pair());
    for (error, text) in [
        (losses.call(&Inputs::new().preds(&x)).unwrap_err(), "`mse_loss` got no `target`"),
        (
            losses.call(&pair().sample_weight(&weight)).unwrap_err(),
            "`mse_loss` got a `sample_weight` that does not fit its values: expected the first dimensions of [2, 3], \
             or size 1 instead, found [3]",
        ),
        (
            losses.call(&pair().sample_weight(&weight.narrow(0, 0, 2)?)).unwrap_err(),
            "`sum_loss` got a `sample_weight` that does not fit its values: expected the first dimensions of []",
        ),
        (
            losses.merge(&Losses::new().add("mse", |p, _| Ok(p.clone()))).unwrap_err(),
            "two collections of losses that differ cannot be merged: expected [\"mse_loss\", \"sum_loss\"], found \
             [\"mse_loss\"]",
        ),
        (part.unwrap_err(), "there is no part `depth` among the inputs: expected one of []"),
        (On::new("depth", Mse::new()).observe(&pair()).unwrap_err(), "there is no part `depth`"),
        (
            AuxLosses::new().call(&vector).unwrap_err(),
            "the auxiliary loss `activity_loss` is not a scalar: expected shape [], found [2, 3]; reduce it",
        ),
    ] {
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(format!("{:?}", losses.leaves()), unchanged);

    let mut both = LossAndLogs::new(losses, Metrics::new().add("mean", Mean::new()));
    assert!(both.call(&pair(), &active()).unwrap_err().to_string().contains("`Mean` got no `values`"));
    assert_eq!(format!("{:?}", both.losses.leaves()), unchanged);
    assert_eq!(both.filter(Parameter).compute().unwrap_err().kind(), ErrorKind::FilteredOut);
    Ok(())
}
