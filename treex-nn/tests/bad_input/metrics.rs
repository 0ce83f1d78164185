//! Metrics, and what collects them.

use candle_core::Device;
use treex_core::{Leaf, Result, prelude::*};
use treex_nn::Linear;
use treex_nn::metrics::*;
use treex_testing::bad_input::{Cases, NUMBERS, Row, SIZES};

/// All that a metric does with two tensors in every place of its inputs.
fn metric<M: Metric + Clone + 'static>(cases: &mut Cases, label: &str, make: impl Fn() -> M) {
    cases.call(&format!("{label}, of nothing"), || make().compute());
    cases.call(&format!("{label}, shown"), || Ok(make().tabulate()));
    cases.pairs(label, |x, y| {
        let empty = Inputs::new().part("", Inputs::new());
        let of_values = make().call(&empty.clone().values(x).sample_weight(y));
        let of_pair = make().call(&Inputs::new().preds(x).target(y));
        let mut weighted = make();
        let of_weighted = weighted.call(&Inputs::new().preds(x).target(x).sample_weight(y));
        let other = weighted.clone();
        let merged = weighted.merge(&other).and_then(|()| weighted.reset());
        first_without_a_remedy([of_values.map(drop), of_pair.map(drop), of_weighted.map(drop), merged])
    });
}

/// An error that does not help, if there is one; otherwise the last.
fn first_without_a_remedy<const N: usize>(results: [Result<()>; N]) -> Result<()> {
    let (mut helps, mut does_not) = (Ok(()), None);
    for error in results.into_iter().filter_map(Result::err) {
        if error.remedy_text().or(error.expected_text()).is_some() {
            helps = Err(error);
        } else {
            does_not.get_or_insert(error);
        }
    }
    does_not.map_or(helps, Err)
}

pub(crate) fn rows() -> Vec<Row> {
    const ACCURACY: &str = "metrics::accuracy::Accuracy binary multiclass multilabel threshold average top_k \
                            ignore_index subset_accuracy";
    vec![
        Row::new(ACCURACY, |cases| {
            metric(cases, "binary", Accuracy::binary);
            for number in NUMBERS {
                metric(cases, &format!("binary, {number}"), || Accuracy::binary().threshold(number));
            }
            for classes in SIZES {
                metric(cases, &format!("multiclass {classes}"), || Accuracy::multiclass(classes));
                metric(cases, &format!("multilabel {classes}"), || Accuracy::multilabel(classes));
                metric(cases, &format!("top {classes}"), || Accuracy::multiclass(6).top_k(classes));
            }
            for index in [i64::MIN, -1, 0, 5, i64::MAX] {
                metric(cases, &format!("without {index}"), || Accuracy::multiclass(6).ignore_index(index));
            }
            for average in [Average::Micro, Average::Macro, Average::Weighted] {
                metric(cases, &format!("{average:?}"), || Accuracy::multiclass(6).average(average));
                let make = || Accuracy::multilabel(6).average(average).subset_accuracy(true);
                metric(cases, &format!("{average:?} of subsets"), make);
            }
        }),
        Row::new("metrics::error new", |cases| {
            metric(cases, "absolute", MeanAbsoluteError::new);
            metric(cases, "squared", MeanSquaredError::new);
        }),
        Row::new("metrics::reduce::Mean new sum_over_batch_size", |cases| {
            metric(cases, "mean", Mean::new);
            metric(cases, "over the batch", || Mean::new().sum_over_batch_size(true));
        }),
        Row::new("metrics::reduce::Sum new", |cases| metric(cases, "sum", Sum::new)),
        Row::new("metrics::on::On new", |cases| metric(cases, "on", || On::new("", Mean::new()))),
        Row::new("metrics::metric::Metric observe compute reset merge call", |cases| {
            metric(cases, "mean", Mean::new);
            cases.call("another metric", || Mean::new().merge(&Sum::new()));
        }),
        Row::new("metrics::inputs::Inputs new values preds target sample_weight part", |cases| {
            metric(cases, "mean", Mean::new);
            cases.pairs("parts", |x, y| {
                let part = |name: &str| Inputs::new().part(name, Inputs::new().preds(x).target(y));
                On::new("a", MeanSquaredError::new()).call(&part("b"))
            });
        }),
        Row::new("metrics::collection::Metrics new add observe compute call reset merge", |cases| {
            cases.call("empty", || Metrics::new().compute());
            cases.pairs("two", |x, y| {
                let mut metrics = Metrics::new().add("", Mean::new()).add("", MeanSquaredError::new());
                let inputs = Inputs::new().values(x).preds(x).target(y);
                let called = metrics.call(&inputs);
                let observed = metrics.observe(&inputs);
                let merged = metrics.merge(&Metrics::new().add("other", Sum::new()));
                first_without_a_remedy([called.map(drop), observed, merged, metrics.reset()])
            });
        }),
        Row::new("metrics::losses::Losses new add add_on call compute reset merge", |cases| {
            cases.call("empty", || Losses::new().compute());
            cases.call("empty, called", || Losses::new().call(&Inputs::new()));
            cases.pairs("two", |x, y| {
                let mut losses =
                    Losses::new().add("a", |x, _| Ok(x.clone())).add_on("part", "b", |x, _| Ok(x.clone()));
                let inputs = Inputs::new().preds(x).target(y);
                let called = losses.call(&inputs.clone());
                let parts = losses.call(&inputs.clone().part("part", inputs));
                let merged = losses.merge(&Losses::new());
                first_without_a_remedy([called.map(drop), parts.map(drop), merged, losses.reset()])
            });
        }),
        Row::new("metrics::auxiliary::AuxLosses new call compute", |cases| {
            let model = Linear::new(6, 4).init(0, &Device::Cpu).unwrap();
            cases.call("none", || AuxLosses::new().call(&model));
            cases.call("none, computed", || AuxLosses::new().compute());
            cases.tensors("a loss", |x| Ok(AuxLosses::new().call(&Leaf::<LossLog>::new(x)?)?.0));
        }),
        Row::new("metrics::auxiliary::AuxMetrics new call compute", |cases| {
            cases.call("none", || AuxMetrics::new().compute());
            cases.tensors("a metric", |x| {
                AuxMetrics::new().call(&Leaf::<MetricLog>::new(x)?)?;
                Ok(x.clone())
            });
        }),
        Row::new("metrics::auxiliary reset merge", |cases| {
            cases.tensors("losses", |x| {
                let mut losses = AuxLosses::new();
                losses.call(&Leaf::<LossLog>::new(x)?)?;
                let other = losses.clone();
                losses.merge(&other)?;
                losses.merge(&AuxLosses::new())?;
                losses.reset()?;
                Ok(x.clone())
            });
        }),
        Row::new(
            "metrics::loss_and_logs::LossAndLogs new call compute batch_loss_epoch_logs reset merge",
            |cases| {
                let model = Linear::new(6, 4).init(0, &Device::Cpu).unwrap();
                cases.call("empty", || LossAndLogs::new(Losses::new(), Metrics::new()).compute());
                cases.pairs("both", |x, y| {
                    let losses = Losses::new().add("a", |x, _| Ok(x.clone()));
                    let mut all = LossAndLogs::new(losses, Metrics::new().add("b", MeanSquaredError::new()));
                    let inputs = Inputs::new().preds(x).target(y);
                    let called = all.call(&inputs, &model);
                    let logged = all.batch_loss_epoch_logs(&inputs, &model);
                    let other = all.clone();
                    let merged = all.merge(&other);
                    first_without_a_remedy([called.map(drop), logged.map(drop), merged, all.reset()])
                });
            },
        ),
    ]
}
