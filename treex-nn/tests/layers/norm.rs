//! Normalizations.

use std::sync::{Arc, Barrier, Mutex};

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, prelude::*};
use treex_nn::{
    BatchNorm, Conv, GroupNorm, InstanceNorm, LayerNorm, Linear, RmsNorm, SpectralNorm, WeightNorm,
};
use treex_testing::device;

use crate::case::{Case, Subject, assert_close, module, subject};

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/norm.json");
pub(crate) const LAYERS: &[&str] =
    &["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm", "SpectralNorm", "WeightNorm"];

/// `configured!(norm, case, epsilon f64, use_bias bool)` sets options by name.
macro_rules! configured {
    ($norm:expr, $case:ident $(, $option:ident $type:ident)*) => {
        $norm$(.$option($case.$type(stringify!($option))))*
    };
}

/// The same, reduced over the axes of the case; a second input is the mask.
macro_rules! masked {
    ($norm:expr, $case:ident) => {{
        let norm = match $case.config("reduction_axes") {
            Value::Null => $norm,
            reduced => $norm.reduction_axes(axes(reduced)),
        };
        subject(norm, |norm, inputs| Ok(vec![norm.call_with(&inputs[0], inputs.get(1))?]))
    }};
}

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    let features = || case.sizes("features");
    match case.layer.as_str() {
        "BatchNorm" => {
            let norm = BatchNorm::new(features()).axis(axes(case.config("axis")));
            let norm = configured!(norm, case, momentum f64, epsilon f64, use_scale bool, use_bias bool, use_fast_variance bool);
            subject(in_mode(case, norm), |norm, inputs| Ok(vec![norm.call_with(&inputs[0], inputs.get(1))?]))
        }
        "LayerNorm" => {
            let norm = LayerNorm::new(features()).feature_axes(axes(case.config("feature_axes")));
            masked!(
                configured!(norm, case, epsilon f64, use_scale bool, use_bias bool, use_fast_variance bool),
                case
            )
        }
        "RMSNorm" => {
            let norm = RmsNorm::new(features()).feature_axes(axes(case.config("feature_axes")));
            masked!(configured!(norm, case, epsilon f64, use_scale bool), case)
        }
        "InstanceNorm" => {
            let norm = InstanceNorm::new(features()).feature_axes(axes(case.config("feature_axes")));
            let norm =
                configured!(norm, case, epsilon f64, use_scale bool, use_bias bool, use_fast_variance bool);
            subject(norm, |norm, inputs| Ok(vec![norm.call_with(&inputs[0], inputs.get(1))?]))
        }
        "GroupNorm" => {
            let norm = GroupNorm::new(features()[0]);
            let norm = match (case.config("num_groups").as_u64(), case.config("group_size").as_u64()) {
                (_, Some(size)) => norm.group_size(size as usize),
                (Some(number), None) => norm.num_groups(number as usize),
                (None, None) => norm,
            };
            masked!(
                configured!(norm, case, epsilon f64, use_scale bool, use_bias bool, use_fast_variance bool),
                case
            )
        }
        "SpectralNorm" => match case.config("inside").as_str() {
            Some("Linear") => module(spectral_norm(case, linear(case))),
            _ => module(spectral_norm(case, conv(case))),
        },
        "WeightNorm" => match case.config("inside").as_str() {
            Some("Linear") => module(weight_norm(case, linear(case))),
            _ => module(weight_norm(case, conv(case))),
        },
        other => panic!("no layer {other}"),
    }
}

fn axes(value: &Value) -> Vec<isize> {
    value.as_array().unwrap().iter().map(|axis| axis.as_i64().unwrap() as isize).collect()
}

fn in_mode<M: Tree>(case: &Case, mut layer: M) -> M {
    if !case.bool("train") {
        layer.eval();
    }
    layer
}

fn linear(case: &Case) -> Linear {
    Linear::new(case.usize("in"), case.usize("features"))
}

fn conv(case: &Case) -> Conv {
    Conv::new(case.usize("in"), case.usize("features"), case.sizes("kernel_size"))
}

fn spectral_norm<M: Tree>(case: &Case, layer: M) -> SpectralNorm<M> {
    let norm = SpectralNorm::new(layer).n_steps(case.usize("n_steps")).epsilon(case.f64("epsilon"));
    in_mode(case, norm)
}

fn weight_norm<M: Tree>(case: &Case, layer: M) -> WeightNorm<M> {
    let names = case.config("variable_filter").as_array().unwrap();
    WeightNorm::new(layer)
        .feature_axes(axes(case.config("feature_axes")))
        .epsilon(case.f64("epsilon"))
        .use_scale(case.bool("use_scale"))
        .variable_filter(names.iter().map(|name| name.as_str().unwrap()))
}

/// A wrapper around a layer in a model, named as in the fixture.
#[derive(Clone, Debug, TreeObject)]
struct Model<M> {
    layer: M,
}

#[test]
fn layers_around_a_layer_are_initialized_as_in_flax() -> Result<()> {
    fn check(case: &Case, layer: impl Tree) -> Result<()> {
        let layer = layer.init_linen(42, device())?;
        let want = case.map("params").into_iter().chain(case.map("state"));
        let want: std::collections::BTreeMap<_, _> = want.collect();
        assert_eq!(layer.leaves().len(), want.len(), "{}", case.name);
        for (path, _, leaf) in layer.leaves() {
            let name = format!("{} `{path}`", case.name);
            assert_close(leaf.value().unwrap(), &want[&path.to_string()], 1e-6, &name);
        }
        Ok(())
    }
    let normal = treex_nn::initializers::normal(1.);
    for case in Case::all(include_str!("../fixtures/layers/norm_init.json")) {
        let (spectral, weight) = (SpectralNorm::new(Linear::new(3, 4)), WeightNorm::new(Linear::new(3, 4)));
        match case.name.as_str() {
            "SpectralNorm: training" => {
                check(&case, spectral)?;
                let learned = SpectralNorm::new(Linear::lazy(4));
                check(&case, learned.inferred(&Tensor::ones((2, 3), DType::F32, device())?)?)?;
            }
            "SpectralNorm: evaluation" => check(&case, spectral.into_eval())?,
            "SpectralNorm: in a model" => check(&case, Model { layer: spectral.n_steps(2) })?,
            "WeightNorm: normal scales" => {
                check(&case, weight.scale_init(normal.clone()))?;
                let learned = WeightNorm::new(Linear::lazy(4)).scale_init(normal.clone());
                check(&case, learned.inferred(&Tensor::ones((2, 3), DType::F32, device())?)?)?;
            }
            "WeightNorm: all" => {
                check(&case, weight.variable_filter([""; 0]).scale_init(normal.clone()))?;
            }
            other => panic!("no case {other}"),
        }
    }
    Ok(())
}

/// The average over two threads that each call this once a turn, as ranks would.
#[derive(Clone)]
struct Ranks(Arc<(Mutex<Vec<Tensor>>, Barrier)>);

impl Ranks {
    fn two() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), Barrier::new(2))))
    }

    fn pmean(&self, x: &Tensor) -> Result<Tensor> {
        let (tensors, barrier) = &*self.0;
        tensors.lock().unwrap().push(x.clone());
        barrier.wait();
        let all = tensors.lock().unwrap().clone();
        if barrier.wait().is_leader() {
            tensors.lock().unwrap().clear();
        }
        barrier.wait();
        Ok((((&all[0] + &all[1])?) / 2.)?)
    }
}

/// Two ranks with half of the batch each equal one rank with the whole: outputs, gradients, statistics.
#[test]
fn statistics_over_ranks() -> Result<()> {
    fn check<M: Module + treex_core::Aux + Clone + 'static>(
        make: impl Fn() -> M,
        with_ranks: impl Fn(M, Ranks) -> M,
    ) -> Result<()> {
        let x = treex_core::Key::from(3).normal((6, 5), DType::F64)?.to_device(device())?;
        let cotangent = treex_core::Key::from(4).normal((6, 5), DType::F64)?.to_device(device())?;
        let model = |layer: M| -> Result<_> {
            let mut layer = layer.init(0, device())?;
            layer = layer.into_dtype(DType::F64)?;
            Ok((layer, Leaf::<Parameter>::new(&x)?))
        };

        let mut alone = model(make())?;
        let ((_, y), grads) = alone.value_and_grad_aux(Parameter, |(layer, x)| {
            let y = layer.call(&x.get()?)?;
            Ok(((&y * &cotangent)?.sum_all()?, y))
        })?;

        let mut ranks = model(with_ranks(make(), Ranks::two()))?;
        let ((_, (parts, second)), grads_of_ranks) = ranks.value_and_grad_aux(Parameter, |(layer, x)| {
            // The second rank has the same parameters, and its own state.
            let (x, mut second) = (x.get()?, layer.clone());
            let (first, other) = (x.narrow(0, 0, 3)?, x.narrow(0, 3, 3)?);
            let (y, z, second) = std::thread::scope(|scope| -> Result<_> {
                let rank = scope.spawn(|| {
                    device(); // whose context this thread needs
                    second.call(&other)
                });
                let y = layer.call(&first)?;
                Ok((y, rank.join().unwrap()?, ()))
            })
            .map(|(y, z, ())| (y, z, second))?;
            let parts = Tensor::cat(&[y, z], 0)?;
            Ok(((&parts * &cotangent)?.sum_all()?, (parts, second)))
        })?;
        assert_close(&parts, &y, 1e-12, "outputs of ranks");
        let all = alone
            .leaves()
            .into_iter()
            .zip(ranks.leaves())
            .chain(grads.leaves().into_iter().zip(grads_of_ranks.leaves()));
        for ((path, _, a), (_, _, b)) in all {
            assert_close(b.value().unwrap(), a.value().unwrap(), 1e-12, &format!("`{path}` of ranks"));
        }
        for ((path, _, a), (_, _, b)) in alone.0.leaves().into_iter().zip(second.leaves()) {
            assert_close(
                b.value().unwrap(),
                a.value().unwrap(),
                1e-12,
                &format!("`{path}` of the second rank"),
            );
        }
        Ok(())
    }
    for fast in [true, false] {
        check(
            || BatchNorm::new(5).use_fast_variance(fast),
            |norm, ranks| norm.pmean(move |x| ranks.pmean(x)),
        )?;
        // Over samples, so that the average over ranks matters.
        check(
            || LayerNorm::new(5).reduction_axes([0, 1]).use_fast_variance(fast),
            |norm, ranks| norm.pmean(move |x| ranks.pmean(x)),
        )?;
        check(
            || GroupNorm::new(5).num_groups(5).reduction_axes([0, 1]).use_fast_variance(fast),
            |norm, ranks| norm.pmean(move |x| ranks.pmean(x)),
        )?;
    }
    check(|| RmsNorm::new(5).reduction_axes(0), |norm, ranks| norm.pmean(move |x| ranks.pmean(x)))
}
